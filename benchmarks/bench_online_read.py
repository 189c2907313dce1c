"""The online read of four views against Feast's, embedded and on Redis, in one run: microseconds and ratios.

Task: all features of four views (23 columns) for one entity and for 50, from the state at the end of the busiest hour
of the log; the entities are flights that are due in the hours after it. Ours reads the windows' states and computes
them to the moment; Feast reads finished values, which it is given: ours of that moment, so both must answer the same.
Each answers in the form that is cheapest for it: ours is the matrix that a model reads, Feast's `to_dict`.
The embedded store (LMDB) is measured against Feast on SQLite, ours on Redis against Feast on Redis, on one server.

Rounds of the four are interleaved; of each, the median over rounds is reported of the mean CPU time of the client and
of the median wall time. `ratio_feast_*` is the lowest of the four that could be named: CPU or wall, 1 or 50 entities.

Run: `python -m benchmarks.bench_online_read [rounds]` on a data root with an event log.
"""

import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import redis

from benchmarks.peer import Peer
from benchmarks.redis_server import redis_server
from flightdeck.core.errors import FlightdeckError
from flightdeck.core.layout import layout
from flightdeck.events.log import EventLog
from flightdeck.features.materializer import Materializer
from flightdeck.features.online import OnlineReader
from flightdeck.features.stores import open_store
from pipelines.features.views import VIEWS

READ = ("origin_departures", "carrier_departures", "origin_carrier_departures", "aircraft_departed")
FOUR = tuple(view for view in VIEWS if view.name in READ)
ENTITIES = ("origin", "carrier", "tailnum")
HOUR_US = 3600 * 1_000_000
N_BATCHES = {1: 300, 50: 40}
SERVER_ROUNDS = 10
USED = ("used_cpu_user", "used_cpu_sys", "total_net_output_bytes")
Batch = dict[str, list[str]]
Columns = Mapping[str, Sequence[float] | np.ndarray]


@dataclass(frozen=True)
class Cost:
    """Microseconds of one read: CPU of the client and wall."""

    cpu_us: float
    wall_us: float


class Ours:
    """Our store, filled until the moment, and its reader."""

    def __init__(self, where: Path | str, log: EventLog, until_us: int) -> None:
        with ExitStack() as stack:
            store = open_store(where, read_only=False)
            stack.callback(store.close)
            Materializer(store, FOUR).backfill(log, until_us)
        self._store = open_store(where, read_only=True)
        self._reader = OnlineReader(self._store, FOUR)
        self._at_us = until_us

    def read(self, batch: Batch) -> Columns:
        return self._reader.read(batch, self._at_us).columns

    def ages_s(self, batch: Batch) -> Mapping[str, np.ndarray]:
        return self._reader.read(batch, self._at_us).ages_s

    def measure(self, batches: Sequence[Batch]) -> Cost:
        walls, cpu = [], time.process_time()
        for batch in batches:
            wall = time.perf_counter()
            self._reader.read(batch, self._at_us)
            walls.append(time.perf_counter() - wall)
        cpu = (time.process_time() - cpu) / len(walls)
        return Cost(cpu * 1e6, statistics.median(walls) * 1e6)

    def close(self) -> None:
        self._store.close()


class Feast:
    """Feast in its own process, holding the finished values of that moment."""

    def __init__(self, folder: Path, online: dict[str, str], views: list[dict[str, Any]]) -> None:
        folder.mkdir()
        self._peer = Peer("feast", "feast_online.py")
        self._held: Sequence[Batch] | None = None
        self._peer.ask("load", folder=str(folder), online=online, views=views)

    def read(self, batch: Batch) -> Columns:
        features: Columns = self._peer.ask("read", rows=batch)["features"]
        return features

    def measure(self, batches: Sequence[Batch]) -> Cost:
        if self._held is not batches:
            self._peer.ask("hold", batches=batches)
            self._held = batches
        answer = self._peer.ask("measure")
        return Cost(answer["cpu_us"], answer["wall_us"])

    def close(self) -> None:
        self._peer.close()


def busiest(log: EventLog) -> int:
    """Return the end of the hour in which most departures became known."""
    created_us = log.read("departed", columns=["created_timestamp"])["created_timestamp"].cast(pa.int64()).to_numpy()
    hours, counts = np.unique(created_us // HOUR_US, return_counts=True)
    return int(hours[np.argmax(counts)] + 1) * HOUR_US


def due(log: EventLog, until_us: int) -> pd.DataFrame:
    """Return the entities of the flights with a known aircraft that are due within four hours."""
    scheduled = log.read("scheduled", columns=[*ENTITIES, "scheduled_departure"])
    due_us = scheduled["scheduled_departure"].cast(pa.int64()).to_numpy()
    near = scheduled.filter(pa.array((due_us > until_us) & (due_us <= until_us + 4 * HOUR_US)))
    flights: pd.DataFrame = near.select(ENTITIES).to_pandas()
    return flights.dropna().drop_duplicates().reset_index(drop=True)


def seen(ours: Ours, flights: pd.DataFrame) -> pd.DataFrame:
    """Return the flights all of whose keys have a state: a read that finds nothing is too cheap."""
    ages_s = ours.ages_s({name: flights[name].tolist() for name in ENTITIES})
    has_all = ~np.isnan(np.stack([ages_s[view.name] for view in FOUR])).any(axis=0)
    return flights.take(np.flatnonzero(has_all)).reset_index(drop=True)


def batches_of(flights: pd.DataFrame, size: int) -> list[Batch]:
    """Return the batches to read: flights drawn with a fixed seed."""
    draw = np.random.default_rng(size)
    picks = (draw.choice(len(flights), size, replace=False) for _ in range(N_BATCHES[size]))
    return [{name: flights[name].iloc[pick].tolist() for name in ENTITIES} for pick in picks]


def finished(ours: Ours, flights: pd.DataFrame, at_us: int, folder: Path) -> list[dict[str, Any]]:
    """Write every entity's features of the moment, as Feast is given them, and return the views for its script."""
    values = pd.DataFrame({**flights, **ours.read({name: flights[name].tolist() for name in ENTITIES})})
    result = []
    for view in FOUR:
        rows = values[[*view.entity, *view.columns]].drop_duplicates(list(view.entity))
        rows.columns = [name.removeprefix(f"{view.name}__") for name in rows.columns]
        path = folder / f"{view.name}.parquet"
        rows.assign(created_timestamp=pd.Timestamp(at_us, unit="us", tz="UTC")).to_parquet(path)
        columns = [name.removeprefix(f"{view.name}__") for name in view.columns]
        declared = {"entity": list(view.entity), "columns": columns, "path": str(path), "ttl_s": view.ttl_s}
        result.append({"name": view.name, **declared})
    return result


def require_equal(sides: Mapping[str, Ours | Feast], batch: Batch) -> None:
    """Refuse to measure sides that do not answer the same."""
    wanted = {name: [float(value) for value in column] for name, column in sides["embedded"].read(batch).items()}
    for side, reader in sides.items():
        got = reader.read(batch)
        for name, column in wanted.items():
            pairs = zip(column, got[name], strict=True)
            if not all(a == b or (math.isnan(a) and (b is None or math.isnan(b))) for a, b in pairs):
                raise FlightdeckError(f"comparing the online reads: {side} answers {name} otherwise than the embedded")


def measure(sides: Mapping[str, Ours | Feast], flights: pd.DataFrame, rounds: int) -> dict[tuple[str, int], Cost]:
    """Return the median cost of a read for each side and batch size."""
    result = {}
    for size in N_BATCHES:
        batches = batches_of(flights, size)
        for reader in sides.values():
            reader.measure(batches)
        costs = [{side: reader.measure(batches) for side, reader in sides.items()} for _ in range(rounds)]
        for side in sides:
            cpu_us = statistics.median(cost[side].cpu_us for cost in costs)
            wall_us = statistics.median(cost[side].wall_us for cost in costs)
            result[side, size] = Cost(cpu_us, wall_us)
    return result


def server_cost(port: int, ours: Ours, flights: pd.DataFrame) -> Iterator[tuple[str, float]]:
    """Yield what one read of ours takes of the Redis server: CPU microseconds and bytes sent, by batch size."""
    with redis.Redis(port=port) as client:
        for size in N_BATCHES:
            batches = batches_of(flights, size) * SERVER_ROUNDS
            before = {**client.info("cpu"), **client.info("stats")}
            ours.measure(batches)
            after = {**client.info("cpu"), **client.info("stats")}
            used = {name: (float(after[name]) - float(before[name])) / len(batches) for name in USED}
            yield f"redis_server_us_{size}", round((used[USED[0]] + used[USED[1]]) * 1e6, 1)
            yield f"redis_bytes_per_read_{size}", round(used[USED[2]])


def report(costs: Mapping[tuple[str, int], Cost]) -> Iterator[tuple[str, float]]:
    """Yield the keys of the JSON line."""
    for size in N_BATCHES:
        yield f"read_us_{size}", round(costs["embedded", size].wall_us, 1)
    for ours, theirs in (("embedded", "feast_sqlite"), ("redis", "feast_redis")):
        ratios = {}
        for size in N_BATCHES:
            mine, its = costs[ours, size], costs[theirs, size]
            ratios[f"cpu_{size}"] = its.cpu_us / mine.cpu_us
            ratios[f"wall_{size}"] = its.wall_us / mine.wall_us
        yield f"ratio_{theirs}", round(min(ratios.values()), 2)
        yield from ((f"ratio_{theirs}_{name}", round(ratio, 2)) for name, ratio in ratios.items())
    for (side, size), cost in costs.items():
        yield f"{side}_cpu_us_{size}", round(cost.cpu_us, 1)
        yield f"{side}_wall_us_{size}", round(cost.wall_us, 1)


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    log = EventLog(layout().event_log)
    until_us = busiest(log)
    flights = due(log, until_us)
    with tempfile.TemporaryDirectory() as name, redis_server() as port, ExitStack() as stack:
        folder = Path(name)
        sides: dict[str, Ours | Feast] = {}
        sides["embedded"] = embedded = Ours(folder / "online", log, until_us)
        stack.callback(embedded.close)
        flights = seen(embedded, flights)
        views = finished(embedded, flights, until_us, folder)
        sides["feast_sqlite"] = Feast(folder / "sqlite", {"type": "sqlite", "path": str(folder / "feast.db")}, views)
        stack.callback(sides["feast_sqlite"].close)
        sides["redis"] = on_redis = Ours(f"redis://127.0.0.1:{port}/0", log, until_us)
        stack.callback(on_redis.close)
        address = {"type": "redis", "connection_string": f"127.0.0.1:{port},db=1"}
        sides["feast_redis"] = Feast(folder / "redis", address, views)
        stack.callback(sides["feast_redis"].close)
        require_equal(sides, batches_of(flights, 50)[0])
        told = {**dict(report(measure(sides, flights, rounds))), **dict(server_cost(port, on_redis, flights))}
    print(json.dumps({"benchmark": "online_read", "entities": len(flights), "rounds": rounds, **told}))


if __name__ == "__main__":
    try:
        main()
    except FlightdeckError as error:
        sys.exit(f"error: {error}")
