"""Wiring of training: training set -> models -> export and comparison -> scores, second seed -> draft bundle."""

from kedro.pipeline import Pipeline, pipeline

from pipelines.training import exporting, nodes, packing, scoring, second_seed
from pipelines.wiring import step

SETTINGS = "params:training"


def create_pipeline() -> Pipeline:
    """Return the training pipeline."""
    return pipeline(
        [
            step(nodes.split_by_time, ["training_set", SETTINGS], "part"),
            step(nodes.fit_challenger, ["training_set", "part", SETTINGS], "challenger"),
            step(nodes.fit_fallback, ["training_set", "part", SETTINGS], "fallback_model"),
            step(nodes.fit_rules, ["training_set", "model_inputs", "part", SETTINGS], "rules"),
            step(nodes.list_categories, ["training_set", "part"], "categories"),
            step(exporting.export_challenger, "challenger", "challenger_onnx"),
            step(exporting.export_fallback, "fallback_model", "fallback_onnx"),
            step(
                exporting.compare_export,
                [
                    "training_set",
                    "model_inputs",
                    "part",
                    "challenger",
                    "fallback_model",
                    "challenger_onnx",
                    "fallback_onnx",
                    SETTINGS,
                ],
                "onnx_difference",
            ),
            step(
                scoring.score_test_set,
                ["training_set", "model_inputs", "part", "challenger_onnx", "fallback_onnx", "rules"],
                "test_predictions",
            ),
            step(scoring.measure, "test_predictions", "metrics"),
            step(scoring.as_mlflow_metrics, "metrics", "training_metrics"),
            step(
                scoring.sample_reference,
                ["training_set", "model_inputs", "part", "challenger_onnx", SETTINGS],
                ["reference", "reference_inputs"],
            ),
            step(second_seed.find_gates, "params:release", "gates"),
            step(
                second_seed.compare_seeds,
                ["training_set", "part", "challenger", SETTINGS, "gates"],
                "stability",
            ),
            step(scoring.summarise_days, "test_predictions", "reference_days"),
            step(
                packing.describe_training,
                [
                    "challenger_onnx",
                    "data_versions",
                    "code_version",
                    "metrics",
                    "onnx_difference",
                    "surfaces",
                    SETTINGS,
                    "training_set",
                    "params:features",
                    "stability",
                ],
                "training_record",
            ),
            step(
                packing.pack,
                [
                    "challenger_onnx",
                    "fallback_onnx",
                    "rules",
                    "training_record",
                    "reference",
                    "reference_inputs",
                    "reference_days",
                    "test_predictions",
                    "categories",
                    "surfaces",
                    "serving_contract",
                    "serving_runbook",
                ],
                "draft_bundle",
            ),
        ]
    )
