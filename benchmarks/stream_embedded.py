"""Sustained feeding of the embedded store (LMDB): events a second of CPU, bytes of a key's state.

Three windowed views over keys of a Zipf distribution (exponent 1.05; 120,000 users, 5,000 items and their pairs). Half
of the events come first and fill the windows, spread over three hours; the measured half comes at 20,000 a second of
event time in batches of `Pace.max_events`. CPU is of the whole process and includes every commit; what contracts and
reading the log cost is not in it (the freshness figure has all of it).
"""

import tempfile
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flightdeck.events.stream import INSTANT, Stream
from flightdeck.features.aggregates import count, highest, mean, share, total
from flightdeck.features.follower import Pace
from flightdeck.features.materializer import Materializer
from flightdeck.features.state_layout import KEY_SEPARATOR
from flightdeck.features.store import OnlineStore
from flightdeck.features.stores import Mark
from flightdeck.features.view import FeatureView, windowed

CLICKS = Stream(
    "clicks",
    {"user": pa.string(), "item": pa.string(), "amount": pa.int64(), "is_new": pa.bool_()},
    slo_s=60,
)
OWNER = "benchmark"
VIEWS = (
    FeatureView("user", ("user",), "clicks", windowed(count(), mean("amount"), over="30m 3h"), OWNER),
    FeatureView("item", ("item",), "clicks", windowed(count(), total("amount"), highest("amount"), over="1h"), OWNER),
    FeatureView("user_item", ("user", "item"), "clicks", windowed(count(), share("is_new"), over="1h 1d"), OWNER),
)
N_USERS, N_ITEMS, EXPONENT = 120_000, 5_000, 1.05
FIRST_US = 1_378_987_200_000_000
FILL_US = 3 * 3600 * 1_000_000
EVENTS_PER_S = 20_000


class Clicks:
    """Makes events; the same seed makes the same ones."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._user, self._item = (_shares(n) for n in (N_USERS, N_ITEMS))
        self._n_made = 0

    def make(self, n_events: int, first_us: int, span_us: int) -> pa.Table:
        """Return events in order of knowledge, spread over `span_us`."""
        random = self._random
        created_us = np.sort(first_us + random.integers(0, span_us, n_events))
        first, self._n_made = self._n_made, self._n_made + n_events
        created = pa.array(created_us, pa.int64()).cast(INSTANT)
        columns = {
            "event_id": pa.array([f"click-{number}" for number in range(first, self._n_made)]),
            "event_timestamp": created,
            "created_timestamp": created,
            "source": pa.array(["benchmark"] * n_events),
            "source_offset": pa.array(np.arange(first, self._n_made)),
            "user": pa.array([f"user-{n}" for n in np.searchsorted(self._user, random.random(n_events)).tolist()]),
            "item": pa.array([f"item-{n}" for n in np.searchsorted(self._item, random.random(n_events)).tolist()]),
            "amount": pa.array(random.integers(0, 1000, n_events)),
            "is_new": pa.array(random.integers(0, 2, n_events) == 1),
        }
        return pa.table(columns)


def _shares(n_keys: int) -> npt.NDArray[np.float64]:
    weights = 1 / np.arange(1, n_keys + 1) ** EXPONENT
    return np.cumsum(weights) / weights.sum()


def embedded(n_events: int = 400_000, batch: int = Pace.max_events) -> dict[str, float]:
    """Return events a second of CPU and of wall time, and bytes of a key, of one run.

    Returns
    -------
    dict
        `embedded_events_per_s` (per CPU second), `embedded_wall_events_per_s`, `n_keys` (of all views),
        `bytes_per_key` (mean state), `bytes_of_largest_key`, `file_bytes_per_key`.
    """
    clicks = Clicks(seed=1)
    fill = [clicks.make(batch, FIRST_US + place, FILL_US) for place in range(n_events // batch)]
    start_us, span_us = FIRST_US + FILL_US + n_events, batch * 1_000_000 // EVENTS_PER_S
    live = [clicks.make(batch, start_us + place * span_us, span_us) for place in range(n_events // batch)]
    with tempfile.TemporaryDirectory() as folder:
        store = OnlineStore.open(Path(folder), read_only=False)
        with store.writing() as moment:
            for view in VIEWS:
                moment.declare(view)
                moment.set_mark(view, Mark(FIRST_US))
        materializer = Materializer(store)
        for place, table in enumerate(fill):
            materializer.apply({"clicks": table}, start_us - 1, f"clicks@{place}")
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        for place, table in enumerate(live):
            materializer.apply({"clicks": table}, start_us + (place + 1) * span_us, f"clicks@{len(fill) + place}")
        cpu_s, wall_s = time.process_time() - cpu_s, time.perf_counter() - wall_s
        sizes = _sizes(store, [*fill, *live])
        n_keys = len(sizes)
        file_bytes = (Path(folder) / "data.mdb").stat().st_size
        store.close()
    return {
        "embedded_events_per_s": round(len(live) * batch / cpu_s),
        "embedded_wall_events_per_s": round(len(live) * batch / wall_s),
        "n_keys": n_keys,
        "bytes_per_key": round(sum(sizes) / n_keys, 1),
        "bytes_of_largest_key": max(sizes),
        "file_bytes_per_key": round(file_bytes / n_keys, 1),
    }


def _sizes(store: OnlineStore, events: list[pa.Table]) -> list[int]:
    """Return the bytes of every state of all views."""
    sizes: list[int] = []
    table = pa.concat_tables(events)
    with store.reading() as moment:
        for view in VIEWS:
            rows = table.group_by(list(view.entity)).aggregate([]).to_pydict()
            keys = [KEY_SEPARATOR.join(key) for key in zip(*rows.values(), strict=True)]
            sizes += [len(state or b"") for state in moment.states(view, keys)]
    return sizes
