"""Counts and latencies of the answers."""

import numpy as np

from flightdeck.monitoring.serving_stats import count_answers, degraded_share, p95_ms
from tests.flightdeck.monitoring.samples import prediction_rows


def test_counts_by_surface_mode_arm_and_version() -> None:
    rows = prediction_rows(
        4,
        surface=["search", "search", "alerts", "search"],
        mode=["model", "model", "model", "rules"],
        latency_ms=[1.0, 3.0, 5.0, 7.0],
    )
    found = count_answers(rows)
    assert found[["surface", "mode", "n", "p50_ms"]].to_numpy().tolist() == [
        ["alerts", "model", 1, 5.0],
        ["search", "model", 2, 2.0],
        ["search", "rules", 1, 7.0],
    ]
    assert degraded_share(rows) == 0.25


def test_p95_counts_a_request_once() -> None:
    rows = prediction_rows(
        20, request_id=["slow"] * 10 + [f"r{i}" for i in range(10)], latency_ms=[100.0] * 10 + [1.0] * 10
    )
    assert p95_ms(rows) == np.quantile([100.0] + [1.0] * 10, 0.95)


def test_nothing_answered() -> None:
    none = prediction_rows(0)
    assert count_answers(none).dtypes.equals(count_answers(prediction_rows(1)).dtypes)
    assert np.isnan(degraded_share(none)) and np.isnan(p95_ms(none))
