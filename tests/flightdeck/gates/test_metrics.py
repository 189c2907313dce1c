"""Our measures agree with scikit-learn's and with counting by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from flightdeck.gates.metrics import (
    brier,
    calibration_error,
    day_block_interval,
    log_losses,
    reliability,
    roc_auc,
)

ROWS = st.lists(st.tuples(st.integers(0, 1), st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 1.0])), min_size=2, max_size=60)


@given(ROWS)
def test_scores_are_those_of_scikit_learn(rows: list[tuple[int, float]]) -> None:
    label, probability = np.array([r[0] for r in rows]), np.array([r[1] for r in rows])
    assert brier(label, probability) == pytest.approx(brier_score_loss(label, probability))
    inside = np.clip(probability, 0.01, 0.99)
    assert log_losses(label, inside).mean() == pytest.approx(log_loss(label, inside, labels=[0, 1]))
    if 0 < label.sum() < len(label):
        assert roc_auc(label, probability) == pytest.approx(roc_auc_score(label, probability))
    else:
        assert math.isnan(roc_auc(label, probability))


def test_calibration_error_by_hand() -> None:
    label = np.array([0, 0, 0, 1, 1, 1, 1, 1])
    probability = np.array([0.3, 0.3, 0.3, 0.3, 0.99, 0.99, 0.99, 0.99])
    assert calibration_error(label, probability) == pytest.approx(0.5 * 0.05 + 0.5 * 0.01)


def test_probability_one_falls_into_the_last_bin() -> None:
    predicted, observed, counts = reliability(np.array([1, 0]), np.array([1.0, 0.0]))
    assert predicted.tolist() == [0.0, 1.0]
    assert observed.tolist() == [0.0, 1.0]
    assert counts.tolist() == [1, 1]


@pytest.mark.parametrize("bad", [np.nan, -0.1, 1.1, np.inf])
def test_an_invalid_probability_has_no_calibration(bad: float) -> None:
    label, probability = np.array([0, 1]), np.array([0.5, bad])
    assert math.isnan(calibration_error(label, probability))
    assert reliability(label, probability)[2].tolist() == [1]


def test_nothing_measured_is_nan() -> None:
    none = np.empty(0)
    assert math.isnan(calibration_error(none.astype(np.int64), none))
    assert all(math.isnan(end) for end in day_block_interval(none, none.astype(np.int64)))


def test_days_are_resampled_not_rows() -> None:
    rng = np.random.default_rng(1)
    day = np.repeat(np.arange(100), 200)
    values = np.repeat(rng.normal(size=100), 200)  # every row of a day says the same
    mean, low, high = day_block_interval(values, day)
    assert low < mean < high
    assert high - low == pytest.approx(2 * 1.96 * values.std() / math.sqrt(100), rel=0.15)
    assert day_block_interval(values, day) == (mean, low, high)
