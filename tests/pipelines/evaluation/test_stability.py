"""Two seeds: the record of training against the bounds, and against the draft that it is about."""

from pathlib import Path
from typing import Any

import pytest

from flightdeck.core.errors import ContractViolation
from flightdeck.gates.assessment import run_families
from flightdeck.gates.evidence import read_evidence
from flightdeck.gates.metrics import roc_auc
from flightdeck.gates.thresholds import Thresholds
from flightdeck.gates.verdict import Check
from pipelines.evaluation.families import FAMILIES
from pipelines.evaluation.stability import stability
from tests.candidates import write_draft
from tests.pipelines.evaluation.trained import change_json


@pytest.fixture
def draft(tmp_path: Path) -> Path:
    """Return a draft whose record says that the second seed ranks 0.001 worse and differs by 0.01."""
    return record(write_draft(tmp_path / "draft", n_rows=2_000))


def record(draft: Path, *, auc: float = 0.001, **changes: Any) -> Path:
    evidence = read_evidence(str(draft), key="flight_id")
    rows = evidence.predictions.groupby("horizon_min").indices
    own = {str(horizon): roc_auc(evidence.label[at], evidence.probability[at]) for horizon, at in rows.items()}
    both = {horizon: [value, value - auc] for horizon, value in own.items()}
    found = {"seeds": [7, 8], "auc": both, "probability_difference": 0.01, "n_rows": 4_000, **changes}
    change_json(draft / "training.json", stability=found)
    return draft


def look(draft: Path, bounds: Thresholds) -> dict[str, Check]:
    return {check.name: check for check in stability(read_evidence(str(draft), key="flight_id"), bounds)}


def test_models_that_are_close_pass(draft: Path, bounds: Thresholds) -> None:
    found = look(draft, bounds)
    assert list(found) == ["stability_auc", "stability_probability"]
    assert all(check.passed and check.blocking for check in found.values())
    assert found["stability_auc"].value == pytest.approx(0.001) and found["stability_probability"].value == 0.01
    assert "seeds 7 and 8, 4,000 test rows" in found["stability_probability"].detail


def test_a_seed_that_changes_nothing_is_said(draft: Path, bounds: Thresholds) -> None:
    record(draft, auc=0.0, probability_difference=0.0)
    found = look(draft, bounds)
    assert all(check.passed and "the very same model" in check.detail for check in found.values())


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"auc": 0.02}, "stability_auc"),
        ({"auc": -0.02}, "stability_auc"),
        ({"probability_difference": 0.05}, "stability_probability"),
    ],
    ids=["worse", "better", "other probabilities"],
)
def test_models_that_are_apart_fail(changes: dict[str, float], name: str, draft: Path, bounds: Thresholds) -> None:
    record(draft, **changes)
    assert [check.name for check in look(draft, bounds).values() if not check.passed] == [name]


def test_without_a_second_seed_it_could_not_run_and_the_next_step_is_said(draft: Path, bounds: Thresholds) -> None:
    change_json(draft / "training.json", stability=None)
    evidence = read_evidence(str(draft), key="flight_id")
    (check,) = run_families(["stability"], FAMILIES, evidence, bounds)["stability"]
    assert not check.passed and check.blocking and check.value is None
    assert "could not run: " in check.detail and "--params release.tier=high" in check.detail


@pytest.mark.parametrize(
    ("stability", "message"),
    [
        ({"auc": {"15": [0.6, 0.6], "120": [0.6, 0.6]}}, "its predictions have"),
        ({"auc": {}}, "its predictions have"),
        ({"seeds": [7]}, "seeds"),
    ],
    ids=["another model", "no horizon", "another form"],
)
def test_a_record_of_another_model_or_form_is_refused(
    stability: dict[str, Any], message: str, draft: Path, bounds: Thresholds
) -> None:
    found = read_evidence(str(draft), key="flight_id").training["stability"]
    change_json(draft / "training.json", stability=found | stability)
    with pytest.raises(ContractViolation, match=message):
        look(draft, bounds)
