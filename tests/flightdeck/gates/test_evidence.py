"""Evidence is read in one order, whatever the order on disk, and refused where it is not what it should be."""

import json
from pathlib import Path

import pandas as pd
import pytest

from flightdeck.core.errors import ContractViolation, NotFoundError
from flightdeck.gates.evidence import PREDICTIONS, read_evidence, read_predictions
from flightdeck.gates.facts import facts
from flightdeck.inference.bundle import content_digest
from tests.candidates import write_draft


def test_evidence_names_the_content_it_is_about(good_draft: Path) -> None:
    evidence = read_evidence(str(good_draft), key="flight_id")
    assert evidence.subject == content_digest(good_draft)
    assert evidence.predictions["request_timestamp"].is_monotonic_increasing
    assert sorted(evidence.month.unique()) == ["2013-08", "2013-09", "2013-10", "2013-11", "2013-12"]


def test_row_order_on_disk_does_not_matter(good_draft: Path, tmp_path: Path) -> None:
    frame = pd.read_parquet(good_draft / PREDICTIONS)
    frame.sample(frac=1, random_state=3).to_parquet(tmp_path / "shuffled.parquet")
    pd.testing.assert_frame_equal(
        read_predictions(good_draft / PREDICTIONS, "flight_id"),
        read_predictions(tmp_path / "shuffled.parquet", "flight_id"),
    )


def test_what_is_wrong_with_predictions_is_said(good_draft: Path, tmp_path: Path) -> None:
    frame = pd.read_parquet(good_draft / PREDICTIONS)
    path = tmp_path / "predictions.parquet"
    for broken, message in (
        (frame.drop(columns="label"), "columns missing: label"),
        (frame.head(0), "no row"),
        (frame.assign(label=2), "labels other than 0 and 1"),
        (pd.concat([frame, frame.head(1)]), "flight_id and horizon_min twice"),
    ):
        broken.to_parquet(path)
        with pytest.raises(ContractViolation, match=message):
            read_predictions(path, "flight_id")


def test_a_missing_draft_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError) as error:
        read_evidence(str(tmp_path), key="flight_id")
    assert error.value.next_step == "kedro run --config kedro.yml"


def test_damaged_provenance_is_refused(tmp_path: Path) -> None:
    draft = write_draft(tmp_path / "draft", n_rows=1000)
    (draft / "training.json").write_text("{")
    with pytest.raises(ContractViolation, match=r"training\.json"):
        read_evidence(str(draft), key="flight_id")


def test_an_unreadable_champion_is_a_problem_not_an_error(good_draft: Path, tmp_path: Path) -> None:
    evidence = read_evidence(str(good_draft), str(tmp_path), key="flight_id")
    assert evidence.champion is None
    assert "does not exist" in evidence.champion_problem


def test_facts_bear_whatever_training_left_out(tmp_path: Path) -> None:
    draft = write_draft(tmp_path / "draft", n_rows=1000)
    full = facts(read_evidence(str(draft), key="flight_id"))
    assert full["data versions"] == "departed v3"
    assert full["splits"] == "train: 2013-01-01 to 2013-07-01; test: 2013-08-01 to 2014-01-01"
    assert full["test rows"] == "2,000 from 2013-08-01 to 2013-12-31"
    (draft / "training.json").write_text(json.dumps({"splits": {"test": {"from": "August"}}}))
    bare = facts(read_evidence(str(draft), key="flight_id"))
    assert bare["git commit"] == "unknown"
    assert bare["splits"] == "test: from August"
