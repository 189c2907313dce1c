"""Wiring of inference: request columns and windowed features in, request-time features out.

The server compiles these nodes into a straight-line plan (`flightdeck.inference.plan`); nothing of Kedro runs there.
"""

from kedro.pipeline import Pipeline, pipeline

from pipelines.features.column_nodes import column_nodes


def create_pipeline() -> Pipeline:
    """Return the inference pipeline; its free inputs are request columns and columns of feature views."""
    return pipeline(column_nodes())
