"""The offline join beyond memory: 10 million requests over 100 million events in parts, with keys as skewed as life.

Events come 3.3 million a day; users and items follow a power law (the busiest user has 5 % of all events).
Requests are for users drawn from the same law, at random times. The task is `join_in_parts` from Parquet to Parquet,
for windows of an hour and a day, the latest event and the number of different items. It is done for a tenth of the size
first: `scaling_exponent` is the slope of log CPU seconds over log size, 1 is linear.

Run: `python -m benchmarks.bench_features_scale [requests] [--folder /tmp]`; events are ten times the requests.
"""

import argparse
import json
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from flightdeck.core.errors import FlightdeckError
from flightdeck.events.stream import INSTANT
from flightdeck.features.aggregates import count, distinct, highest, mean
from flightdeck.features.partitioned import Budget, join_in_parts
from flightdeck.features.view import DAY_S, FeatureView, Latest, windowed

VIEWS = (
    FeatureView(
        "user", ("user",), "clicks", windowed(count(), mean("amount"), highest("amount"), over="1h 1d"), "bench"
    ),
    FeatureView("user_items", ("user",), "clicks", windowed(distinct("item"), over="1h"), "bench"),
    FeatureView("pair", ("user", "item"), "clicks", windowed(count(), over="1d"), "bench"),
    FeatureView("item", ("item",), "clicks", windowed(count(), mean("amount"), over="1h"), "bench"),
    FeatureView("user_latest", ("user",), "clicks", Latest(("amount",)), "bench", ttl_s=DAY_S),
)
EVENTS_A_REQUEST = 10
EVENTS_A_DAY = 3_333_333
START_US = 1_356_998_400_000_000  # 2013-01-01
CHUNK = 2_000_000
N_USERS, N_ITEMS = 1_000_000, 20_000


def generate(folder: Path, n_requests: int) -> tuple[ds.Dataset, ds.Dataset]:
    """Write events in order of time and requests, and return both as datasets."""
    random = np.random.default_rng(3)
    n_events = n_requests * EVENTS_A_REQUEST
    span_us = int(n_events / EVENTS_A_DAY * DAY_S * 1e6)
    users = pa.array([f"u{number}" for number in range(N_USERS)])
    items = pa.array([f"i{number}" for number in range(N_ITEMS)])
    (folder / "events").mkdir(parents=True)
    for place, first in enumerate(range(0, n_events, CHUNK)):
        n = min(CHUNK, n_events - first)
        created = np.sort(random.integers(span_us * first // n_events, span_us * (first + n) // n_events, n)) + START_US
        table = pa.table(
            {
                "event_id": pa.array(np.arange(first, first + n)).cast(pa.string()),
                "created_timestamp": pa.array(created).cast(INSTANT),
                "user": users.take(pa.array(skewed(random, N_USERS, n))),
                "item": items.take(pa.array(skewed(random, N_ITEMS, n))),
                "amount": pa.array(random.integers(0, 500, n)),
            }
        )
        pq.write_table(table, folder / "events" / f"{place:05d}.parquet", row_group_size=250_000)
    requests = pa.table(
        {
            "row": np.arange(n_requests),
            "user": users.take(pa.array(skewed(random, N_USERS, n_requests))),
            "item": items.take(pa.array(skewed(random, N_ITEMS, n_requests))),
            "at": START_US + np.sort(random.integers(0, span_us, n_requests)),
        }
    )
    pq.write_table(requests, folder / "requests.parquet", row_group_size=250_000)
    return ds.dataset(folder / "events"), ds.dataset(folder / "requests.parquet")


def skewed(random: np.random.Generator, n: int, size: int) -> np.ndarray:
    """Return numbers below n of which the small ones are frequent: the probability of k falls as 1 / (k + 1)."""
    drawn = np.exp(random.random(size) * np.log(n + 1)).astype(np.int64) - 1
    return np.asarray(np.minimum(drawn, n - 1))


def measure(n_requests: int, folder: Path) -> dict[str, Any]:
    """Return CPU and wall seconds of one size."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        events, requests = generate(Path(name) / "data", n_requests)
        pa.default_memory_pool().release_unused()
        cpu, wall = time.process_time(), time.perf_counter()
        parts = join_in_parts(VIEWS, {"clicks": events}, requests, Path(name) / "joined", budget=Budget())
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        n_rows = sum(pq.read_metadata(part).num_rows for part in parts)
        if n_rows != n_requests:
            raise FlightdeckError(f"joining {n_requests:,} requests gave {n_rows:,} rows")
    return {"rows": n_rows, "cpu_s": round(cpu, 2), "wall_s": round(wall, 2), "parts": len(parts)}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_features_scale")
    parser.add_argument("requests", type=int, nargs="?", default=10_000_000)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    arguments = parser.parse_args()
    free = shutil.disk_usage(arguments.folder).free
    needed = arguments.requests * EVENTS_A_REQUEST * 40
    if free < needed:
        raise FlightdeckError(
            f"measuring {arguments.requests:,} requests: {arguments.folder} has {free >> 20:,} MiB free, "
            f"{needed >> 20:,} are needed",
            next_step="name a larger folder by --folder, or fewer requests",
        )
    small = measure(arguments.requests // 10, arguments.folder)
    small_rss_mb = peak_rss_mb()
    large = measure(arguments.requests, arguments.folder)
    result = {
        "benchmark": "features_scale",
        "rows": large["rows"],
        "events": large["rows"] * EVENTS_A_REQUEST,
        "n_features": sum(len(view.columns) for view in VIEWS),
        "cpu_s": large["cpu_s"],
        "wall_s": large["wall_s"],
        "parts": large["parts"],
        "rows_per_cpu_s": round(large["rows"] / large["cpu_s"]),
        "peak_rss_mb": peak_rss_mb(),
        "scaling_exponent": round(float(np.log10(large["cpu_s"] / small["cpu_s"])), 3),
        "tenth": {**small, "peak_rss_mb": small_rss_mb},
    }
    print(json.dumps(result))


def peak_rss_mb() -> float:
    """Return the most memory that this process ever held."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


if __name__ == "__main__":
    try:
        main()
    except FlightdeckError as error:
        sys.exit(f"error: {error}")
