"""Packing a candidate: the files of the draft bundle, each as bytes. Pure."""

import io
from collections.abc import Mapping
from typing import Any

import pandas as pd

from flightdeck.core.identifiers import canonical_json, digest_bytes, fingerprint
from flightdeck.inference.surfaces import sealed_surfaces
from pipelines.features.model_input import CATEGORICAL, COLUMN_FUNCTIONS, FALLBACK_NUMERIC, NUMERIC
from pipelines.features.rebuild import describe_training_set
from pipelines.features.views import VIEW_COLUMNS, VIEWS


def describe_features() -> dict[str, Any]:
    """Return what the models read: columns in model order, views as declared, columns of the input `views`."""
    return {
        "categorical": list(CATEGORICAL),
        "numeric": list(NUMERIC),
        "fallback_numeric": list(FALLBACK_NUMERIC),
        "views": {view.name: view.digest for view in VIEWS},
        "declarations": [view.as_json() for view in VIEWS],
        "view_columns": list(VIEW_COLUMNS),
    }


def describe_training(
    challenger_onnx: bytes,
    data_versions: Mapping[str, Any],
    code_version: Mapping[str, str],
    metrics: Mapping[str, float],
    onnx_difference: Mapping[str, float],
    surfaces: Mapping[str, Any],
    settings: Mapping[str, Any],
    training_set: pd.DataFrame,
    feature_settings: Mapping[str, Any],
    stability: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the provenance of the candidate: everything that is needed to make it again.

    `stability` is there only where a second seed was tried (`second_seed.compare_seeds`).
    """
    return {
        "seed": settings["seed"],
        "data_versions": dict(data_versions),
        "training_set": describe_training_set(training_set, feature_settings),
        "views": {view.name: view.digest for view in VIEWS},
        "view_sources": {view.name: list(view.sources) for view in VIEWS},
        "nodes": {function.name: fingerprint(function.function) for function in COLUMN_FUNCTIONS},
        **code_version,
        "model_digest": digest_bytes(challenger_onnx),
        "splits": {key: str(settings[key]) for key in ("train_until", "validate_until")},
        "hyperparameters": {key: dict(settings[key]) for key in ("challenger", "fallback")},
        "metrics": {key: (value if value == value else None) for key, value in metrics.items()},
        "onnx_max_difference": max(onnx_difference["model"], onnx_difference["fallback"]),
        "n_values_traced_otherwise": int(onnx_difference["model_values"] + onnx_difference["fallback_values"]),
        "thresholds": sealed_surfaces(surfaces),
        **({"stability": dict(stability)} if stability else {}),
    }


def pack(
    challenger_onnx: bytes,
    fallback_onnx: bytes,
    rules: Mapping[str, Any],
    training: Mapping[str, Any],
    reference: pd.DataFrame,
    reference_inputs: pd.DataFrame,
    days: pd.DataFrame,
    predictions: pd.DataFrame,
    categories: Mapping[str, Any],
    surfaces: Mapping[str, Any],
    contract: str,
    runbook: str,
) -> dict[str, bytes]:
    """Return the files of the draft bundle by relative path."""
    return {
        "model.onnx": challenger_onnx,
        "fallback.onnx": fallback_onnx,
        "rules.json": canonical_json(rules),
        "features.json": canonical_json({**describe_features(), "categories": dict(categories)}),
        "training.json": canonical_json(training),
        "surfaces.json": canonical_json(sealed_surfaces(surfaces)),
        "contract.yml": contract.encode(),
        "runbook.md": runbook.encode(),
        "reference/features.parquet": _parquet(reference),
        "reference/inputs.parquet": _parquet(reference_inputs),
        "reference/days.parquet": _parquet(days),
        "reference/predictions.parquet": _parquet(predictions),
    }


def _parquet(frame: pd.DataFrame) -> bytes:
    sink = io.BytesIO()
    frame.to_parquet(sink, index=False)
    return sink.getvalue()
