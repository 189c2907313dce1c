"""The soak counts what really happened to a real server."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import soak
from benchmarks.seen import Seen
from benchmarks.serving_world import train
from flightdeck.core.errors import FlightdeckError

KEYS = {
    *("minutes", "capacity_per_s", "offered_per_s", "requests", "errors", "lost", "refused", "lower_rung"),
    *("p50_ms", "p95_ms", "p99_ms", "p99_ms_worst", "others_share", "rss_mb_start", "rss_mb_end", "rss_growth_pct"),
    *("log_mb", "log_files", "log_bytes_per_answer", "unlogged", "dropped", "service_log_kb"),
}


def test_a_short_soak_of_a_real_server_adds_up(tmp_path: Path) -> None:
    told = soak.run(0.05, 0.1, tmp_path, train(n_trees=4).files, capacity_s=1.0)
    assert set(told) == KEYS
    assert told["requests"] == pytest.approx(3 * told["offered_per_s"], rel=0.02)
    assert (told["lost"], told["unlogged"], told["dropped"]) == (0, 0, 0)
    assert told["errors"] == told["refused"]
    assert told["rss_mb_start"] > 20
    assert 100 < told["log_bytes_per_answer"] < 10_000


def test_a_slice_tells_apart_how_requests_failed() -> None:
    status = np.array([200, 200, 503, 0, 500])
    mode = np.array([1, 2, 0, 0, 0])
    times = np.arange(5, dtype=np.float64) * np.float64(0.001)
    found = soak.Slice.of(Seen(times, times, np.zeros(5), status, mode), 0.01)
    assert (found.n, found.n_errors, found.n_lost, found.n_refused, found.n_lower) == (5, 3, 1, 1, 1)
    assert found.p50_ms == pytest.approx(0.5)


def test_a_log_that_would_fill_the_disk_is_refused_before_it_begins(tmp_path: Path) -> None:
    soak.require_room(tmp_path, 1.0)
    with pytest.raises(FlightdeckError, match="the prediction log will take about"):
        soak.require_room(tmp_path, 1e18)
