"""Notebooks and the package in step: promote a cell to a node, find logic that lives twice."""
