"""A log of a tenth of the units gives the estimates of the whole log, within what units drawn by chance differ by."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dashboards.live_traffic import LiveTraffic
from flightdeck.core.clock import SystemClock
from flightdeck.inference.prediction_log import PredictionLogWriter
from flightdeck.monitoring.prediction_log import read_predictions
from flightdeck.monitoring.quality import measure_quality, quality_by_window
from flightdeck.monitoring.serving_stats import count_answers, count_modes, degraded_share, p95_ms
from tests.event_streams import NOON_US
from tests.predictions import log_batch

N_UNITS, N_ITEMS, RATE = 4_000, 4, 0.1
N_RESAMPLES, N_ERRORS = 200, 4.0
Estimate = Callable[[pd.DataFrame], float]


def answered() -> list[dict[str, Any]]:
    """Return records of units that ask on two surfaces: search is likelier late, slower and oftener degraded."""
    random = np.random.default_rng(5)
    records: list[dict[str, Any]] = []
    for unit in range(N_UNITS):
        is_search = unit % 2 == 0
        habit = random.normal(0.6 if is_search else -1.2, 0.8)
        for item in range(N_ITEMS):
            probability = float(1 / (1 + np.exp(-(habit + random.normal(0, 0.5)))))
            records.append(
                {
                    "request_id": f"r{unit}",
                    "item": item,
                    "unit_id": f"u{unit}",
                    "flight_id": f"f{unit}-{item}",
                    "surface": "search" if is_search else "alerts",
                    "mode": "rules" if random.random() < (0.2 if is_search else 0.02) else "model",
                    "probability": probability,
                    "latency_ms": float(random.lognormal(2.0 if is_search else 0.5, 0.3)),
                    "request_us": NOON_US + unit,
                }
            )
    return records


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The log of the same answers, whole and with a tenth of the units of search."""
    records, made = answered(), []
    for rates in ({}, {"search": RATE}):
        folder = tmp_path_factory.mktemp("log")
        writer = PredictionLogWriter(folder, SystemClock(), sampling_rates=rates)
        for start in range(0, len(records), 1000):
            writer.append(log_batch(records[start : start + 1000]))
        writer.close()
        made.append(folder)
    return made[0], made[1]


@pytest.fixture(scope="module")
def logs(folders: tuple[Path, Path]) -> tuple[pd.DataFrame, pd.DataFrame]:
    whole, sampled = (with_labels(read_predictions(folder)) for folder in folders)
    assert len(whole) == N_UNITS * N_ITEMS
    assert len(sampled) < 0.6 * len(whole)
    return whole, sampled


def with_labels(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with an outcome that their flight alone decides, so that it is the same in both logs.

    Of search the probabilities say little.
    """
    says = np.where(rows["surface"] == "search", 0.6 - 0.2 * rows["probability"], rows["probability"])
    draw = rows["flight_id"].map(lambda flight: np.random.default_rng(int(flight[1:].replace("-", ""))).random())
    return rows.assign(label=(draw < says).astype(float), is_mature=True)


def measure(name: str) -> Estimate:
    def estimate(rows: pd.DataFrame) -> float:
        return measure_quality(*(rows[column].to_numpy() for column in ("label", "probability", "weight")))[name]

    return estimate


def in_window(name: str) -> Estimate:
    return lambda rows: float(quality_by_window(rows, 3600)[name].iloc[0])


def answers_of_search(rows: pd.DataFrame) -> float:
    table = count_answers(rows)
    return float(table.loc[table["surface"] == "search", "n"].sum())


ESTIMATES: dict[str, Estimate] = {
    **{name: measure(name) for name in ("positive_rate", "mean_probability", "auc", "log_loss", "brier")},
    **{f"{name} of a window": in_window(name) for name in ("positive_rate", "auc")},
    "degraded share": degraded_share,
    "p95": p95_ms,
    "answers of search": answers_of_search,
    "answers by rules": lambda rows: float(count_modes(rows)["rules"]),
}


@pytest.mark.parametrize("name", ESTIMATES)
def test_a_sampled_log_estimates_what_the_whole_log_says(name: str, logs: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    whole, sampled = logs
    estimate = ESTIMATES[name]
    truth, found, error = estimate(whole), estimate(sampled), standard_error(sampled, estimate)
    assert abs(found - truth) < N_ERRORS * error, f"{found} with an error of {error}, the whole log says {truth}"
    without = estimate(sampled.assign(weight=1.0))
    assert abs(without - truth) > N_ERRORS * error, "weights matter here"


def standard_error(rows: pd.DataFrame, estimate: Estimate) -> float:
    """Return the standard error of an estimate when units are drawn, as `prediction_log_sampling` asks for."""
    random = np.random.default_rng(3)
    units, places = np.unique(rows["unit_id"], return_inverse=True)
    found = []
    for _ in range(N_RESAMPLES if len(rows) else 0):
        times = random.multinomial(len(units), np.full(len(units), 1 / len(units)))[places]
        drawn = rows[times > 0]
        found.append(estimate(drawn.assign(weight=drawn["weight"] * times[times > 0])))
    return float(np.std(found))


def test_the_dashboard_counts_what_records_stand_for(folders: tuple[Path, Path]) -> None:
    whole, sampled = (LiveTraffic(folder) for folder in folders)
    for traffic in (whole, sampled):
        traffic.refresh()
    counted = [traffic.latest().groupby("surface")["n"].sum() for traffic in (whole, sampled)]
    assert counted[0]["alerts"] == counted[1]["alerts"] == N_UNITS * N_ITEMS / 2
    kept = N_UNITS / 2 * RATE
    error = N_ITEMS * np.sqrt(kept * (1 - RATE)) / RATE
    assert abs(counted[0]["search"] - counted[1]["search"]) < N_ERRORS * error
    assert whole.n_requests == N_UNITS
    assert abs(sampled.n_requests - N_UNITS) < N_ERRORS * error / N_ITEMS
