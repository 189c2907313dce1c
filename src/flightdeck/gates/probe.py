"""The exported graph itself, opened and run as the server will run it: scores of a sample, time of one row."""

import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flightdeck.core.errors import ContractViolation, some
from flightdeck.gates.evidence import Evidence
from flightdeck.inference.onnx_model import STRING, OnnxModel
from flightdeck.inference.release_bundle import FeatureList, read_features

MODEL = "model.onnx"
SAMPLE = "reference/inputs.parquet"
N_WARM_UP = 20


def feature_sample(bundle: Path) -> pd.DataFrame:
    """Return the rows that a draft or bundle has of what a server is given, each with the `probability` that it got.

    Raises
    ------
    ContractViolation
        If the sample lacks a column that the model reads, or has no row.
    """
    features = _features(bundle)
    path = bundle / SAMPLE
    frame = pd.read_parquet(path)
    needed = (*_open(bundle, features).request, *features.view_columns, "probability")
    missing = [name for name in needed if name not in frame.columns]
    if missing or frame.empty:
        raise ContractViolation(f"reading {path}: {len(frame)} rows, columns missing: {some(missing) or 'none'}")
    return frame


def max_onnx_difference(evidence: Evidence, sample: pd.DataFrame) -> float:
    """Return the largest difference between trained and exported model: as training saw it, and on the sample now.

    Training compares the whole test set and writes `onnx_max_difference`; scoring the sample again shows that the file
    in this draft is the one that was compared. A missing figure is nan, which passes no check.
    """
    recorded = float(evidence.training.get("onnx_max_difference", np.nan))
    scored = score(evidence.draft, sample)
    now = float(np.max(np.abs(scored - sample["probability"].to_numpy(np.float64))))
    return float(np.max([recorded, now]))


def score(draft: Path, rows: pd.DataFrame) -> NDArray[np.float64]:
    """Return the graph's probability of each row of the sample, shape (n,)."""
    features = _features(draft)
    model = _open(draft, features)
    return model.predict(*_inputs(rows, model, features)).probability


def single_row_ms(draft: Path, rows: pd.DataFrame, *, n_calls: int = 500) -> NDArray[np.float64]:
    """Return the milliseconds of `n_calls` calls with one row each, after 20 that do not count."""
    features = _features(draft)
    model = _open(draft, features)
    single = [_inputs(rows.iloc[[i % len(rows)]], model, features) for i in range(min(n_calls, 100))]
    took = np.empty(n_calls + N_WARM_UP)
    for i in range(len(took)):
        started = time.perf_counter_ns()
        model.predict(*single[i % len(single)])
        took[i] = (time.perf_counter_ns() - started) / 1e6
    return took[N_WARM_UP:]


def _features(draft: Path) -> FeatureList:
    try:
        return read_features(draft)
    except (FileNotFoundError, msgspec.DecodeError) as error:
        where = draft / "features.json"
        raise ContractViolation(f"reading {where}: {error}", next_step="kedro run --config kedro.yml") from error


def _open(draft: Path, features: FeatureList) -> OnnxModel:
    return OnnxModel.open(draft / MODEL, n_views=len(features.view_columns), n_numeric=len(features.numeric))


def _inputs(
    rows: pd.DataFrame, model: OnnxModel, features: FeatureList
) -> tuple[dict[str, NDArray[Any]], NDArray[np.float64]]:
    request = {
        name: rows[name].to_numpy(object if kind == STRING else np.int64) for name, kind in model.request.items()
    }
    return request, rows[list(features.view_columns)].to_numpy(np.float64)
