"""Tests of flightdeck.contracts."""
