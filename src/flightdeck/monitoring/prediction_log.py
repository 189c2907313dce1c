"""The prediction log, reading side: JSON-lines segments to one frame.

A segment may end in the middle of a line: its process was killed, or is writing right now. Such a line was never
acknowledged; it is skipped, counted and left where it is.

A question that was asked again counts once, with its last answer: a request that was sent again after its answer was
lost, and a day that was replayed again.
"""

import logging
from collections.abc import Callable, Hashable, Iterator
from operator import attrgetter
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd

NO_TIME_US = -1
REQUEST_FIELDS = {
    "carrier": "object",
    "origin": "object",
    "dest": "object",
    "flight_number": "int64",
    "tailnum": "object",
    "scheduled_departure_us": "int64",
    "scheduled_arrival_us": "int64",
    "origin_utc_offset_min": "int64",
    "distance_miles": "int64",
}
QUESTION = ("unit_id", "request_us", "surface", "flight_id")
COLUMNS = {
    "request_id": "object",
    "item": "int64",
    "logged_at": "object",
    "request_us": "int64",
    "feature_us": "int64",
    "watermark_us": "int64",
    "feature_offset": "object",
    "surface": "object",
    "unit_id": "object",
    "flight_id": "object",
    "probability": "float64",
    "decision": "object",
    "mode": "object",
    "reason": "object",
    "arm": "object",
    "model_version": "object",
    "bundle_digest": "object",
    "latency_ms": "float64",
    "features": "object",
    **REQUEST_FIELDS,
}
logger = logging.getLogger(__name__)


class _Line(msgspec.Struct):
    """One record as it was logged; fields that came later than this reader are ignored."""

    request_id: str
    request_us: int
    flight_id: str
    flight: dict[str, str | int | float | None]
    surface: str
    mode: str
    item: int = 0
    logged_at: str = ""
    feature_us: int | None = None
    watermark_us: int | None = None
    feature_offset: str | None = None
    unit_id: str = ""
    probability: float | None = None
    decision: str | None = None
    reason: str | None = None
    arm: str = ""
    model_version: int | str | None = None
    bundle_digest: str | None = None
    latency_ms: float | None = None
    features: list[float | None] | None = None


def read_predictions(folder: Path) -> pd.DataFrame:
    """Read every segment of a prediction log, oldest first.

    Parameters
    ----------
    folder
        Folder of `*.jsonl` segments; a missing one is an empty log.

    Returns
    -------
    DataFrame
        The columns of `COLUMNS`, one row a question in the order of `logged_at`. `features` holds a
        float32 array each (NaN where the log says null) or None where no features were read; `feature_us` and
        `watermark_us` are -1 there. `feature_offset` is empty where nothing was read or the store did not say.
        `attrs["n_torn"]` counts skipped unfinished last lines, `attrs["n_damaged"]` skipped lines of another form.
    """
    rows: list[_Line] = []
    n_torn, n_damaged = 0, 0
    decoder = msgspec.json.Decoder(_Line)
    for line, is_torn in _lines(folder):
        if is_torn:
            n_torn += 1
            continue
        try:
            rows.append(decoder.decode(line))
        except (msgspec.DecodeError, UnicodeDecodeError):
            n_damaged += 1
    if n_torn or n_damaged:
        logger.warning("prediction log %s: skipped %d unfinished and %d damaged lines", folder, n_torn, n_damaged)
    frame = _frame(_last_answers(rows))
    frame.attrs = {"n_torn": n_torn, "n_damaged": n_damaged}
    return frame


def _lines(folder: Path) -> Iterator[tuple[bytes, bool]]:
    """Give each line of each segment and whether its end is missing."""
    for path in sorted(folder.glob("*.jsonl")):
        *whole, rest = path.read_bytes().split(b"\n")
        yield from ((line, False) for line in whole)
        if rest:
            yield rest, True


def _last_answers(rows: list[_Line]) -> list[_Line]:
    """Return the last answer to each question; segments of processes that ran together are not in logged order."""
    rows = sorted(rows, key=lambda row: row.logged_at)
    for key in (attrgetter("request_id", "item"), attrgetter(*QUESTION)):
        rows = _keep_last(rows, key)
    return rows


def _keep_last(rows: list[_Line], key: Callable[[_Line], Hashable]) -> list[_Line]:
    last = {key(row): place for place, row in enumerate(rows)}
    return [rows[place] for place in sorted(last.values())]


def _frame(rows: list[_Line]) -> pd.DataFrame:
    plain = ("request_id", "item", "logged_at", "request_us", "surface", "unit_id", "flight_id", "decision", "mode")
    values: dict[str, list[object]] = {name: [getattr(row, name) for row in rows] for name in (*plain, "reason", "arm")}
    for name in ("feature_us", "watermark_us"):
        values[name] = [_or(getattr(row, name), NO_TIME_US) for row in rows]
    for name in ("probability", "latency_ms"):
        values[name] = [_or(getattr(row, name), np.nan) for row in rows]
    values["model_version"] = [str(_or(row.model_version, "")) for row in rows]
    for name in ("bundle_digest", "feature_offset"):
        values[name] = [_or(getattr(row, name), "") for row in rows]
    values["features"] = [_vector(row.features) for row in rows]
    for name, kind in REQUEST_FIELDS.items():
        values[name] = [_or(row.flight.get(name), "" if kind == "object" else 0) for row in rows]
    return pd.DataFrame({name: pd.Series(values[name], dtype=kind) for name, kind in COLUMNS.items()}, copy=False)


def _or(value: object, other: object) -> object:
    return other if value is None else value


def _vector(features: list[float | None] | None) -> np.ndarray[tuple[int], np.dtype[np.float32]] | None:
    return None if features is None else np.array(features, dtype=np.float32)
