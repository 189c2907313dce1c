"""Tests of pipelines.release."""
