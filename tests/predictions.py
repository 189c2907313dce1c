"""Prediction log records as dictionaries: written through the real writer's batches, read back from files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from flightdeck.inference.prediction_log_batch import NONE, FeatureGroup, LogBatch
from flightdeck.inference.prediction_log_read import read_log

Record = Mapping[str, Any]
PLAIN: dict[str, Any] = {
    "request_id": "r",
    "item": 0,
    "surface": "search",
    "unit_id": "u",
    "flight_id": "f",
    "mode": "model",
    "reason": None,
    "arm": "champion",
    "decision": None,
    "model_version": 1,
    "bundle_digest": "f" * 64,
    "feature_offset": None,
    "probability": 0.5,
    "latency_ms": 1.0,
    "model_ms": 0.05,
    "logged_at_us": 1_378_987_200_000_000,
    "request_us": 1_378_987_200_000_000,
    "feature_us": NONE,
    "watermark_us": NONE,
}
NUMBERS = {"probability": np.float64, "latency_ms": np.float64, "model_ms": np.float64} | dict.fromkeys(
    ("item", "logged_at_us", "request_us", "feature_us", "watermark_us"), np.int64
)


def log_batch(records: Sequence[Record], request: Record | None = None) -> LogBatch:
    """Return a batch of records; what a record does not say has a plain value.

    Parameters
    ----------
    records
        By field; `features` is a list of numbers or None, and `flight` holds the request columns.
    request
        Request columns that records without `flight` have.
    """
    rows = [{**PLAIN, **record} for record in records]
    columns: dict[str, Any] = {
        name: np.array([row[name] for row in rows], NUMBERS[name]) if name in NUMBERS else [row[name] for row in rows]
        for name in PLAIN
    }
    flights = [row.get("flight", request or {}) for row in rows]
    asked = {
        name: np.array([flight[name] for flight in flights], object if isinstance(value, str) else None)
        for name, value in flights[0].items()
    }
    groups = [
        FeatureGroup(str(row["bundle_digest"]), np.array([row["features"]], np.float32), np.array([place]))
        for place, row in enumerate(rows)
        if row.get("features") is not None
    ]
    return LogBatch(**columns, request=asked, features=groups)


def read_records(folder: Path) -> list[dict[str, Any]]:
    """Return every record of a log, also those that say the same, request columns among the others."""
    tables: list[pa.Table] = list(read_log(folder).tables)
    return [record for table in tables for record in table.to_pylist()]
