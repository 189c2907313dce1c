"""Tests of flightdeck.lineage."""
