"""Predictions of a candidate on the test set, their quality, and the reference that monitoring compares with. Pure."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from flightdeck.gates.metrics import brier, calibration_error, log_losses, roc_auc
from flightdeck.inference.rules import read_rules
from pipelines.features.model_input import CATEGORICAL, NUMERIC, REQUEST_COLUMNS
from pipelines.features.views import VIEW_COLUMNS
from pipelines.training.exporting import score_inputs
from pipelines.training.nodes import Parts


def score_test_set(
    training_set: pd.DataFrame,
    model_inputs: pd.DataFrame,
    part: Parts,
    challenger_onnx: bytes,
    fallback_onnx: bytes,
    rules: Mapping[str, Any],
) -> pd.DataFrame:
    """Return the test rows with the probability of each rung of the ladder, as the bundle's files compute it."""
    test = training_set[part == "test"].reset_index(drop=True)
    inputs = model_inputs[part == "test"]
    return pd.DataFrame(
        {
            "flight_id": test["flight_id"],
            **{name: test[name] for name in CATEGORICAL},
            "request_timestamp": pd.to_datetime(test["request_us"], unit="us", utc=True),
            "horizon_min": test["horizon"].astype("int64"),
            "label": test["label"].astype("int64"),
            "probability": score_inputs(challenger_onnx, inputs).probability,
            "fallback_probability": score_inputs(fallback_onnx, inputs).probability,
            "rule_probability": read_rules(rules).score({name: inputs[name].to_numpy() for name in REQUEST_COLUMNS}),
        }
    )


def measure(predictions: pd.DataFrame) -> dict[str, float]:
    """Return the quality on the test set: overall and by horizon, of the challenger, the fallback and the rules."""
    metrics = _quality(predictions["label"], predictions["probability"], "")
    for horizon, rows in predictions.groupby("horizon_min"):
        metrics |= _quality(rows["label"], rows["probability"], f"_{horizon}")
    for rung in ("fallback", "rule"):
        metrics |= _quality(predictions["label"], predictions[f"{rung}_probability"], f"_{rung}")
    return metrics


def as_mlflow_metrics(metrics: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Return metrics in the form that MLflow's dataset takes: a value and a step each."""
    return {name: {"value": value, "step": 0} for name, value in metrics.items()}


def sample_reference(
    training_set: pd.DataFrame,
    model_inputs: pd.DataFrame,
    part: Parts,
    challenger_onnx: bytes,
    settings: Mapping[str, Any],
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return at most `reference_rows` training rows twice: as the model read them, and as a server would be given them.

    Both hold the model's `probability`; the first has `request_timestamp`, which tells the day.
    """
    train = training_set[part == "train"]
    n_rows = min(int(settings["reference_rows"]), len(train))
    sample = train.sample(n_rows, random_state=int(settings["seed"])).sort_index()
    inputs: pd.DataFrame = model_inputs.loc[sample.index, [*REQUEST_COLUMNS, *VIEW_COLUMNS]].reset_index(drop=True)
    sample = sample.reset_index(drop=True)
    probability = score_inputs(challenger_onnx, inputs).probability
    features: pd.DataFrame = sample[[*CATEGORICAL, *NUMERIC]]
    at = pd.to_datetime(sample["request_us"], unit="us", utc=True)
    return features.assign(request_timestamp=at, probability=probability), inputs.assign(probability=probability)


def summarise_days(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return the quality of each test day: the blocks from which monitoring resamples its thresholds."""
    day = predictions["flight_id"].str[:10]
    rows = [
        {
            "day": name,
            "n": len(group),
            "positive_rate": float(group["label"].mean()),
            "mean_probability": float(group["probability"].mean()),
            **{key: value for key, value in _quality(group["label"], group["probability"], "").items() if key != "ece"},
        }
        for name, group in predictions.groupby(day)
    ]
    return pd.DataFrame(rows)


def _quality(label: "pd.Series[int]", probability: "pd.Series[float]", suffix: str) -> dict[str, float]:
    y, p = np.asarray(label, dtype=np.int64), np.asarray(probability, dtype=np.float64)
    return {
        f"auc{suffix}": roc_auc(y, p),
        f"log_loss{suffix}": float(log_losses(y, p).mean()),
        f"brier{suffix}": brier(y, p),
        f"ece{suffix}": calibration_error(y, p),
    }
