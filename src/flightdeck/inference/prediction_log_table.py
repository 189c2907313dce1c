"""Frames of the prediction log as Arrow tables: one row an item, request columns flat, features as one list."""

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flightdeck.inference.prediction_log_batch import NONE
from flightdeck.inference.prediction_log_frame import (
    FLOAT32,
    FLOAT64,
    INT64,
    INTS,
    LONG_TEXT,
    MODEL_MS,
    ROW,
    TEXT,
    WEIGHT,
    Coded,
    Column,
    Features,
    Frame,
)

FEATURES, LOGGED_AT, FRAME_AT, SEGMENT_NAME = "features", "logged_at", "frame_at", "segment"
SCHEMA = pa.schema(
    [
        (SEGMENT_NAME, pa.string()),
        (FRAME_AT, pa.int64()),
        ("request_id", pa.string()),
        ("item", pa.int64()),
        (LOGGED_AT, pa.timestamp("us", tz="UTC")),
        ("request_us", pa.int64()),
        ("feature_us", pa.int64()),
        ("watermark_us", pa.int64()),
        ("feature_offset", pa.string()),
        ("surface", pa.string()),
        ("unit_id", pa.string()),
        ("flight_id", pa.string()),
        ("probability", pa.float64()),
        ("decision", pa.string()),
        ("mode", pa.string()),
        ("reason", pa.string()),
        ("arm", pa.string()),
        ("model_version", pa.string()),
        ("bundle_digest", pa.string()),
        ("latency_ms", pa.float64()),
        (MODEL_MS, pa.float64()),
        (WEIGHT, pa.float64()),
        (FEATURES, pa.list_(pa.float32())),
    ]
)
NULLABLE_TIMES = ("feature_us", "watermark_us")
Placed = tuple[int, Frame]


def to_tables(segment: str, frames: Sequence[Placed]) -> Iterator[pa.Table]:
    """Yield the records of frames in order, a table for each run of frames with the same request columns.

    Parameters
    ----------
    segment
        Name of the segment.
    frames
        Offset of each frame in the segment, and the frame.

    Returns
    -------
    Iterator
        Tables with the columns of `SCHEMA`, then the request columns. Where the log holds no value (no time, NaN for
        `probability`, `latency_ms` and `model_ms`) the table holds null. A request column that has the name of another
        is called `request_<name>`.
    """
    for _, run in groupby(frames, key=lambda placed: request_names(placed[1])):
        yield _table(segment, list(run))


def request_names(frame: Frame) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    """Return the names of the request columns of a frame by type."""
    return frozenset(frame.request_text), frozenset(frame.request_ints), frozenset(frame.request_reals)


def _table(segment: str, run: list[Placed]) -> pa.Table:
    offsets, frames = [offset for offset, _ in run], [frame for _, frame in run]
    counts = [frame.n for frame in frames]
    n = sum(counts)
    columns: dict[str, Any] = {
        SEGMENT_NAME: pa.repeat(pa.scalar(segment), n),
        FRAME_AT: pa.array(np.repeat(np.array(offsets, dtype=np.int64), counts)),
        FEATURES: _features(frames),
    }
    for name in (*TEXT, *LONG_TEXT):
        columns[name] = _text(name, frames, lambda frame: frame.text)
    for name in INTS:
        values = _numbers(name, frames, lambda frame: frame.ints, INT64, NONE)
        is_null = values == NONE if name in NULLABLE_TIMES else None
        columns[name] = pa.array(values, mask=is_null)
    columns[LOGGED_AT] = columns.pop("logged_at_us").cast(SCHEMA.field(LOGGED_AT).type)
    for name, missing in (("probability", np.nan), ("latency_ms", np.nan), (MODEL_MS, np.nan), (WEIGHT, 1.0)):
        values = _numbers(name, frames, lambda frame: frame.reals, FLOAT64, missing)
        columns[name] = pa.array(values, mask=np.isnan(values))
    fixed = pa.table({field.name: columns[field.name] for field in SCHEMA}, schema=SCHEMA)
    for name, column in _request(frames):
        fixed = fixed.append_column(name if name not in SCHEMA.names else f"request_{name}", column)
    return fixed


def _request(frames: list[Frame]) -> Iterator[tuple[str, pa.Array]]:
    first = frames[0]
    for name in first.request_text:
        yield name, _text(name, frames, lambda frame: frame.request_text)
    for name in first.request_ints:
        yield name, pa.array(_numbers(name, frames, lambda frame: frame.request_ints, INT64, 0))
    for name in first.request_reals:
        yield name, pa.array(_numbers(name, frames, lambda frame: frame.request_reals, FLOAT64, np.nan))


def _text(name: str, frames: list[Frame], columns: Callable[[Frame], dict[str, Column]]) -> pa.Array:
    values: list[Any] = []
    for frame in frames:
        column = columns(frame).get(name)
        if isinstance(column, list):
            values += column
        elif isinstance(column, Coded):
            values += map(column.of.__getitem__, column.at)
        else:
            values += [column] * frame.n
    if name == "model_version":
        values = [None if value is None else str(value) for value in values]
    return pa.array(values, pa.string())


def _numbers(
    name: str,
    frames: list[Frame],
    columns: Callable[[Frame], dict[str, bytes]],
    kind: np.dtype[Any],
    missing: float,
) -> npt.NDArray[Any]:
    """Return a column over all frames; a frame without it holds `missing`."""
    absent = np.array(missing, dtype=kind)
    raw = (columns(frame).get(name) for frame in frames)
    filled = [
        np.full(frame.n, absent).tobytes() if values is None else values
        for frame, values in zip(frames, raw, strict=True)
    ]
    return np.frombuffer(b"".join(filled), dtype=kind)


def _features(frames: list[Frame]) -> pa.Array:
    """Return a list of float32 a row, null where a row was served none."""
    lengths, values = [], []
    for frame in frames:
        sizes, raw = _of_frame(frame)
        lengths.append(sizes)
        values.append(raw)
    sizes = np.concatenate(lengths) if lengths else np.zeros(0, dtype=np.int32)
    offsets = np.zeros(len(sizes) + 1, dtype=np.int32)
    np.cumsum(np.maximum(sizes, 0), out=offsets[1:])
    flat = pa.array(np.frombuffer(b"".join(values), dtype=FLOAT32))
    return pa.ListArray.from_arrays(pa.array(offsets), flat, mask=pa.array(sizes < 0))


def _of_frame(frame: Frame) -> tuple[npt.NDArray[np.int32], bytes]:
    """Return each row's number of features (-1: none were served) and all values in the order of rows."""
    groups = [group for group in frame.features if group.rows is None or len(group.rows)]
    if len(groups) == 1 and groups[0].rows is None:
        return np.full(frame.n, groups[0].n_features, dtype=np.int32), groups[0].values
    sizes = np.full(frame.n, -1, dtype=np.int32)
    rows: list[bytes] = [b""] * frame.n
    for group in groups:
        for row, values in _rows(group, frame.n):
            sizes[row], rows[row] = group.n_features, values
    return sizes, b"".join(rows)


def _rows(group: Features, n: int) -> Iterator[tuple[int, bytes]]:
    places = range(n) if group.rows is None else np.frombuffer(group.rows, ROW).tolist()
    width = group.n_features * FLOAT32.itemsize
    for place, row in enumerate(places):
        yield row, group.values[place * width : (place + 1) * width]
