"""Watching the released model: labels, quality, drift, skew, freshness and alerts of the use case."""
