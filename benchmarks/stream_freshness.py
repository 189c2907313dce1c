"""From event to readable feature, with everything between: producer, event log, follower, store and a polling reader.

Three processes: one appends 20,000 events a second to the event log in appends of a quarter of a second, one follows
the log into LMDB with all checks, this one reads the features of a hot key and sees by the offset which appends are in.
An event's age is the time from its creation to the first answer that shows it; the wait for its append is part of it.
"""

import multiprocessing
import tempfile
import time
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np

from benchmarks.stream_embedded import CLICKS, EVENTS_PER_S, VIEWS, Clicks
from flightdeck.core.clock import SystemClock
from flightdeck.core.errors import FlightdeckError
from flightdeck.events.dead_letters import DeadLetters
from flightdeck.events.delivery import Reception
from flightdeck.events.log import EventLog
from flightdeck.events.offset import versions_of
from flightdeck.events.schema_history import SchemaHistory
from flightdeck.features.follow_log import LogSource
from flightdeck.features.follower import Follower, Pace
from flightdeck.features.materializer import Materializer
from flightdeck.features.online import OnlineReader
from flightdeck.features.store import OnlineStore

APPEND_US = 250_000
PER_APPEND = EVENTS_PER_S * APPEND_US // 1_000_000
N_WARM = 8  # appends that are not counted: processes start, states are new
READ_PAUSE_S = 0.002
TIMEOUT_S = 60.0


def freshness(seconds: float = 10.0) -> dict[str, float]:
    """Return milliseconds from an event's creation to the first answer that shows it.

    Returns
    -------
    dict
        `freshness_p50_ms`, `freshness_p99_ms`, `freshness_append_p99_ms` (of that: until the append was committed),
        `offered_events_per_s` (what the producer really managed).
    """
    n_appends = N_WARM + int(seconds * 1_000_000) // APPEND_US
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        log = EventLog(folder / "log")
        now_us = time.time_ns() // 1000
        log.append(CLICKS, Clicks(seed=0).make(PER_APPEND, now_us - APPEND_US, APPEND_US))
        store = OnlineStore.open(folder / "store", read_only=False)
        Materializer(store, VIEWS).backfill(log, now_us)
        store.close()
        stop, go, done = context.Event(), context.Event(), context.Queue()
        feeder = context.Process(target=_feed, args=(folder, stop), daemon=True)
        producer = context.Process(target=_produce, args=(folder, n_appends, go, done), daemon=True)
        feeder.start()
        producer.start()
        go.set()
        seen_us = _watch(folder, n_appends)
        first_us, appended_us = done.get(timeout=TIMEOUT_S)
        stop.set()
        for process in (producer, feeder):
            process.join(timeout=TIMEOUT_S)
    ages_ms, append_ms = [], []
    for place in range(N_WARM, n_appends):
        created_us = first_us + place * APPEND_US + np.linspace(0, APPEND_US, PER_APPEND, endpoint=False)
        ages_ms.append((seen_us[place] - created_us) / 1000)
        append_ms.append((appended_us[place] - created_us) / 1000)
    took_s = (appended_us[-1] - appended_us[N_WARM]) / 1e6
    return {
        "freshness_p50_ms": round(float(np.percentile(np.concatenate(ages_ms), 50)), 1),
        "freshness_p99_ms": round(float(np.percentile(np.concatenate(ages_ms), 99)), 1),
        "freshness_append_p99_ms": round(float(np.percentile(np.concatenate(append_ms), 99)), 1),
        "offered_events_per_s": round((n_appends - N_WARM - 1) * PER_APPEND / took_s),
    }


def _watch(folder: Path, n_appends: int) -> list[int]:
    """Return when the first answer showed each append, UTC microseconds."""
    store = OnlineStore.open(folder / "store", read_only=True)
    reader = OnlineReader(store, VIEWS)
    seen_us: list[int] = []
    deadline = time.monotonic() + TIMEOUT_S + n_appends * APPEND_US / 1e6
    while len(seen_us) < n_appends:
        version = versions_of(reader.read({"user": ["user-0"], "item": ["item-0"]}, 0).offset)[CLICKS.name]
        now_us = time.time_ns() // 1000
        seen_us += [now_us] * (version - len(seen_us))  # version 0 was there before
        if time.monotonic() > deadline:
            raise FlightdeckError(f"measuring freshness: {len(seen_us)} of {n_appends} appends became readable")
        time.sleep(READ_PAUSE_S)
    store.close()
    return seen_us


def _produce(folder: Path, n_appends: int, go: Event, done: "multiprocessing.Queue[tuple[int, list[int]]]") -> None:
    log, clicks, appended_us = EventLog(folder / "log"), Clicks(seed=1), []
    clicks.make(PER_APPEND, 0, 1)  # ids of the events that are there already
    go.wait()
    first_us = time.time_ns() // 1000 + 1_000_000
    for place in range(n_appends):
        table = clicks.make(PER_APPEND, first_us + place * APPEND_US, APPEND_US)
        left_us = first_us + (place + 1) * APPEND_US - time.time_ns() // 1000
        time.sleep(max(0, left_us) / 1e6)
        log.append(CLICKS, table)
        appended_us.append(time.time_ns() // 1000)
    done.put((first_us, appended_us))


def _feed(folder: Path, stop: Event) -> None:
    store = OnlineStore.open(folder / "store", read_only=False)
    source = LogSource(EventLog(folder / "log"), store, lock=folder / "store" / ".feed.lock", clock=SystemClock())
    reception = Reception(DeadLetters(folder / "dead"), SchemaHistory(folder))
    follower = Follower(source, store, [CLICKS], reception, pace=Pace(max_wait_s=0.1))
    while not stop.is_set():
        follower.step()
    source.close()
    store.close()
