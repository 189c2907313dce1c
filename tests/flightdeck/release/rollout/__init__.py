"""Tests of the controller of a rollout."""
