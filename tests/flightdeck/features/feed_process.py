"""Processes that tests start and kill: one that appends to a log, one that feeds a store from it."""

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa

from flightdeck.core.clock import SystemClock
from flightdeck.events.dead_letters import DeadLetters
from flightdeck.events.delivery import Reception
from flightdeck.events.log import EventLog
from flightdeck.events.schema_history import SchemaHistory
from flightdeck.features.feed_status import FeedStatus
from flightdeck.features.follow_log import LogSource
from flightdeck.features.follower import Follower, Pace, run_materializer
from flightdeck.features.store import OnlineStore
from pipelines.ingestion.streams import STREAMS
from tests.event_streams import MINUTE_US, NOON_US, random_events

N_EVENTS, N_APPENDS, SEED = 3000, 60, 11
START_US = NOON_US - 300 * MINUTE_US


def produced() -> dict[str, pa.Table]:
    """Return what the producer appends: every stream's events, out of order."""
    events = random_events(SEED, N_EVENTS, first_us=START_US, last_us=NOON_US)
    order = np.arange(N_EVENTS) + np.random.default_rng(SEED).integers(0, 400, N_EVENTS)
    return {name: table.take(pa.array(np.argsort(order, kind="stable"))) for name, table in events.items()}


def produce(root: Path) -> None:
    """Append the events in many small batches, each of which repeats some of the one before."""
    log, events = EventLog(root), produced()
    size = N_EVENTS // N_APPENDS
    for first in range(0, N_EVENTS, size):
        for stream in STREAMS:
            log.append(stream, events[stream.name].slice(max(0, first - 5), size + 5))


def follower_of(root: Path, folder: Path) -> Follower:
    """Return a follower of a log whose watermark follows the events."""
    store = OnlineStore.open(folder / "store", read_only=False)
    clock = SystemClock()
    source = LogSource(EventLog(root), store, lock=folder / "store" / ".feed.lock", clock=clock, event_time=True)
    reception = Reception(DeadLetters(folder / "dead"), SchemaHistory(folder))
    status = FeedStatus(folder / f"status-{sys.argv[-1]}.json", port=0)
    pace = Pace(max_events=500, max_wait_s=0.05, report_s=0.0)
    return Follower(source, store, STREAMS, reception, status=status, pace=pace)


if __name__ == "__main__":
    if sys.argv[1] == "produce":
        produce(Path(sys.argv[2]))
    else:
        run_materializer(follower_of(Path(sys.argv[2]), Path(sys.argv[3])))
