"""LMDB against SQLite as the embedded store's ground: what committing a batch and reading four keys take.

The work of a materializer's batch (read 20,000 states of 400 bytes, write them back, one commit, with what each side
calls durable against a killed process) and of a request (four keys, one moment). Same keys, same bytes, one process.

Run: `python -m benchmarks.bench_online_store`
"""

import json
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.stream_embedded import VIEWS
from flightdeck.features.store import OnlineStore
from flightdeck.features.stores import Mark

N_KEYS, N_BATCH, N_BATCHES, N_READS, STATE = 200_000, 20_000, 10, 3000, b"s" * 400
VIEW = VIEWS[0]


class Lmdb:
    def __init__(self, folder: Path) -> None:
        self._store = OnlineStore.open(folder / "lmdb", read_only=False)

    def advance(self, keys: Sequence[str]) -> None:
        with self._store.writing() as moment:
            moment.states(VIEW, keys)
            moment.put(VIEW, keys, [STATE] * len(keys))
            moment.set_mark(VIEW, Mark(1))

    def read(self, keys: Sequence[str]) -> int:
        return len(self._store.read([(VIEW, keys)]).states[0])


class Sqlite:
    def __init__(self, folder: Path) -> None:
        self._store = sqlite3.connect(folder / "sqlite", isolation_level=None)
        self._store.execute("PRAGMA journal_mode=WAL")
        self._store.execute("PRAGMA synchronous=NORMAL")
        self._store.execute("CREATE TABLE states (key TEXT PRIMARY KEY, state BLOB) WITHOUT ROWID")

    def advance(self, keys: Sequence[str]) -> None:
        self._store.execute("BEGIN IMMEDIATE")
        for first in range(0, len(keys), 500):
            self._select(keys[first : first + 500])
        self._store.executemany("INSERT OR REPLACE INTO states VALUES (?, ?)", [(key, STATE) for key in keys])
        self._store.execute("COMMIT")

    def read(self, keys: Sequence[str]) -> int:
        return len(self._select(keys))

    def _select(self, keys: Sequence[str]) -> list[tuple[str, bytes]]:
        marks = ",".join("?" * len(keys))
        return self._store.execute(f"SELECT key, state FROM states WHERE key IN ({marks})", keys).fetchall()  # noqa: S608


def cpu_us(work: Callable[[list[str]], object], batches: Sequence[list[str]]) -> float:
    """Return the mean microseconds of CPU of one call."""
    start = time.process_time()
    for batch in batches:
        work(batch)
    return (time.process_time() - start) / len(batches) * 1e6


def main() -> None:
    random = np.random.default_rng(0)
    keys = np.array([f"user-{n}" for n in range(N_KEYS)], dtype=object)
    figures: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        for side in (Lmdb(Path(name)), Sqlite(Path(name))):
            label = type(side).__name__.lower()
            for first in range(0, N_KEYS, N_BATCH):
                side.advance(keys[first : first + N_BATCH].tolist())
            for _ in range(3):
                writes = [random.choice(keys, N_BATCH, replace=False).tolist() for _ in range(N_BATCHES)]
                reads = [random.choice(keys, 4, replace=False).tolist() for _ in range(N_READS)]
                figures.setdefault(f"{label}_commit_us_per_key", []).append(cpu_us(side.advance, writes) / N_BATCH)
                figures.setdefault(f"{label}_read_us", []).append(cpu_us(side.read, reads))
    print(json.dumps({"benchmark": "online_store", **{n: round(statistics.median(v), 2) for n, v in figures.items()}}))


if __name__ == "__main__":
    main()
