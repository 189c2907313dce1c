"""Tests of flightdeck.notebooks."""
