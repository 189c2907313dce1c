"""Tests of flightdeck.cli."""
