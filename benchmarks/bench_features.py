"""All declared views on all flights, offline, against the best pandas, Polars and DuckDB: CPU seconds, in pairs.

Task: every feature of `pipelines.features.views.VIEWS` for every flight of the log at T-2h, from tables in memory to
columns in memory. The peers run in an environment of their own (`benchmarks/requirements/features.txt`), each in the
fastest form that we found for it: as-of joins on running totals, shared by views of the same entity and streams. Every
cell must be equal before anything is timed; then each round runs ours and all peers in turn, one thread each.

`ratio_feast` is measured on what Feast can express, see `benchmarks/feast_join.py`; `--no-feast` leaves it out.

Run: `python -m benchmarks.bench_features [--rounds 5] [--peers pandas,polars,duckdb] [--no-feast]` on a data root with
an event log.
"""

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.peer import Peer
from flightdeck.core.clock import MINUTE_US, SECOND_US
from flightdeck.core.errors import FlightdeckError
from flightdeck.core.layout import layout
from flightdeck.events.log import EventLog
from flightdeck.features.join import EntityFrame, point_in_time_joins
from flightdeck.features.view import FeatureView, Windowed
from pipelines.features.views import VIEWS

PEERS = ("pandas", "polars", "duckdb")
SAVE = {"pandas": "save", "polars": "save", "duckdb": "collect"}
ENTITIES = ("carrier", "origin", "dest", "tailnum")
LEAD_US = 120 * MINUTE_US
Columns = dict[str, np.ndarray]


class Task:
    """Events and requests in memory, and our side of the join."""

    def __init__(self, log: EventLog) -> None:
        needed: dict[str, list[str]] = {}
        for view in VIEWS:
            for stream in view.sources:
                needed.setdefault(stream, []).extend(view.event_columns if stream == view.source else view.entity)
        self.events = {
            stream: log.read(stream, columns=[*dict.fromkeys([*columns, "created_timestamp", "event_id"])])
            for stream, columns in needed.items()
        }
        self.scheduled = log.read("scheduled", columns=[*ENTITIES, "scheduled_departure"])
        self.at_us = self.scheduled["scheduled_departure"].cast(pa.int64()).to_numpy() - LEAD_US
        self.entities = {name: self.scheduled[name] for name in ENTITIES}
        self._joined: Columns = {}

    def ours(self) -> Columns:
        """Join all views to all requests; the last answer is held until the next is there, as the peers hold theirs."""
        self._joined = point_in_time_joins(VIEWS, self.events, EntityFrame(self.entities, self.at_us))
        return self._joined

    def write(self, folder: Path) -> None:
        """Write requests and events as the peers read them."""
        columns = {name: self.scheduled[name] for name in ENTITIES}
        requests = pa.table({"row": np.arange(len(self.at_us)), **columns, "at": self.at_us})
        pq.write_table(requests, folder / "requests.parquet")
        for stream, table in self.events.items():
            created = table["created_timestamp"].cast(pa.int64())
            kept = {name: table[name] for name in table.column_names if name != "created_timestamp"}
            pq.write_table(pa.table({**kept, "created": created}), folder / f"{stream}.parquet")


def declared(view: FeatureView) -> dict[str, Any]:
    """Return a view as the peers take it (benchmarks/peers/features_task.py)."""
    compute = view.compute
    windows_s, aggregates = (compute.windows_s, compute.aggregates) if isinstance(compute, Windowed) else ((), ())
    return {
        "name": view.name,
        "entity": view.entity,
        "sources": view.sources,
        "kind": type(compute).__name__,
        "windows": [(window_s * SECOND_US, view.tiles_us[window_s]) for window_s in windows_s],
        "aggregates": [(aggregate.kind, aggregate.column) for aggregate in aggregates],
        "ttl_us": view.ttl_s * SECOND_US,
        "columns": view.columns,
    }


def cpu_s(work: Callable[[], object]) -> float:
    """Return the CPU seconds of a call."""
    before = time.process_time()
    work()
    return time.process_time() - before


def require_equal(name: str, peer: Peer, ours: Columns, folder: Path) -> None:
    """Run a peer once and compare every cell.

    Raises
    ------
    FlightdeckError
        If a cell differs.
    """
    peer.ask("load", folder=str(folder), views=[declared(view) for view in VIEWS])
    peer.ask("run")
    path = folder / f"{name}_joined.parquet"
    peer.ask(SAVE[name], path=str(path))
    theirs = pq.read_table(path)
    for column, values in ours.items():
        other = theirs[column].to_numpy()
        differ = np.flatnonzero(~((values == other) | (np.isnan(values) & np.isnan(other))))
        if len(differ):
            row = differ[0]
            raise FlightdeckError(
                f"comparing with {name}: {column} differs in {len(differ):,} of {len(values):,} rows, first in row "
                f"{row}: {values[row]} against {other[row]}"
            )


def measure(task: Task, names: list[str], rounds: int) -> dict[str, Any]:
    """Return the medians of CPU seconds and of the ratios of each round."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        task.write(folder)
        ours = task.ours()
        peers: dict[str, Peer] = {}
        missing: dict[str, str] = {}
        for name in names:
            try:
                peers[name] = stack.enter_context(Peer("features", f"features_{name}.py"))
            except FlightdeckError as error:
                missing[name] = str(error)
                continue
            require_equal(name, peers[name], ours, folder)
        del ours
        times: dict[str, list[float]] = {name: [] for name in ("ours", *peers)}
        for _ in range(rounds):
            times["ours"].append(cpu_s(task.ours))
            for name, peer in peers.items():
                times[name].append(peer.ask("run")["cpu_s"])
    result: dict[str, Any] = {"cpu_s": round(float(np.median(times["ours"])), 4)}
    for name in PEERS:
        theirs = times.get(name)
        result[f"{name}_cpu_s"] = round(float(np.median(theirs)), 3) if theirs else None
        ratios = np.divide(theirs, times["ours"]) if theirs else []
        result[f"ratio_{name}"] = round(float(np.median(ratios)), 2) if theirs else None
        if not theirs:
            result[f"reason_{name}"] = missing.get(name, "not asked for")
    return result


def against_feast(log: EventLog, asked: bool) -> dict[str, Any]:
    """Return the ratios against Feast, null with a reason where it cannot be asked."""
    if not asked:
        return {"ratio_feast": None, "reason_feast": "not asked for"}
    try:
        from benchmarks.feast_join import measure as measure_feast

        return measure_feast(log)
    except (ImportError, FlightdeckError) as error:
        return {"ratio_feast": None, "reason_feast": str(error)}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_features")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--no-feast", action="store_true")
    arguments = parser.parse_args()
    log = EventLog(layout().event_log)
    task = Task(log)
    result = {
        "benchmark": "features",
        "rows": len(task.at_us),
        "n_features": sum(len(view.columns) for view in VIEWS),
        **measure(task, [name for name in PEERS if name in arguments.peers.split(",")], arguments.rounds),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        **against_feast(log, not arguments.no_feast),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    try:
        main()
    except FlightdeckError as error:
        sys.exit(f"error: {error}")
