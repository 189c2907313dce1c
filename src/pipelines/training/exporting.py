"""From fitted models to the graphs that serve: exported, joined with the traced column functions, compared. Pure."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.pipeline import Pipeline

from flightdeck.core.errors import ContractViolation
from flightdeck.inference.export import export_onnx, predict_onnx, refuse_different, refuse_different_features
from flightdeck.inference.graph import join_graphs
from flightdeck.inference.onnx_model import Scores
from flightdeck.inference.tracing import trace_columns
from pipelines.features.model_input import CATEGORICAL, FALLBACK_NUMERIC, NUMERIC, REQUEST_COLUMNS
from pipelines.features.views import VIEW_COLUMNS
from pipelines.inference.pipeline import create_pipeline
from pipelines.training.nodes import Parts, model_rows


def export_challenger(model: Pipeline) -> bytes:
    """Return the challenger as a graph from request columns and views to `probabilities` and `numeric`."""
    return _export(model, NUMERIC, VIEW_COLUMNS, "model")


def export_fallback(model: Pipeline) -> bytes:
    """Return the fallback model as a graph from request columns alone."""
    return _export(model, FALLBACK_NUMERIC, (), "fallback")


def compare_export(
    training_set: pd.DataFrame,
    model_inputs: pd.DataFrame,
    part: Parts,
    challenger: Pipeline,
    fallback: Pipeline,
    challenger_onnx: bytes,
    fallback_onnx: bytes,
    settings: Mapping[str, Any],
) -> dict[str, float]:
    """Compare features and predictions of the graphs with those of the original code, on the whole test set.

    Returns
    -------
    dict
        Largest difference of the probabilities of `model` and `fallback`; `model_values` and `fallback_values`: how
        many feature values are not the same bits.

    Raises
    ------
    ContractViolation
        If a probability differs by more than `onnx_max_difference` on any row, a feature by more than 1e-6, or the two
        frames are not about the same rows.
    """
    _require_same_rows(training_set, model_inputs)
    test, inputs = training_set[part == "test"], model_inputs[part == "test"]
    limit = float(settings["onnx_max_difference"])
    found: dict[str, float] = {}
    for name, model, content, numeric in (
        ("model", challenger, challenger_onnx, NUMERIC),
        ("fallback", fallback, fallback_onnx, FALLBACK_NUMERIC),
    ):
        scores = score_inputs(content, inputs)
        original = test[list(numeric)].to_numpy(np.float32)
        found[f"{name}_values"] = refuse_different_features(name, numeric, original, scores.numeric)
        found[name] = refuse_different(
            name, predict_probability(model, model_rows(test, numeric)), scores.probability, limit
        )
    return found


def score_inputs(content: bytes, inputs: pd.DataFrame) -> Scores:
    """Return what a graph answers for rows of `model_inputs`, as the server computes it."""
    request = {name: inputs[name].to_numpy() for name in REQUEST_COLUMNS}
    return predict_onnx(content, request, inputs[list(VIEW_COLUMNS)].to_numpy(np.float64))


def predict_probability(model: Pipeline, rows: pd.DataFrame) -> npt.NDArray[np.float64]:
    """Return what a fitted model, not yet exported, gives for rows of `model_rows`, shape `(n_rows,)`."""
    return np.asarray(model.predict_proba(rows)[:, 1], dtype=np.float64)


def _export(model: Pipeline, numeric: tuple[str, ...], view_columns: tuple[str, ...], name: str) -> bytes:
    nodes = create_pipeline().nodes
    features = trace_columns(nodes, request=REQUEST_COLUMNS, view_columns=view_columns, numeric=numeric)
    core = export_onnx(model, categorical=CATEGORICAL, n_numeric=len(numeric), name=name)
    return join_graphs(features, core, categorical=CATEGORICAL)


def _require_same_rows(training_set: pd.DataFrame, model_inputs: pd.DataFrame) -> None:
    keys = ["flight_id", "horizon", "request_us"]
    if not training_set[keys].equals(model_inputs[keys]):
        raise ContractViolation(
            f"comparing exports: training_set ({len(training_set):,} rows) and model_inputs ({len(model_inputs):,} "
            "rows) are not about the same requests",
            next_step="make both again: kedro run --pipelines features",
        )
