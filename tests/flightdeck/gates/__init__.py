"""Tests of flightdeck.gates."""
