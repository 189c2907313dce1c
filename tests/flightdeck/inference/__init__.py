"""The engine from bundle to answer."""
