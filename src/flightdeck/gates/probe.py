"""The exported model itself, opened and run as the server will run it: scores of a sample, time of one row."""

import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flightdeck.core.errors import ContractViolation, some
from flightdeck.gates.evidence import Evidence
from flightdeck.inference.onnx_model import OnnxModel

MODEL = "model.onnx"
SAMPLE = "reference/features.parquet"
N_WARM_UP = 20


class Columns(msgspec.Struct, frozen=True):
    """Input columns of a model, in its order; `features.json` of a bundle says more, which is not needed here."""

    categorical: tuple[str, ...]
    numeric: tuple[str, ...]


def feature_sample(evidence: Evidence) -> pd.DataFrame:
    """Return the draft's sample of feature rows, each with the `probability` that the trained model gave it.

    Raises
    ------
    ContractViolation
        If the sample lacks a column of the model or has no row.
    """
    columns = _columns(evidence.draft)
    path = evidence.draft / SAMPLE
    frame = pd.read_parquet(path)
    missing = [c for c in (*columns.categorical, *columns.numeric, "probability") if c not in frame.columns]
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
    """Return the exported model's probability of each feature row, shape (n,)."""
    columns = _columns(draft)
    return _open(draft, columns).predict(*_inputs(rows, columns))


def single_row_ms(draft: Path, rows: pd.DataFrame, *, n_calls: int = 500) -> NDArray[np.float64]:
    """Return the milliseconds of `n_calls` calls with one feature row each, after 20 that do not count."""
    columns = _columns(draft)
    model = _open(draft, columns)
    single = [_inputs(rows.iloc[[i % len(rows)]], columns) for i in range(min(n_calls, 100))]
    took = np.empty(n_calls + N_WARM_UP)
    for i in range(len(took)):
        started = time.perf_counter_ns()
        model.predict(*single[i % len(single)])
        took[i] = (time.perf_counter_ns() - started) / 1e6
    return took[N_WARM_UP:]


def _columns(draft: Path) -> Columns:
    path = draft / "features.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=Columns)
    except (FileNotFoundError, msgspec.DecodeError) as error:
        raise ContractViolation(f"reading {path}: {error}", next_step="kedro run --config kedro.yml") from error


def _open(draft: Path, columns: Columns) -> OnnxModel:
    return OnnxModel.open(draft / MODEL, categorical=columns.categorical, n_numeric=len(columns.numeric))


def _inputs(rows: pd.DataFrame, columns: Columns) -> tuple[dict[str, NDArray[Any]], NDArray[np.float32]]:
    texts: dict[str, NDArray[Any]] = {name: rows[name].astype(str).to_numpy(object) for name in columns.categorical}
    return texts, rows[list(columns.numeric)].to_numpy(np.float32)
