"""Tests of the monitoring pipeline."""
