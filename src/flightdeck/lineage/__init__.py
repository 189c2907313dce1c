"""Lineage: which source, code and features a model version comes from, and what was decided about it."""
