from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from flightdeck.cli.demo_release import REVIEWER, release_version
from flightdeck.core.clock import VirtualClock
from flightdeck.core.errors import ReleaseRefused
from flightdeck.core.layout import PROJECT, Layout
from flightdeck.gates.verdict import Check, judge
from flightdeck.release.decisions import current_state
from flightdeck.release.ledger import Ledger, open_ledger
from tests import release_desk as commands
from tests.candidates import seal_tiny

NOON = datetime(2013, 9, 12, 12, tzinfo=UTC)


@pytest.fixture
def where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # nobody answers: the ledger decides
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    return Layout(tmp_path / "data")


@pytest.fixture
def ledger(where: Layout) -> Ledger:
    return open_ledger(where.ledger, VirtualClock(NOON))


@pytest.fixture
def enter(ledger: Ledger, where: Layout, tmp_path: Path) -> Callable[..., None]:
    def enter(version: int, *, passed: bool = True, tier: str = "medium") -> None:
        bundle = seal_tiny(tmp_path / f"draft-{version}", where.bundles, mark=str(version))
        commands.register(ledger, version, bundle=bundle, model_name="flight-delay", tier=tier)
        check = Check("auc_15", 0.8, 0.77, passed, blocking=True, detail="")
        verdict = judge(bundle.manifest.metadata["content_digest"], tier, [check], NOON.isoformat())
        commands.record_verdict(ledger, version, verdict, bundle=bundle)

    return enter


def release(ledger: Ledger, version: int, where: Layout) -> list[str]:
    said: list[str] = []
    release_version(ledger, version, project=PROJECT, where=where, say=said.append)
    return said


def test_a_candidate_goes_the_whole_road_and_the_demo_says_that_it_approves(
    ledger: Ledger, where: Layout, enter: Callable[..., None]
) -> None:
    enter(1)
    said = release(ledger, 1, where)
    state = current_state(ledger)
    assert state.champion == 1
    assert state.versions[1].approved_by == (REVIEWER,)
    assert "this demo approves its own candidate" in said[0]
    assert [record.action for record in ledger.records()][2:] == ["approved", "promoted", "promoted", "promoted"]


def test_a_second_time_nothing_is_recorded(ledger: Ledger, where: Layout, enter: Callable[..., None]) -> None:
    enter(1)
    release(ledger, 1, where)
    head = ledger.head()
    assert release(ledger, 1, where)[-1] == "version 1 is in prod"
    assert ledger.head() == head


def test_a_new_candidate_goes_as_far_as_it_gets_without_evidence(
    ledger: Ledger, where: Layout, enter: Callable[..., None]
) -> None:
    enter(1)
    release(ledger, 1, where)
    enter(2)
    said = release(ledger, 2, where)
    state = current_state(ledger)
    assert (state.champion, state.shadow) == (1, 2)
    assert said[-2:] == ["version 2 is in shadow: the controller moves it on by what it shows", "version 1 is in prod"]
    enter(3)
    release(ledger, 3, where)
    assert (current_state(ledger).shadow, current_state(ledger).versions[2].stage) == (3, "superseded")


def test_a_road_that_was_left_half_way_is_taken_up(ledger: Ledger, where: Layout, enter: Callable[..., None]) -> None:
    enter(1, tier="high")
    commands.approve(ledger, 1, by="Ada Lovelace", bundles=where.bundles)
    release(ledger, 1, where)
    approved_by = current_state(ledger).versions[1].approved_by
    assert approved_by == ("Ada Lovelace", REVIEWER)


def test_what_people_took_back_stays_back(ledger: Ledger, where: Layout, enter: Callable[..., None]) -> None:
    for version in (1, 2):
        enter(version)
        release(ledger, version, where)
    commands.bring(ledger, 2, "prod", bundles=where.bundles)
    commands.rollback(ledger, by="Ada Lovelace", reason="too slow")
    assert release(ledger, 2, where)[-1] == "version 1 is in prod"


def test_a_failed_gate_is_not_approved(ledger: Ledger, where: Layout, enter: Callable[..., None]) -> None:
    enter(1, passed=False)
    with pytest.raises(ReleaseRefused, match="failed the gate: auc_15"):
        release(ledger, 1, where)
    assert current_state(ledger).champion is None
