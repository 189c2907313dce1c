"""Paired, repeatable measurements; each prints one JSON line last."""
