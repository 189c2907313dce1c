"""Tests of the import rules."""
