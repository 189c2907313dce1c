"""What the peers of `benchmarks/bench_features.py` are asked, the same for all of them.

`requests.parquet` has one row a request (`row`, entity columns, `at`), `<stream>.parquet` the events of a stream in
order of knowledge (`event_id`, `created`, columns without nulls); times are int64 UTC microseconds. A view is a dict:
`name`, `entity`, `sources`, `kind` (Windowed, Latest, OpenItems), `windows` (pairs of length and tile in microseconds),
`aggregates` (pairs of kind and column), `ttl_us`, `columns` (names of the features, in order).
"""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

View = dict[str, Any]
Columns = dict[str, np.ndarray]
held: dict[str, Any] = {}


def read(folder: str, views: list[View]) -> tuple[pa.Table, dict[str, pa.Table]]:
    """Return the requests and the events of all streams that the views read."""
    streams = dict.fromkeys(name for view in views for name in view["sources"])
    root = Path(folder)
    return pq.read_table(root / "requests.parquet"), {name: pq.read_table(root / f"{name}.parquet") for name in streams}


def means(view: View) -> list[str]:
    """Return the columns of which a windowed view asks the mean."""
    return [column for kind, column in view["aggregates"] if kind == "mean"]


def by_source(views: list[View]) -> dict[tuple[tuple[str, ...], tuple[str, ...], bool], list[View]]:
    """Return views that can share running totals: those of the same entity, streams and kind."""
    groups: dict[tuple[tuple[str, ...], tuple[str, ...], bool], list[View]] = {}
    for view in views:
        key = tuple(view["entity"]), tuple(view["sources"]), view["kind"] == "Latest"
        groups.setdefault(key, []).append(view)
    return groups


def save(path: str) -> None:
    """Write what the last run gave, in the order of the requests."""
    pq.write_table(
        pa.table({name: np.asarray(values, dtype=np.float64) for name, values in held["joined"].items()}), path
    )
