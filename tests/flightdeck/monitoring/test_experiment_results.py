"""Results of experiments on generated logs: who counts, equal arms, a true difference, a broken sample ratio."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from flightdeck.core.clock import VirtualClock, to_us
from flightdeck.inference.prediction_log import PredictionLogWriter
from flightdeck.monitoring.experiment_periods import Period
from flightdeck.monitoring.experiment_report import ERRORS, LATENCY, LOG_LOSS, PREDICTION, Difference, ExperimentResult
from flightdeck.monitoring.experiment_results import CAPS, measure_experiments
from flightdeck.monitoring.prediction_log import read_predictions
from tests.flightdeck.monitoring.experiment_answers import BEGAN, THREE, TWO, answers
from tests.predictions import log_batch


def one(frame: pd.DataFrame, period: Period = TWO) -> ExperimentResult:
    return measure_experiments(frame, [period])[0]


def about(result: ExperimentResult, measure: str, arm: str = "new") -> Difference:
    return next(one for one in result.differences if (one.measure, one.arm) == (measure, arm))


def test_equal_arms_are_not_told_apart() -> None:
    n_shown = dict.fromkeys((PREDICTION, LATENCY), 0)
    for seed in range(60):
        result = one(answers(800, seed))
        for measure in n_shown:
            n_shown[measure] += about(result, measure).is_shown
        assert not result.is_void
    assert max(n_shown.values()) <= 3, "5% of 60 looks at all times"


def test_a_true_difference_is_found_with_its_size() -> None:
    frame = answers(6000, 1)
    is_new = frame["arm"] == "colour:new"
    result = one(frame.assign(probability=frame["probability"] + np.where(is_new, 0.05, 0)))
    found = about(result, PREDICTION)
    assert found.is_shown and found.difference == pytest.approx(0.05, abs=0.01)
    assert found.looks[-1].low <= 0.05 <= found.looks[-1].high
    assert [look.n_units for look in found.looks] == [93, 187, 375, 750, 1500, 3000, 6000]
    assert not about(result, LATENCY).is_shown


def test_an_arm_that_loses_units_is_void() -> None:
    frame = answers(4000, 2)
    lost = (frame["arm"] == "colour:new") & (np.arange(len(frame)) % 4 == 0)
    result = one(frame[~lost])
    assert result.is_void
    assert result.ratios[0].is_mismatch and result.ratios[0].seen == pytest.approx(0.43, abs=0.02)
    assert not one(frame).is_void


def test_own_faults_count_and_what_befalls_all_does_not() -> None:
    frame = answers(3000, 3)
    is_new = frame["arm"] == "colour:new"
    reason = pd.Series("colour/old:store_unavailable", index=frame.index).mask(is_new, None)
    failed = is_new & (np.arange(3000) % 5 < 2)
    result = one(frame.assign(reason=reason.mask(failed, "colour/new:not_finite; champion:overloaded")))
    assert result.arms[0].errors == 0
    assert result.arms[1].errors == pytest.approx(0.4, abs=0.05)
    assert about(result, ERRORS).is_shown


def test_a_unit_counts_once_with_its_first_exposure() -> None:
    frame = answers(400, 4)
    again = frame.assign(probability=1.0)
    before = frame.assign(logged_at="2013-09-12T09:00:00.900+00:00", probability=0.0)
    both = pd.concat([before, frame, again], ignore_index=True)
    assert one(both).arms[0].prediction == one(frame).arms[0].prediction
    assert one(both).arms[0].n_units == one(frame).arms[0].n_units
    assert one(both).arms[0].n_answers == 2 * one(frame).arms[0].n_answers


def test_labels_are_compared_once_they_are_due() -> None:
    n = 12_000
    frame = answers(n, 5)
    rng = np.random.default_rng(6)
    truth = frame["probability"].to_numpy()
    label = (rng.random(n) < truth).astype(float)
    is_new = (frame["arm"] == "colour:new").to_numpy()
    worse = np.where(is_new, 0.9 - 0.8 * truth, truth)
    due = np.arange(n) < 10_000
    labelled = frame.assign(probability=worse, label=np.where(due, label, np.nan), is_mature=due, due_us=np.arange(n))
    result = one(labelled)
    assert sum(arm.n_labelled for arm in result.arms) == 10_000
    old, new = result.arms
    assert old.auc is not None and new.auc is not None and old.auc > 0.6 > 0.5 > new.auc
    found = about(result, LOG_LOSS)
    assert old.log_loss is not None and new.log_loss is not None
    assert found.difference == pytest.approx(new.log_loss - old.log_loss)
    assert found.is_shown and found.looks[-1].low > 0
    assert one(frame).arms[0].log_loss is None and about(one(frame), LOG_LOSS).looks == ()


def test_every_arm_is_compared_with_the_first() -> None:
    frame = answers(4000, 7, arms=("many:a", "many:a", "many:b", "many:c"))
    result = one(frame, THREE)
    assert [arm.share for arm in result.arms] == [0.5, 0.25, 0.25]
    assert {(one.arm, one.measure) for one in result.differences} == {(a, m) for a in "bc" for m in CAPS}
    assert [ratio.expected for ratio in result.ratios] == [pytest.approx(1 / 3)] * 2
    assert not result.is_void


def test_only_the_period_counts() -> None:
    frame = answers(100, 8)
    ended = Period(TWO.experiment, 7, BEGAN, BEGAN + timedelta(seconds=60))
    assert sum(arm.n_units for arm in one(frame, ended).arms) == 50
    nothing = one(frame.head(0))
    assert [arm.n_units for arm in nothing.arms] == [0, 0]
    assert nothing.arms[0].prediction is None and nothing.differences[0].looks == () and not nothing.is_void


def test_it_reads_what_the_service_writes_with_its_weights(tmp_path: Path) -> None:
    writer = PredictionLogWriter(tmp_path, VirtualClock(BEGAN))
    rows: list[dict[str, Any]] = [
        {
            "request_id": f"r{i}",
            "unit_id": f"u{i}",
            "flight_id": f"f{i}",
            "arm": ("colour:old", "colour:new", "champion")[i % 3],
            "logged_at_us": to_us(BEGAN + timedelta(seconds=5 + i)),
            "probability": 0.25,
        }
        for i in range(90)
    ]
    writer.append(log_batch(rows))
    writer.close()
    result = one(read_predictions(tmp_path))
    assert [(arm.n_units, arm.n_answers, arm.prediction) for arm in result.arms] == [(30, 30.0, 0.25)] * 2
    weighted = read_predictions(tmp_path).assign(weight=4.0)
    assert one(weighted).arms[0].n_answers == 120
