"""Each check says yes to a good draft and no to the one that breaks its rule."""

from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from flightdeck.gates import checks
from flightdeck.gates.evidence import Evidence, read_evidence
from flightdeck.gates.thresholds import Thresholds
from flightdeck.gates.verdict import Check
from tests.candidates import DATA_VERSIONS, write_draft


def look(evidence: Evidence, bounds: Thresholds) -> dict[str, Check]:
    """Return every check that needs no model file, by name."""
    found = [
        *checks.coverage_checks(evidence, bounds, DATA_VERSIONS),
        *checks.ranking_checks(evidence, bounds),
        *checks.leakage_checks(evidence, bounds),
        *checks.calibration_checks(evidence, bounds),
        *checks.baseline_checks(evidence, bounds),
        *checks.champion_checks(evidence, bounds),
        *checks.segment_checks(evidence, bounds, ["origin", "carrier"]),
    ]
    return {check.name: check for check in found}


def failed(evidence: Evidence, bounds: Thresholds) -> set[str]:
    return {name for name, check in look(evidence, bounds).items() if not check.passed}


def with_probability(evidence: Evidence, probability: np.ndarray) -> Evidence:
    return replace(evidence, predictions=evidence.predictions.assign(probability=probability))


def test_a_good_draft_passes_everything(good: Evidence, bounds: Thresholds) -> None:
    found = look(good, bounds)
    assert failed(good, bounds) == set()
    assert {"auc_15", "auc_120", "leakage_auc", "ece", "gain_over_fallback", "gain_over_rule", "n_months"} <= set(found)
    assert found["auc_15"].value == pytest.approx(0.81, abs=0.02)


def test_a_model_that_knows_nothing_fails_ranking_and_worth(good: Evidence, bounds: Thresholds) -> None:
    constant = with_probability(good, np.full(len(good.predictions), good.label.mean()))
    assert {"auc_15", "auc_120", "gain_over_fallback"} <= failed(constant, bounds)


def test_a_model_that_knows_the_outcome_is_a_leak(good: Evidence, bounds: Thresholds) -> None:
    leaking = with_probability(good, np.clip(good.probability * 0.5 + good.label * 0.4, 0, 1))
    assert "leakage_auc" in failed(leaking, bounds)
    assert not {"auc_15", "auc_120"} & failed(leaking, bounds)


def test_a_shifted_level_is_miscalibrated(tmp_path: Path, bounds: Thresholds) -> None:
    shifted = read_evidence(str(write_draft(tmp_path / "draft", shift=0.8)), key="flight_id")
    assert "ece" in failed(shifted, bounds)
    assert "auc_15" not in failed(shifted, bounds)


@pytest.mark.parametrize("bad", [np.nan, 1.5, -0.5])
def test_an_invalid_probability_is_found(good: Evidence, bounds: Thresholds, bad: float) -> None:
    probability = good.probability.copy()
    probability[3] = bad
    found = look(with_probability(good, probability), bounds)
    assert found["invalid_probabilities"].value == 1
    assert not found["invalid_probabilities"].passed
    assert not found["ece"].passed


def test_missing_months_and_other_data_are_found(good: Evidence, bounds: Thresholds) -> None:
    summer = replace(good, predictions=good.predictions[good.month < "2013-10"].reset_index(drop=True))
    other = {"departed": {"version": 4}, "arrived": {"version": 1}}
    found = {check.name: check for check in checks.coverage_checks(summer, bounds, other)}
    assert found["n_months"].value == 2
    assert not found["n_months"].passed
    assert "arrived, departed" in found["data_versions"].detail
    assert not found["data_versions"].passed


def test_a_missing_horizon_fails_without_a_value(good: Evidence, bounds: Thresholds) -> None:
    near = replace(good, predictions=good.predictions[good.predictions["horizon_min"] == 15].reset_index(drop=True))
    check = look(near, bounds)["auc_120"]
    assert (check.value, check.passed, check.blocking) == (None, False, True)


def test_without_a_champion_there_is_nothing_to_compare(good: Evidence, bounds: Thresholds) -> None:
    check = checks.champion_checks(good, bounds)[0]
    assert check.passed
    assert "no champion yet" in check.detail


def test_a_better_champion_stops_a_worse_draft_and_not_the_other_way_round(
    good: Evidence, tmp_path: Path, bounds: Thresholds
) -> None:
    worse = read_evidence(str(write_draft(tmp_path / "worse", shift=0.6)), key="flight_id")
    against_better = checks.champion_checks(replace(worse, champion=good.predictions), bounds)[0]
    assert not against_better.passed
    assert against_better.blocking
    against_worse = checks.champion_checks(replace(good, champion=worse.predictions), bounds)[0]
    assert against_worse.passed
    itself = checks.champion_checks(replace(good, champion=good.predictions), bounds)[0]
    assert (itself.value, itself.passed) == (0.0, True)


def test_a_champion_without_shared_rows_does_not_pass(good: Evidence, bounds: Thresholds) -> None:
    elsewhere = good.predictions.assign(flight_id="other " + good.predictions["flight_id"])
    check = checks.champion_checks(replace(good, champion=elsewhere), bounds)[0]
    assert (check.value, check.passed) == (None, False)
    assert "0 shared rows" in check.detail


def test_an_unreadable_champion_stops_unless_the_tier_says_otherwise(good: Evidence, bounds: Thresholds) -> None:
    lost = replace(good, champion_problem="missing: model.onnx")
    check = checks.champion_checks(lost, bounds)[0]
    assert (check.value, check.passed, check.blocking) == (None, False, True)
    assert "missing: model.onnx" in check.detail
    informing = msgspec.structs.replace(bounds, advisory=("champion_log_loss",))
    assert not checks.champion_checks(lost, informing)[0].blocking


def test_the_worst_segment_is_named(good: Evidence, bounds: Thresholds) -> None:
    at_jfk = (good.predictions["origin"] == "JFK").to_numpy()
    noise = np.random.default_rng(0).random(len(at_jfk)) * 0.5
    blind = with_probability(good, np.where(at_jfk, noise, good.probability))
    check = look(blind, bounds)["worst_origin_auc"]
    assert not check.passed
    assert "JFK" in check.detail


def test_export_is_held_against_difference_and_time(bounds: Thresholds) -> None:
    fine = checks.export_checks(3e-7, np.full(100, 0.1), bounds)
    assert all(check.passed for check in fine)
    slow = {check.name: check for check in checks.export_checks(2e-5, np.full(100, 50.0), bounds)}
    assert not slow["onnx_difference"].passed
    assert (slow["latency_p95_ms"].passed, slow["latency_p95_ms"].blocking) == (False, False)
    unknown = {check.name: check for check in checks.export_checks(float("nan"), np.empty(0), bounds)}
    assert not any(check.passed for check in unknown.values())


def test_quality_table_has_one_row_a_segment_and_all_rows(good: Evidence) -> None:
    table = checks.quality_table(good, good.predictions["origin"])
    assert list(table.index) == ["EWR", "JFK", "LGA"]
    assert table["rows"].sum() == len(good.predictions)
    assert table.index.name == "origin"
