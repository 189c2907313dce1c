"""The way back is complete, or the check says what is missing."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from flightdeck.gates.evidence import Evidence, read_evidence
from flightdeck.gates.package import package_checks
from flightdeck.gates.thresholds import Thresholds
from flightdeck.gates.verdict import Check
from flightdeck.inference.bundle import Bundle
from tests.candidates import RULES, seal_draft, write_draft, write_model


def look(evidence: Evidence, bounds: Thresholds) -> dict[str, Check]:
    return {check.name: check for check in package_checks(evidence, bounds)}


@pytest.fixture
def draft(tmp_path: Path) -> Path:
    return write_draft(tmp_path / "draft", n_rows=1000)


@pytest.fixture
def champion(tmp_path: Path) -> Bundle:
    return seal_draft(write_draft(tmp_path / "before", n_rows=1000, seed=8), tmp_path / "bundles")


def test_a_whole_draft_and_a_whole_champion_pass(draft: Path, champion: Bundle, bounds: Thresholds) -> None:
    found = look(read_evidence(str(draft), str(champion.path), key="flight_id"), bounds)
    assert list(found) == ["package_draft", "package_champion"]
    assert all((check.value, check.passed, check.blocking) == (0.0, True, True) for check in found.values())


def test_without_a_champion_there_is_nothing_to_return_to(draft: Path, bounds: Thresholds) -> None:
    check = look(read_evidence(str(draft), key="flight_id"), bounds)["package_champion"]
    assert (check.value, check.passed) == (None, True)
    assert "no champion yet" in check.detail


def without_runbook(folder: Path) -> None:
    (folder / "runbook.md").unlink()


def with_the_models_swapped(folder: Path) -> None:
    write_model(folder / "fallback.onnx")


def with_rules_that_give_no_probability(folder: Path) -> None:
    (folder / "rules.json").write_text(json.dumps({**RULES, "rates": {"UA": 1.5}}))


def with_other_views(folder: Path) -> None:
    features = json.loads((folder / "features.json").read_text())
    (folder / "features.json").write_text(json.dumps({**features, "views": {"a": "0" * 64}}))


def without_a_request_column(folder: Path) -> None:
    sample = folder / "reference/inputs.parquet"
    pd.read_parquet(sample).drop(columns="distance_miles").to_parquet(sample)


SPOILERS = [
    (without_runbook, "runbook.md missing"),
    (with_the_models_swapped, "fallback.onnx"),
    (with_rules_that_give_no_probability, r"rules:out_of_range on \d+ of 500 rows"),
    (with_other_views, "means something else"),
    (without_a_request_column, "distance_miles"),
]


@pytest.mark.parametrize(("spoil", "message"), SPOILERS)
def test_a_draft_that_could_not_answer_fails_as_measured(
    draft: Path, bounds: Thresholds, spoil: Callable[[Path], None], message: str
) -> None:
    spoil(draft)
    check = look(read_evidence(str(draft), key="flight_id"), bounds)["package_draft"]
    assert (check.value, check.passed) == (1.0, False)
    assert re.search(message, check.detail)


def test_an_altered_a_renamed_and_a_lost_champion_fail(
    draft: Path, champion: Bundle, tmp_path: Path, bounds: Thresholds
) -> None:
    moved = champion.path.rename(tmp_path / "moved")
    renamed = look(read_evidence(str(draft), str(moved), key="flight_id"), bounds)["package_champion"]
    assert not renamed.passed and "its folder is named otherwise" in renamed.detail
    moved.rename(champion.path)
    (champion.path / "rules.json").chmod(0o644)
    (champion.path / "rules.json").write_text(json.dumps({**RULES, "rate": 0.3}))
    evidence = read_evidence(str(draft), str(champion.path), key="flight_id")
    altered = look(evidence, bounds)["package_champion"]
    assert (altered.value, altered.passed) == (1.0, False) and "altered: rules.json" in altered.detail
    lost = look(replace(evidence, champion_problem="no manifest.json"), bounds)["package_champion"]
    assert (lost.value, lost.passed) == (1.0, False) and "no manifest.json" in lost.detail
