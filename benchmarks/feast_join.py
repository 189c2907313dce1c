"""The offline join against Feast's `get_historical_features`, in pairs: CPU seconds, their ratio, and equal cells.

What Feast can express is an as-of join of feature rows that exist already, with a ttl. It is asked for seven views,
for every flight of the log at T-2h, from files on disk to a table in memory, as ours is:

- Latest values (an aircraft's last departure and arrival, the weather): the same meaning on both sides, and the cells
  are compared. Ours also gives their ages, Feast does not. Alone: `ratio_feast_latest`.
- Four windowed views. Feast gets a row of finished features for every event, made beforehand and not counted, and joins
  the last one: each value is as old as the last event. Ours computes the windows to the moment, from the raw events.
  The share of equal cells says what that costs in meaning. Views of fewer keys (origin, all) are spared Feast: it joins
  all pairs of a key before it chooses.

`ratio_feast` is of all seven in one call, with Feast's DuckDB store, its fastest for local files. Its default, Dask, is
measured on a sample for the latest values (`ratio_feast_dask`; ours pays for all its events there all the same): more
does not fit in memory, and it loses the rows that find no value.

Run: `python -m benchmarks.feast_join [rounds]` on a data root with an event log.
"""

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.peer import Peer
from benchmarks.peers.lines import timed
from flightdeck.core.errors import FlightdeckError
from flightdeck.core.layout import layout
from flightdeck.events.log import EventLog
from flightdeck.features.event_index import EntityFrame
from flightdeck.features.join import point_in_time_joins
from flightdeck.features.view import FeatureView, Latest
from pipelines.features.views import VIEWS

LATEST = tuple(view for view in VIEWS if isinstance(view.compute, Latest))
WINDOWS = tuple(
    view
    for view in VIEWS
    if view.name in ("carrier_departures", "origin_carrier_departures", "route_departures", "dest_departures")
)
ENTITIES = ("origin", "carrier", "dest", "tailnum")
LEAD_US = 7200 * 1_000_000
N_DASK = 1000
Columns = dict[str, np.ndarray]


class Task:
    """The rows to join to, our side of the join and the files of the peer's."""

    def __init__(self, log: EventLog, folder: Path, n_rows: int | None = None) -> None:
        self.log, self.folder = log, folder
        scheduled = log.read("scheduled", columns=[*ENTITIES, "scheduled_departure"])
        at_us = scheduled["scheduled_departure"].cast(pa.int64()).to_numpy() - LEAD_US
        rows = np.arange(len(at_us))
        if n_rows is not None:
            rows = np.sort(np.random.default_rng(0).permutation(rows)[:n_rows])
        self.at_us = at_us[rows]
        self.entities = {name: scheduled[name].to_numpy(zero_copy_only=False)[rows] for name in ENTITIES}

    def __len__(self) -> int:
        return len(self.at_us)

    def ours(self, views: Sequence[FeatureView]) -> Columns:
        """Read the events of the log, which holds each once and in order, and join the views to all rows."""
        wanted: dict[str, list[str]] = {}
        for view in views:
            wanted.setdefault(view.source, ["created_timestamp"]).extend(view.event_columns)
        events = {name: self.log.read(name, columns=[*dict.fromkeys(columns)]) for name, columns in wanted.items()}
        return point_in_time_joins(views, events, EntityFrame(self.entities, self.at_us))

    def declared(self, views: Sequence[FeatureView]) -> list[dict[str, Any]]:
        """Write the feature rows of each view and return the views as the peer's script takes them."""
        result = []
        for view in views:
            table = self.log.read(view.source)
            features = _features(view, table)
            path = self.folder / f"{view.name}.parquet"
            keys = {name: table[name] for name in (*view.entity, "created_timestamp")}
            pq.write_table(pa.table({**keys, **{name: pa.array(values) for name, values in features.items()}}), path)
            result.append(
                {
                    "name": view.name,
                    "entity": list(view.entity),
                    "columns": list(features),
                    "path": str(path),
                    "ttl_s": view.look_back_s,
                }
            )
        return result

    def rows(self, views: Sequence[FeatureView]) -> str:
        """Write the rows to join to, with the entity columns that the views need."""
        names = dict.fromkeys(name for view in views for name in view.entity)
        at = pa.array(self.at_us).cast(pa.timestamp("us", "UTC"))
        columns = {name: pa.array(self.entities[name], pa.string()) for name in names}
        path = self.folder / "rows.parquet"
        pq.write_table(pa.table({"row": np.arange(len(self)), **columns, "event_timestamp": at}), path)
        return str(path)


def _features(view: FeatureView, table: pa.Table) -> Columns:
    """Return the feature rows that the peer is given ready-made: one an event."""
    if isinstance(view.compute, Latest):
        return {name: table[name].cast(pa.float64()).to_numpy() for name in view.compute.columns}
    entities = {name: table[name].to_numpy(zero_copy_only=False) for name in view.entity}
    frame = EntityFrame(entities, table["created_timestamp"].cast(pa.int64()).to_numpy())
    joined = point_in_time_joins([view], {view.source: table}, frame)
    return {name.removeprefix(f"{view.name}__"): values for name, values in joined.items()}


def compare(task: Task, views: Sequence[FeatureView], offline: str, rounds: int, warm: bool = True) -> dict[str, float]:
    """Return the medians of both sides and of their ratio, and the share of equal cells."""
    with Peer("feast", "feast_offline.py") as peer:
        peer.ask("load", folder=str(task.folder), offline=offline, views=task.declared(views), rows=task.rows(views))
        task.ours(views)
        if warm:
            peer.ask("join")
        pairs = []
        for _ in range(rounds):
            mine = timed(lambda: {"joined": task.ours(views)})
            pairs.append((mine["cpu_s"], peer.ask("join")["cpu_s"]))
        theirs = task.folder / "joined.parquet"
        peer.ask("save", path=str(theirs))
    n_rows, equal = _equal(mine["joined"], pd.read_parquet(theirs))
    return {
        "cpu_s": round(float(np.median([pair[0] for pair in pairs])), 4),
        "feast_cpu_s": round(float(np.median([pair[1] for pair in pairs])), 3),
        "ratio": round(float(np.median([pair[1] / pair[0] for pair in pairs])), 1),
        "rows": len(task),
        "feast_rows": n_rows,
        "equal_cells": equal,
    }


def _equal(ours: Columns, theirs: pd.DataFrame) -> tuple[int, float]:
    """Return how many rows the peer gave, and the share of their cells that equal ours (NaN equals NaN)."""
    row = theirs["row"].to_numpy()
    shared = [name for name in ours if name in theirs.columns]
    cells = [_same(ours[name][row], theirs[name].to_numpy(dtype=np.float64, na_value=np.nan)).mean() for name in shared]
    return len(row), round(float(np.mean(cells)), 6)


def _same(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return np.asarray((left == right) | (np.isnan(left) & np.isnan(right)))


def measure(log: EventLog, rounds: int = 3) -> dict[str, Any]:
    """Return the keys that a benchmark's JSON line takes over."""
    with tempfile.TemporaryDirectory() as folder:
        every, sample = Task(log, Path(folder)), Task(log, Path(folder), N_DASK)
        latest = compare(every, LATEST, "duckdb", rounds)
        both = compare(every, (*LATEST, *WINDOWS), "duckdb", 1, warm=False)  # a minute of CPU; starting is 1 % of it
        dask = compare(sample, LATEST, "dask", 1)
    return {
        "ratio_feast": both["ratio"],
        "ratio_feast_latest": latest["ratio"],
        "ratio_feast_dask": dask["ratio"],
        "feast": {"all": both, "latest": latest, "dask": dask},
    }


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    print(json.dumps({"benchmark": "feast_join", **measure(EventLog(layout().event_log), rounds)}))


if __name__ == "__main__":
    try:
        main()
    except FlightdeckError as error:
        sys.exit(f"error: {error}")
