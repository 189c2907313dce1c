"""What the gate finds out about a trained draft in the real server: what was tampered with, is slow or large."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pandas as pd
import pytest

from flightdeck.core.layout import PROJECT
from flightdeck.gates.evidence import Evidence, read_evidence
from flightdeck.gates.policy import read_policies
from flightdeck.gates.thresholds import Thresholds
from flightdeck.gates.verdict import Check, read_verdict
from pipelines.evaluation.server import server_checks
from pipelines.evaluation.skew import skew_checks
from tests.e2e.golden import golden_house
from tests.e2e.house import House

pytestmark = pytest.mark.slow
TAMPERED = "origin_departures__count_60m"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    found = golden_house(tmp_path_factory)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLIGHTDECK_DATA", str(found.layout.root))
        yield found


@pytest.fixture
def draft(house: House, tmp_path: Path) -> Path:
    copy = tmp_path / "draft"
    shutil.copytree(house.layout.draft_bundle, copy, ignore=shutil.ignore_patterns("evaluation"))
    return copy


def bounds(**changes: float) -> Thresholds:
    return msgspec.structs.replace(read_policies(PROJECT / "conf", "base").tier("medium").thresholds, **changes)


def evidence_of(draft: Path) -> Evidence:
    return read_evidence(str(draft), key="flight_id")


def by_name(checks: "list[Check] | tuple[Check, ...]") -> dict[str, Check]:
    return {check.name: check for check in checks}


def test_the_golden_draft_is_served_as_it_was_trained(house: House) -> None:
    checks = by_name(read_verdict(house.layout.draft_bundle / "evaluation/verdict.json").checks)
    assert checks["served_difference_features"].value == 0
    assert checks["served_difference"].passed


def test_a_feature_that_training_had_otherwise_and_a_bundle_that_is_too_large_are_found(draft: Path) -> None:
    path = draft / "reference/features.parquet"
    rows = pd.read_parquet(path)
    rows.assign(**{TAMPERED: rows[TAMPERED] + 1}).to_parquet(path)
    evidence = evidence_of(draft)
    skew = by_name([*skew_checks(evidence, bounds())])
    assert not skew["served_difference_features"].passed
    assert TAMPERED in skew["served_difference_features"].detail
    assert skew["served_difference"].passed, "the model read what it should have, only the record of it was changed"
    server = by_name([*server_checks(evidence, bounds(bundle_mb_at_most=0.01))])
    assert not server["bundle_mb"].passed and server["server_not_by_model"].passed and server["server_rss_mb"].passed
    slow = by_name([*server_checks(evidence, bounds(server_p95_ms_at_most=1e-3, server_rss_mb_at_most=1.0))])
    failed = [name for name, check in slow.items() if not check.passed]
    assert failed == ["server_p95_ms_1", "server_p95_ms_16", "server_rss_mb"]
