"""Tests of flightdeck.release."""
