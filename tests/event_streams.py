"""Small streams of events for tests: real tables in a real log."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from flightdeck.events.log import EventLog
from flightdeck.events.stream import INSTANT
from pipelines.ingestion.streams import STREAMS

MINUTE_US = 60_000_000
NOON_US = 1_378_987_200_000_000  # 2013-09-12 12:00 UTC
CARRIERS = np.array(["UA", "DL", "B6"], dtype=object)
ORIGINS = np.array(["EWR", "JFK", "LGA"], dtype=object)
DESTS = np.array(["IAH", "MIA", "BOS"], dtype=object)
TAILS = np.array(["N1", "N2", "N3", ""], dtype=object)


def random_events(seed: int, n_events: int, *, first_us: int, last_us: int) -> dict[str, pa.Table]:
    """Return events of every stream with random keys, ties and gaps, known between two times."""
    random = np.random.default_rng(seed)
    return {stream.name: _table(stream.name, random, n_events, first_us, last_us) for stream in STREAMS}


def random_requests(seed: int, n_rows: int, *, first_us: int, last_us: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return entity columns and times of requests, some of unknown entities."""
    random = np.random.default_rng(seed + 1)
    columns = {
        "carrier": random.choice(CARRIERS, n_rows),
        "origin": random.choice(ORIGINS, n_rows),
        "dest": random.choice(np.append(DESTS, "XXX"), n_rows),
        "tailnum": random.choice(TAILS, n_rows),
    }
    return columns, random.integers(first_us, last_us, n_rows) // 1000 * 1000


def write_log(root: Path, events: dict[str, pa.Table]) -> EventLog:
    """Write events into a log below `root`."""
    log = EventLog(root)
    for stream in STREAMS:
        log.append(stream, events[stream.name])
    return log


def between(events: dict[str, pa.Table], after_us: int, until_us: int) -> dict[str, pa.Table]:
    """Return the events that became known in (after_us, until_us]."""
    kept = {}
    for name, table in events.items():
        created = table["created_timestamp"].cast(pa.int64()).to_numpy()
        kept[name] = table.filter(pa.array((created > after_us) & (created <= until_us)))
    return kept


def _table(name: str, random: np.random.Generator, n: int, first_us: int, last_us: int) -> pa.Table:
    stream = next(stream for stream in STREAMS if stream.name == name)
    created = np.sort(random.integers(first_us, last_us, n) // 1_000_000 * 1_000_000)
    if n > 4:
        created[1:4] = created[1]
    delay = random.integers(-20, 200, n)
    values = {
        "event_id": [f"{name}-{i:05d}" for i in range(n)],
        "event_timestamp": pa.array(created - 2 * MINUTE_US).cast(INSTANT),
        "created_timestamp": pa.array(created).cast(INSTANT),
        "source": ["test"] * n,
        "source_offset": np.arange(n),
        "flight_id": [f"2013-09-12:{name}:{i}" for i in range(n)],
        "carrier": random.choice(CARRIERS, n),
        "origin": random.choice(ORIGINS, n),
        "dest": random.choice(DESTS, n),
        "tailnum": [tail or None for tail in random.choice(TAILS, n)],
        "dep_delay_min": delay,
        "arr_delay_min": delay,
        "is_late": (delay >= 15).astype(np.int64),
        "flight": random.integers(1, 999, n),
        "scheduled_departure": pa.array(created).cast(INSTANT),
        "scheduled_arrival": pa.array(created + 90 * MINUTE_US).cast(INSTANT),
        "origin_utc_offset_min": np.full(n, -240),
        "distance_miles": random.integers(100, 2000, n),
    }
    measures = {field: random.normal(50, 10, n).round(2) for field in stream.payload if field not in values}
    return stream.cast(pa.table({field: pa.array({**values, **measures}[field]) for field in stream.schema.names}))
