"""Tests of the canary judge."""
