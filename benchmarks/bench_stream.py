"""Feeding the online stores: events a second, embedded and on Redis, freshness of what is read, bytes of a key.

Run: `python -m benchmarks.bench_stream [seconds of the freshness run]`; redis-server has to be installed. What is
measured, and what is not in it, say `stream_embedded.py`, `stream_freshness.py` and `stream_redis.py`.
"""

import json
import os
import statistics
import sys
from collections.abc import Callable, Mapping

from benchmarks.stream_embedded import embedded
from benchmarks.stream_freshness import freshness
from benchmarks.stream_redis import redis_events_per_s
from flightdeck.core.errors import FlightdeckError

ROUNDS = 3


def embedded_events_per_s() -> float:
    """Return the events a second of CPU that the embedded store takes in, three views each."""
    return embedded()["embedded_events_per_s"]


def bytes_per_key() -> float:
    """Return the mean bytes of a key's state."""
    return embedded()["bytes_per_key"]


def freshness_p99_ms() -> float:
    """Return the 99th percentile of milliseconds from an event to the first answer that shows it."""
    return freshness()["freshness_p99_ms"]


def median_of(measure: Callable[[], Mapping[str, float]]) -> dict[str, float]:
    """Return the median of each figure over some rounds."""
    runs = [measure() for _ in range(ROUNDS)]
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 20.0
    figures = {**median_of(embedded), **freshness(seconds), **median_of(redis_events_per_s)}
    print(json.dumps({"benchmark": "stream", "n_cpus": os.cpu_count(), **figures}))


if __name__ == "__main__":
    try:
        main()
    except FlightdeckError as error:
        sys.exit(f"error: {error}")
