"""Drift is judged by the reference's own days, and no odd column keeps the others from being judged."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from flightdeck.monitoring.drift import TABLE_TYPES, measure_drift, no_drift, render_report
from tests.flightdeck.monitoring.samples import monitoring_settings

N_DAYS, A_DAY = 60, 100
SETTINGS = monitoring_settings()


def block_days(random: np.random.Generator, n_days: int, shift: float = 0.0) -> tuple[pd.DataFrame, np.ndarray]:
    """Return rows whose days each have a level of their own, as weather has."""
    day = np.repeat(np.arange(n_days), A_DAY)
    level = random.normal(0, 1, n_days)[day] + shift
    frame = pd.DataFrame(
        {
            "weather": level + random.normal(0, 1, len(day)),
            "speed": random.normal(0, 1, len(day)) + shift,
            "carrier": random.choice(["UA", "DL", "B6"], len(day)),
            "probability": 1 / (1 + np.exp(-level - random.normal(0, 1, len(day)))),
        }
    )
    return frame, day


@pytest.fixture(scope="module")
def reference() -> tuple[pd.DataFrame, np.ndarray]:
    return block_days(np.random.default_rng(0), N_DAYS)


def test_healthy_days_seldom_alarm(reference: tuple[pd.DataFrame, np.ndarray]) -> None:
    random = np.random.default_rng(1)
    days = [measure_drift(*reference, block_days(random, 1)[0], SETTINGS) for _ in range(60)]
    share = np.mean([day.table["breached"] for day in days], axis=0)
    assert (share < 3 * SETTINGS.false_alarm_rate).all()
    weather = days[0].table.set_index("column").loc["weather"]
    assert weather["threshold"] > 0.5  # far above the customary 0.25: days differ
    assert all(day.n_breached_limit >= 1 for day in days)


def test_a_shift_is_found_and_named(reference: tuple[pd.DataFrame, np.ndarray]) -> None:
    current, _ = block_days(np.random.default_rng(2), 1, shift=4.0)
    drift = measure_drift(*reference, current, SETTINGS)
    found = drift.table.set_index("column")
    assert found["breached"].to_dict() == {"weather": True, "speed": True, "carrier": False, "probability": True}
    assert drift.n_breached == 2 and found["kind"]["probability"] == "prediction"


@pytest.mark.parametrize(
    ("odd", "is_breached"), [(np.nan, True), (np.inf, True), (0.0, True)], ids=["empty", "infinite", "constant"]
)
def test_odd_current_columns_are_drift_and_harm_no_other(
    reference: tuple[pd.DataFrame, np.ndarray], odd: float, is_breached: bool
) -> None:
    current = block_days(np.random.default_rng(3), 1)[0].assign(speed=odd)
    drift = measure_drift(*reference, current, SETTINGS)
    found = drift.table.set_index("column")
    assert found["breached"]["speed"] == is_breached and found["psi"].notna().all()
    page = render_report(reference[0], current, drift, SETTINGS)
    assert "carrier" in page and "</html>" in page


@pytest.mark.parametrize("odd", [np.nan, np.inf, 1.0], ids=["empty", "infinite", "constant"])
def test_odd_reference_columns(reference: tuple[pd.DataFrame, np.ndarray], odd: float) -> None:
    rows, day = reference
    current = block_days(np.random.default_rng(3), 1)[0]
    drift = measure_drift(rows.assign(speed=odd), day, current.assign(speed=odd), SETTINGS)
    assert drift.table.set_index("column")["psi"]["speed"] == 0
    assert "</html>" in render_report(rows.assign(speed=odd), current.assign(speed=odd), drift, SETTINGS)


def test_missing_column_and_small_sample_are_not_judged(reference: tuple[pd.DataFrame, np.ndarray]) -> None:
    current = block_days(np.random.default_rng(3), 1)[0]
    found = measure_drift(*reference, current.drop(columns="speed"), SETTINGS).table.set_index("column")
    assert np.isnan(found["psi"]["speed"]) and found["note"]["speed"] == "not among the current columns"
    small = measure_drift(*reference, current.iloc[:49], SETTINGS)
    assert small.table["psi"].isna().all() and not small.table["breached"].any()
    assert "49 comparable predictions" in render_report(reference[0], current.iloc[:49], small, SETTINGS)


def test_nothing_to_compare() -> None:
    empty = pd.DataFrame()
    drift = measure_drift(empty, np.empty(0, np.int64), empty, SETTINGS)
    assert list(drift.table.columns) == list(TABLE_TYPES) and drift.n_breached == 0
    assert "no champion" in render_report(empty, empty, no_drift(), SETTINGS)


def test_evidently_is_imported_late() -> None:
    code = "import sys, flightdeck.monitoring.drift; assert 'evidently' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
