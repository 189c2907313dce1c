"""Wiring of inference: recorded rows -> column functions -> the released model's answers.

The nodes tagged `request_time` are those of the feature pipeline; sealing traces the same ones into a bundle's graphs
(`flightdeck.inference.tracing`), which is what a server runs: nothing of Kedro.
"""

from kedro.pipeline import Pipeline, pipeline

from pipelines.features.column_nodes import column_nodes
from pipelines.features.model_input import COMPUTED
from pipelines.features.training_frame import COLUMN_INPUTS
from pipelines.inference import batch
from pipelines.wiring import step

SETTINGS = "params:inference"


def create_pipeline() -> Pipeline:
    """Return the inference pipeline: batch scoring around the column functions."""
    return pipeline(
        [
            step(batch.select_rows, ["model_inputs", SETTINGS], ["batch_rows", *COLUMN_INPUTS]),
            *column_nodes(),
            step(batch.assemble_numeric, ["batch_rows", *COMPUTED], "batch_numeric"),
            step(
                batch.score_rows,
                ["batch_rows", "batch_numeric", "released_bundles", SETTINGS],
                "batch_predictions",
            ),
        ]
    )
