"""Drift of training data between the champion's bundle and the draft's."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flightdeck.core.errors import ContractViolation
from flightdeck.gates.assessment import run_families
from flightdeck.gates.evidence import Evidence, read_evidence
from flightdeck.gates.thresholds import Thresholds
from flightdeck.gates.verdict import Check
from flightdeck.monitoring.drift import population_stability_index
from pipelines.evaluation.families import FAMILIES
from pipelines.evaluation.training_drift import stability_index, training_drift
from tests.candidates import write_draft
from tests.pipelines.evaluation.trained import change_rows

Rows = Callable[[pd.DataFrame], pd.DataFrame]
SAMPLE = Path("reference") / "features.parquet"


@pytest.fixture
def evidence(tmp_path: Path) -> Evidence:
    """Return evidence of a draft and a champion whose training rows come from the same world."""
    champion, draft = (write_draft(tmp_path / name, seed=seed) for name, seed in (("champion", 1), ("draft", 2)))
    return read_evidence(str(draft), str(champion), key="flight_id")


def look(evidence: Evidence, bounds: Thresholds) -> Check:
    (check,) = training_drift(evidence, bounds)
    return check


def test_two_samples_of_one_world_pass(evidence: Evidence, bounds: Thresholds) -> None:
    check = look(evidence, bounds)
    assert check.passed and check.blocking and check.value is not None and 0 < check.value < 0.1
    assert "6 features between the training rows of the champion (500 of them)" in check.detail


A, B = "a__open", "b__open"
DRIFTED: dict[str, tuple[str, Rows, Rows]] = {
    "a number": (B, lambda rows: rows, lambda rows: rows.assign(**{B: rows[B] + 1})),
    "a category": ("carrier", lambda rows: rows, lambda rows: rows.assign(carrier="DL")),
    "fallen silent": (A, lambda rows: rows, lambda rows: rows.assign(**{A: np.float32("nan")})),
    "a constant": (A, lambda rows: rows.assign(**{A: 5.0}), lambda rows: rows.assign(**{A: 7.0})),
    "no constant any more": (A, lambda rows: rows.assign(**{A: -9.0}), lambda rows: rows),
}


@pytest.mark.parametrize(("column", "before", "now"), DRIFTED.values(), ids=DRIFTED)
def test_a_column_that_moved_fails_and_is_named(
    column: str, before: Rows, now: Rows, evidence: Evidence, bounds: Thresholds
) -> None:
    assert evidence.champion_path is not None
    change_rows(evidence.champion_path / SAMPLE, before)
    change_rows(evidence.draft / SAMPLE, now)
    check = look(evidence, bounds)
    assert not check.passed and check.value is not None and check.value > bounds.psi_at_most
    assert f": {column} {check.value:.3f}" in check.detail


def test_a_column_that_stays_constant_or_empty_is_no_drift(evidence: Evidence, bounds: Thresholds) -> None:
    assert evidence.champion_path is not None
    for folder in (evidence.champion_path, evidence.draft):
        change_rows(folder / SAMPLE, lambda rows: rows.assign(**{A: 5.0}).assign(**{B: np.float32("nan")}))
    assert look(evidence, bounds).passed


def test_columns_of_one_side_only_are_named_and_the_others_compared(evidence: Evidence, bounds: Thresholds) -> None:
    change_rows(evidence.draft / SAMPLE, lambda rows: rows.rename(columns={B: "c"}))
    check = look(evidence, bounds)
    assert check.passed and "5 features" in check.detail and f"of one side only: {B}, c" in check.detail


def test_without_a_champion_it_passes_and_says_so(evidence: Evidence, bounds: Thresholds) -> None:
    check = look(replace(evidence, champion=None, champion_path=None), bounds)
    assert check.passed and check.value is None and "no champion yet" in check.detail


def test_a_champion_that_cannot_be_read_is_said_and_blocks(evidence: Evidence, bounds: Thresholds) -> None:
    check = look(replace(evidence, champion_problem="its digest differs"), bounds)
    assert not check.passed and check.blocking and "its digest differs" in check.detail


def test_what_cannot_be_compared_could_not_run(evidence: Evidence, bounds: Thresholds) -> None:
    change_rows(evidence.draft / SAMPLE, lambda rows: rows.add_prefix("new_"))
    with pytest.raises(ContractViolation, match="nothing in common"):
        look(evidence, bounds)
    (evidence.draft / SAMPLE).unlink()
    (check,) = run_families(["training_drift"], FAMILIES, evidence, bounds)["training_drift"]
    assert not check.passed and check.blocking and "features.parquet does not exist" in check.detail


def test_the_index_is_evidentlys() -> None:
    random = np.random.default_rng(5)
    reference, current = pd.Series(random.choice(list("abc"), 400)), pd.Series(random.choice(list("abcd"), 300))
    numbers = [values.map({"a": 1, "b": 2, "c": 3, "d": 4}).to_numpy() for values in (reference, current)]
    assert stability_index(reference, current) == pytest.approx(population_stability_index(*numbers), rel=1e-9)
