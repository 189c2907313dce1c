"""Wiring of the features: entity frame -> windowed features -> request-time features -> training set."""

from kedro.pipeline import Pipeline, pipeline

from pipelines.features import training_frame
from pipelines.features.column_nodes import column_nodes
from pipelines.features.model_input import COMPUTED
from pipelines.wiring import step

STREAMS = ("scheduled", "departed", "arrived", "cancelled", "weather_observed")
EVENTS = tuple(f"{stream}_events" for stream in STREAMS)


def create_pipeline() -> Pipeline:
    """Return the feature pipeline; its column nodes are those of the inference pipeline."""
    return pipeline(
        [
            step(
                training_frame.build_entity_frame,
                ["scheduled_events", "arrived_events", "params:features"],
                "entity_frame",
            ),
            step(
                training_frame.join_windowed_features,
                ["entity_frame", "params:features", *EVENTS],
                "windowed_features",
            ),
            step(
                training_frame.split_columns,
                ["entity_frame", "windowed_features"],
                list(training_frame.COLUMN_INPUTS),
            ),
            *column_nodes(),
            step(training_frame.assemble, ["entity_frame", "windowed_features", *COMPUTED], "training_set"),
            step(training_frame.keep_inputs, ["entity_frame", "windowed_features"], "model_inputs"),
            step(training_frame.describe_data_versions, list(EVENTS), "data_versions"),
        ]
    )
