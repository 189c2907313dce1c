"""Wiring of training: training set -> models -> export and comparison -> scores -> draft bundle."""

from kedro.pipeline import Pipeline, node, pipeline

from pipelines.training import nodes, packing, scoring

SETTINGS = "params:training"


def create_pipeline() -> Pipeline:
    """Return the training pipeline."""
    return pipeline(
        [
            node(nodes.split_by_time, ["training_set", SETTINGS], "part"),
            node(nodes.fit_challenger, ["training_set", "part", SETTINGS], "challenger"),
            node(nodes.fit_fallback, ["training_set", "part", SETTINGS], "fallback_model"),
            node(nodes.fit_rules, ["training_set", "part", SETTINGS], "rules"),
            node(nodes.export_challenger, "challenger", "challenger_onnx"),
            node(nodes.export_fallback, "fallback_model", "fallback_onnx"),
            node(
                nodes.compare_export,
                ["training_set", "part", "challenger", "fallback_model", "challenger_onnx", "fallback_onnx", SETTINGS],
                "onnx_difference",
            ),
            node(
                scoring.score_test_set,
                ["training_set", "part", "challenger_onnx", "fallback_onnx", "rules"],
                "test_predictions",
            ),
            node(scoring.measure, "test_predictions", "metrics"),
            node(scoring.as_mlflow_metrics, "metrics", "training_metrics"),
            node(scoring.sample_reference, ["training_set", "part", "challenger_onnx", SETTINGS], "reference"),
            node(scoring.summarise_days, "test_predictions", "reference_days"),
            node(
                packing.describe_training,
                [
                    "challenger_onnx",
                    "data_versions",
                    "code_version",
                    "metrics",
                    "onnx_difference",
                    "surfaces",
                    SETTINGS,
                ],
                "training_record",
            ),
            node(
                packing.pack,
                [
                    "challenger_onnx",
                    "fallback_onnx",
                    "rules",
                    "training_record",
                    "reference",
                    "reference_days",
                    "test_predictions",
                    "surfaces",
                    "serving_contract",
                    "serving_runbook",
                ],
                "draft_bundle",
            ),
        ]
    )
