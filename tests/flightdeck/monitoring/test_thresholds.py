"""Bounds from whole days keep their promise where a binomial formula alarms on half of all days."""

import numpy as np
import pytest

from flightdeck.monitoring.thresholds import MINIMUM_DAYS, Bounds, resampled_bounds

N_ROWS = 900


def day_gaps(random: np.random.Generator, n_days: int) -> np.ndarray:
    """Return calibration gaps of days with a shared shock, autocorrelated from day to day (flights.md, section 4)."""
    shock = np.zeros(n_days)
    for day in range(n_days):
        shock[day] = 0.3 * (shock[day - 1] if day else 0.0) + random.normal(0, 0.062)
    return shock + random.normal(0, 0.0134, n_days)


@pytest.mark.parametrize("is_two_sided", [True, False])
@pytest.mark.parametrize("rate", [0.02, 0.1])
def test_healthy_days_alarm_about_as_often_as_promised(rate: float, is_two_sided: bool) -> None:
    random = np.random.default_rng(3)
    alarms, naive, n_judged = 0, 0, 0
    for _ in range(40):
        bounds = resampled_bounds(
            day_gaps(random, 153), false_alarm_rate=rate, is_two_sided=is_two_sided, n_resamples=4000
        )
        assert bounds is not None
        fresh = day_gaps(random, 100)
        alarms += sum(bounds.broken_by(float(gap)) is not None for gap in fresh)
        naive += int((np.abs(fresh) > 3 * np.sqrt(0.2 * 0.8 / N_ROWS)).sum())
        n_judged += len(fresh)
    assert rate / 2 < alarms / n_judged < 2 * rate
    assert naive / n_judged > 0.4


def test_several_days_together_vary_less() -> None:
    values = day_gaps(np.random.default_rng(1), 150)
    one, week = (resampled_bounds(values, false_alarm_rate=0.05, is_two_sided=True, n_days=n_days) for n_days in (1, 7))
    assert one is not None and week is not None and one.low < week.low < week.high < one.high


def test_days_without_a_value_are_left_out_and_too_few_days_bound_nothing() -> None:
    values = np.append(np.linspace(0, 1, MINIMUM_DAYS), [np.nan, np.inf])
    assert resampled_bounds(values, false_alarm_rate=0.1, is_two_sided=False) is not None
    assert resampled_bounds(values[1:], false_alarm_rate=0.1, is_two_sided=False) is None
    assert resampled_bounds(np.empty(0), false_alarm_rate=0.1, is_two_sided=True) is None


def test_broken_by() -> None:
    bounds = Bounds(-1.0, 2.0)
    assert [bounds.broken_by(value) for value in (-1.5, -1.0, 0.0, 2.0, 2.5, float("nan"))] == [
        -1.0,
        None,
        None,
        None,
        2.0,
        None,
    ]
