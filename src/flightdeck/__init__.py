"""Flightdeck: takes a model from a notebook to a governed production release and keeps it healthy there."""
