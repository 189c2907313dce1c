"""Each test on its own: it finds what it is for, and lets be what is within its margin."""

import numpy as np
import pytest

from flightdeck.gates.judge_policy import ErrorRule, LatencyRule, LogLossRule, PredictionRule
from flightdeck.release.judge.distribution import PredictionTest
from flightdeck.release.judge.errors import ErrorTest
from flightdeck.release.judge.log_loss import LogLossTest, block_difference
from flightdeck.release.judge.quantiles import REFRESH_EVERY, LatencyTest
from flightdeck.release.judge.sample_ratio import SampleRatioTest
from flightdeck.release.judge.standing import proof_bar
from tests.flightdeck.release.judge.canaries import DAY_S, make_labels

BAR = proof_bar(0.001)
RANDOM_SEED = 3


def steps(n: int) -> np.ndarray:
    return np.arange(n, dtype=np.float64)


def test_a_few_errors_of_the_canary_alone_are_enough() -> None:
    test, n = ErrorTest(ErrorRule(), 0.1, BAR), 6
    every = np.ones(n, dtype=np.bool_)
    test.update(steps(n), every, every, every)
    assert test.standing.worse_at_s is not None
    assert test.standing.worse_at_s <= 4


def test_an_outage_of_both_arms_says_nothing_about_the_canary() -> None:
    random, n = np.random.default_rng(RANDOM_SEED), 20_000
    test, every = ErrorTest(ErrorRule(), 0.1, BAR), np.ones(n, dtype=np.bool_)
    test.update(steps(n), random.random(n) < 0.1, every, every)
    assert test.standing.worse_at_s is None
    assert test.standing.log_e_fine >= proof_bar(0.05), "as many errors as this show that the ratio is kept"


def test_without_any_error_the_canary_passes_by_its_own_record() -> None:
    n = 1500
    test, every = ErrorTest(ErrorRule(negligible_rate=0.005), 0.5, BAR), np.ones(n, dtype=np.bool_)
    test.update(steps(n), every, every, ~every)
    assert test.standing.log_e_fine >= proof_bar(0.05)
    assert test.standing.log_e_worse == 0


@pytest.mark.parametrize(("ratio", "is_worse", "is_fine"), [(1.0, False, True), (1.3, True, False)])
def test_latency_beyond_its_margin_is_found(ratio: float, is_worse: bool, is_fine: bool) -> None:
    random, n = np.random.default_rng(RANDOM_SEED), 20_000
    is_canary = random.random(n) < 0.5
    latency_s = random.lognormal(-5, 0.5, n) * np.where(is_canary, ratio, 1.0)
    test = LatencyTest(LatencyRule(), 0.5, BAR)
    test.update(steps(n), is_canary, latency_s)
    assert (test.standing.worse_at_s is not None) is is_worse
    assert (test.standing.log_e_fine >= proof_bar(0.05)) is is_fine


def test_latency_is_held_against_nothing_before_the_champion_is_known() -> None:
    n = REFRESH_EVERY
    is_canary = np.arange(2 * n - 1) % 2 == 0
    test = LatencyTest(LatencyRule(), 0.5, BAR)
    test.update(steps(2 * n - 1), is_canary, np.where(is_canary, 9.0, 0.001))
    assert test.standing.worse_at_s is None
    test.update(steps(40), np.arange(40) % 2 == 1, np.where(np.arange(40) % 2 == 1, 9.0, 0.001))
    assert test.standing.worse_at_s is not None


@pytest.mark.parametrize("shift", [-0.15, 0.15])
def test_a_shift_of_the_predictions_is_found_in_both_directions(shift: float) -> None:
    random, n = np.random.default_rng(RANDOM_SEED), 10_000
    is_canary = random.random(n) < 0.3
    prediction = np.clip(random.beta(2, 3, n) + np.where(is_canary, shift, 0.0), 0, 1)
    test = PredictionTest(PredictionRule(), 0.3, BAR)
    test.update(steps(n), is_canary, prediction)
    assert test.standing.worse_at_s is not None
    assert test.standing.log_e_fine < proof_bar(0.05)


def test_the_same_mean_in_other_bands_is_found() -> None:
    random, n = np.random.default_rng(RANDOM_SEED), 20_000
    is_canary = random.random(n) < 0.5
    spread = np.where(random.random(n) < 0.5, 0.1, 0.6)
    test = PredictionTest(PredictionRule(band_edges=(0.2, 0.5)), 0.5, BAR)
    test.update(steps(n), is_canary, np.where(is_canary, spread, 0.35))
    assert test.standing.worse_at_s is not None


def test_equal_predictions_are_shown_to_be_equal() -> None:
    random, n = np.random.default_rng(RANDOM_SEED), 20_000
    test = PredictionTest(PredictionRule(), 0.5, BAR)
    test.update(steps(n), random.random(n) < 0.5, random.beta(2, 3, n))
    assert test.standing.worse_at_s is None
    assert test.standing.log_e_fine >= proof_bar(0.05)


def test_log_loss_has_one_vote_a_day_however_many_items_it_holds() -> None:
    for n_a_day in (100, 1000):
        test = LogLossTest(LogLossRule(), BAR)
        test.update(make_labels(9, noise=3.0, n_a_day=n_a_day), 9 * DAY_S)
        assert test.standing.n_canary == 9
        assert test.standing.log_e_worse <= 9 * np.log(2)


def test_log_loss_waits_until_the_labels_of_a_day_are_complete() -> None:
    test, items = LogLossTest(LogLossRule(), BAR), make_labels(2)
    test.update(items, DAY_S - 1)
    assert test.standing.n_canary == 0
    test.update(None, 2 * DAY_S)
    assert test.standing.n_canary == 2
    test.update(items, 2 * DAY_S)
    assert test.standing.n_canary == 2, "a day that has voted does not vote again"


def test_much_larger_log_loss_is_found_in_a_month() -> None:
    test = LogLossTest(LogLossRule(), BAR)
    test.update(make_labels(30, noise=3.0), 30 * DAY_S)
    assert test.standing.worse_at_s is not None


def test_a_unit_with_many_items_counts_once() -> None:
    items = make_labels(1, n_a_day=3)
    once = type(items)(items.at_s, items.unit, np.zeros(3), np.full(3, 0.2), np.array([0.2, 0.2, 0.8]))
    rows = np.array([0, 1, 2, 2, 2, 2])
    often = type(items)(*(getattr(once, name)[rows] for name in ("at_s", "unit", "label", "champion", "canary")))
    assert block_difference(often, 3) == pytest.approx(block_difference(once, 3))
    assert block_difference(often, 4) is None


def test_unpaired_items_are_compared_within_the_block() -> None:
    items = make_labels(1, n_a_day=4)
    nan = np.nan
    arms = np.array([0.5, 0.5, nan, nan]), np.array([nan, nan, 0.2, 0.2])
    unpaired = type(items)(items.at_s, items.unit, np.zeros(4), *arms)
    assert block_difference(unpaired, 2) == pytest.approx(np.log(0.5) - np.log(0.8))
    assert block_difference(unpaired, 3) is None


@pytest.mark.parametrize(("seen", "is_mismatch"), [(0.5, False), (0.475, True), (0.525, True)])
def test_an_arm_that_loses_units_is_found(seen: float, is_mismatch: bool) -> None:
    random, n = np.random.default_rng(RANDOM_SEED), 20_000
    test = SampleRatioTest(0.5, BAR)
    test.update(steps(n), random.random(n) < seen)
    assert test.is_mismatch is is_mismatch
