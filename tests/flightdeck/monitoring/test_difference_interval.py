"""The interval covers the truth at every look, narrows, and stays inside its range."""

import numpy as np
import pytest

from flightdeck.monitoring.difference_interval import difference_interval
from flightdeck.release.judge.standing import proof_bar

ALPHA = 0.05
BAR = proof_bar(ALPHA, 2)


def test_equal_arms_are_told_apart_by_chance_only_however_often_one_looks() -> None:
    """The end that was refuted once stays refuted, so the last look stands for all 1,500 of them."""
    n_runs, n_wrong = 300, 0
    for seed in range(n_runs):
        rng = np.random.default_rng(seed)
        is_second = rng.random(1500) < 0.3
        values = rng.beta(1.5, 5, 1500)
        interval = difference_interval(values, is_second, 0.3, BAR)
        n_wrong += not interval.low <= 0 <= interval.high
    assert n_wrong <= ALPHA * n_runs


def test_values_that_hang_together_do_no_harm() -> None:
    """Whole days that are late shift both arms alike: only the dealing is random."""
    n_wrong = 0
    for seed in range(200):
        rng = np.random.default_rng(1000 + seed)
        day = np.repeat(rng.random(10) < 0.3, 150).astype(float)
        interval = difference_interval(day, rng.random(1500) < 0.5, 0.5, BAR)
        n_wrong += not interval.low <= 0 <= interval.high
    assert n_wrong <= ALPHA * 200


def test_a_true_difference_is_covered_and_found() -> None:
    found = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        is_second = rng.random(6000) < 0.5
        values = (rng.random(6000) < np.where(is_second, 0.35, 0.25)).astype(float)
        found.append(difference_interval(values, is_second, 0.5, BAR))
    assert all(interval.low > 0 for interval in found)
    assert sum(interval.low <= 0.10 <= interval.high for interval in found) >= 19


def test_another_look_never_widens_it() -> None:
    rng = np.random.default_rng(5)
    is_second, values = rng.random(3000) < 0.5, rng.random(3000)
    looks = [difference_interval(values[:n], is_second[:n], 0.5, BAR) for n in (10, 100, 1000, 3000)]
    lows, highs = [look.low for look in looks], [look.high for look in looks]
    assert lows == sorted(lows) and highs == sorted(highs, reverse=True)
    assert lows[-1] > -0.1 and highs[-1] < 0.1


def test_weights_are_those_of_the_population() -> None:
    """Units of a surface of which one in ten is logged weigh ten: their effect is the one that is found."""
    rng = np.random.default_rng(3)
    n = 20_000
    is_second, is_sampled = rng.random(n) < 0.5, rng.random(n) < 0.5
    values = np.where(is_second & is_sampled, 0.8, 0.4)
    weighted = difference_interval(values, is_second, 0.5, BAR, np.where(is_sampled, 10.0, 1.0))
    assert weighted.low <= 0.4 * 10 / 11 <= weighted.high
    assert weighted.low > 0.3


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_nothing_says_nothing(share: float) -> None:
    assert difference_interval(np.zeros(0), np.zeros(0, bool), share, BAR) == (-1.0, 1.0)
    low, high = difference_interval(np.ones(1), np.ones(1, bool), share, BAR)
    assert low == pytest.approx(-1, abs=1e-5) and high == pytest.approx(1, abs=1e-5)
