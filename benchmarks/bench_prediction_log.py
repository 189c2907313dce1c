"""What logging costs the loop: frames against the JSON lines that the log was before, in one run.

A batch has 1, 16 or 64 answered items with 75 float32 features. Both sides write to a file on the same disk by one
`os.write` a batch, from records that are already made: columns here, dictionaries there. Rounds are interleaved; the
median over rounds is reported of CPU microseconds an item, and the 99th percentile of a call. `ratio_json_*` is JSON
lines' CPU to ours. Then the log is read and made Parquet; microseconds a record.

Run: `python -m benchmarks.bench_prediction_log [rounds]`.
"""

import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from flightdeck.core.clock import SystemClock
from flightdeck.inference.prediction_log import PredictionLogWriter
from flightdeck.inference.prediction_log_batch import FeatureGroup, LogBatch
from flightdeck.inference.prediction_log_compact import compact, compacting
from flightdeck.monitoring.prediction_log import read_predictions

SIZES = (1, 16, 64)
N_FEATURES = 75
N_ITEMS = 6_400
NOW_US = 1_378_987_200_000_000
DIGEST = "5f" * 32


class Cost(NamedTuple):
    """CPU and 99th percentile of the wall time, microseconds."""

    cpu_us_item: float
    p99_us_call: float


class JsonLines:
    """The former writer: the records of a batch as whole JSON lines, one write."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_EXCL | os.O_CLOEXEC, 0o644)
        self._encoder = msgspec.json.Encoder()

    def append(self, records: Sequence[dict[str, Any]]) -> None:
        lines = self._encoder.encode_lines(records)
        os.fstat(self._descriptor)
        if os.write(self._descriptor, lines) != len(lines):
            raise OSError("the disk is full")

    def close(self) -> None:
        os.close(self._descriptor)


def make_batch(first: int, n: int) -> LogBatch:
    """Return answers to `n` single-item requests that waited together."""
    random = np.random.default_rng(first)
    rows = range(first, first + n)
    at_us = np.full(n, NOW_US) + np.arange(first, first + n)
    text = {"carrier": "UA DL B6 AA", "origin": "EWR JFK LGA", "dest": "IAH MIA BOS SFO"}
    request = {
        name: np.array([values.split()[row % len(values.split())] for row in rows], dtype=object)
        for name, values in text.items()
    }
    request["tailnum"] = np.array([f"N{row}UA" for row in rows], dtype=object)
    whole = ("flight_number", "scheduled_departure_us", "scheduled_arrival_us", "origin_utc_offset_min")
    request |= dict.fromkeys((*whole, "distance_miles"), at_us)
    return LogBatch(
        request_id=[f"0123456789abcdef{row:016d}" for row in rows],
        item=np.zeros(n, dtype=np.int64),
        surface=["search"] * n,
        unit_id=[f"traveller-{row}" for row in rows],
        flight_id=[f"2013-09-12:UA:{row}:EWR" for row in rows],
        mode=["model"] * n,
        reason=[None] * n,
        arm=["champion"] * n,
        decision=[("low", "moderate")[row % 2] for row in rows],
        model_version=[3] * n,
        bundle_digest=[DIGEST] * n,
        feature_offset=["arrived@5,departed@7,scheduled@9"] * n,
        probability=random.random(n),
        latency_ms=np.full(n, 1.25),
        logged_at_us=at_us,
        request_us=at_us,
        feature_us=at_us,
        watermark_us=at_us,
        request=request,
        features=[FeatureGroup(DIGEST, random.random((n, N_FEATURES), dtype=np.float32))],
    )


def as_records(batch: LogBatch) -> list[dict[str, Any]]:
    """Return the batch as the former log's records."""
    plain = ("request_id", "surface", "unit_id", "flight_id", "mode", "reason", "arm", "decision", "model_version")
    numbers = ("item", "probability", "latency_ms", "request_us", "feature_us", "watermark_us")
    values = batch.features[0].values
    return [
        {
            **{name: getattr(batch, name)[row] for name in (*plain, "bundle_digest", "feature_offset")},
            **{name: getattr(batch, name)[row].item() for name in numbers},
            "logged_at": "2013-09-12T12:00:00.000+00:00",
            "flight": {name: column.tolist()[row] for name, column in batch.request.items()},
            "features": values[row].astype(np.float64).tolist(),
        }
        for row in range(len(batch))
    ]


def measure(append: Callable[[Any], object], batches: Sequence[Any], size: int) -> Cost:
    walls, cpu = [], time.process_time()
    for batch in batches:
        wall = time.perf_counter()
        append(batch)
        walls.append(time.perf_counter() - wall)
    cpu = time.process_time() - cpu
    return Cost(cpu / (len(batches) * size) * 1e6, float(np.percentile(walls, 99)) * 1e6)


def compare(folder: Path, rounds: int) -> dict[str, float]:
    """Return the cost of appending on both sides, by batch size."""
    told: dict[str, float] = {}
    ours, former = PredictionLogWriter(folder / "log", SystemClock()), JsonLines(folder / "former.jsonl")
    for size in SIZES:
        batches = [make_batch(first, size) for first in range(0, N_ITEMS if size > 1 else N_ITEMS // 4, size)]
        records = [as_records(batch) for batch in batches]
        found: dict[str, list[Cost]] = {"frame": [], "json": []}
        for _ in range(rounds):
            found["frame"].append(measure(ours.append, batches, size))
            found["json"].append(measure(former.append, records, size))
        for side, costs in found.items():
            told[f"{side}_cpu_us_item_{size}"] = round(statistics.median(cost.cpu_us_item for cost in costs), 2)
            told[f"{side}_p99_us_call_{size}"] = round(statistics.median(cost.p99_us_call for cost in costs), 1)
        told[f"ratio_json_{size}"] = round(told[f"json_cpu_us_item_{size}"] / told[f"frame_cpu_us_item_{size}"], 2)
    ours.close()
    former.close()
    if ours.n_dropped:
        raise OSError(f"{ours.n_dropped} records were dropped: free the disk and measure again")
    n_bytes = sum(path.stat().st_size for path in (folder / "log").iterdir())
    told["frame_bytes_item"] = round(n_bytes / ours.n_written)
    told["json_bytes_item"] = round((folder / "former.jsonl").stat().st_size / ours.n_written)
    return {**told, **read_and_compact(folder / "log", ours.n_written)}


def read_and_compact(folder: Path, n: int) -> dict[str, float]:
    """Return what it costs to read the log, and to make it columnar."""
    told = {}
    started = time.process_time()
    read_predictions(folder)
    told["read_us_item"] = round((time.process_time() - started) / n * 1e6, 2)
    started = time.process_time()
    with compacting(folder):
        compact(folder)
    told["columnar_us_item"] = round((time.process_time() - started) / n * 1e6, 2)
    told["parquet_bytes_item"] = round(sum(path.stat().st_size for path in folder.glob("*.parquet")) / n)
    return told


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 11
    with tempfile.TemporaryDirectory() as name:
        told = compare(Path(name), rounds)
    print(json.dumps({"benchmark": "prediction_log", "features": N_FEATURES, "rounds": rounds, **told}))


if __name__ == "__main__":
    main()
