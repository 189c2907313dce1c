"""What is refused because consent is missing, void or another person's leaves a record, and one only."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from flightdeck.core.clock import VirtualClock
from flightdeck.core.errors import ReleaseRefused
from flightdeck.inference.bundle import Bundle
from flightdeck.release import commands, rollout_commands
from flightdeck.release.ledger import Ledger, open_ledger
from flightdeck.release.people import ConsentVoid, Listed, People, PermissionDenied
from flightdeck.release.record import Record
from tests import release_desk
from tests.candidates import seal_tiny
from tests.conformance.authority import verdict_of
from tests.flightdeck.release.conftest import NOON
from tests.release_desk import CONTROLLER, PEOPLE, POLICIES

Enter = Callable[..., Bundle]


def refusals(ledger: Ledger) -> list[Record]:
    return [record for record in ledger.records() if record.action == "refused"]


def approve(ledger: Ledger, bundles: Path, by: str, *, seen_digest: str = "") -> Record:
    by_whom = PEOPLE.identify(by)
    return commands.approve(ledger, 1, by=by_whom, policies=POLICIES, bundles=bundles, seen_digest=seen_digest)


@pytest.fixture
def staged(ledger: Ledger, bundles: Path, enter: Enter) -> Ledger:
    """Return a ledger with a version in staging that Ada has approved."""
    enter(1)
    release_desk.promote(ledger, 1, by="Mary", bundles=bundles)
    approve(ledger, bundles, "Ada")
    return ledger


def test_nobody_approves_their_own_work_under_any_spelling(ledger: Ledger, bundles: Path, tmp_path: Path) -> None:
    bundle = seal_tiny(tmp_path / "draft", bundles, mark="one")
    release_desk.register(ledger, 1, bundle=bundle, model_name="m", tier="medium", author="Zoë Smith")
    release_desk.record_verdict(ledger, 1, verdict_of(bundle), bundle=bundle)
    for name in ("Zoë Smith", "ZOË  SMITH", "Zoe\u0308 Smith"):
        with pytest.raises(PermissionDenied, match="own work"):
            approve(ledger, bundles, name)
    assert [record.detail["what"] for record in refusals(ledger)] == ["approve"] * 3
    assert not [record for record in ledger.records() if record.action == "approved"]


def test_an_approval_is_not_given_twice_by_one_person(staged: Ledger, bundles: Path) -> None:
    with pytest.raises(ReleaseRefused, match="approved by ADA already"):
        approve(staged, bundles, "ADA")
    [refused] = refusals(staged)
    assert (refused.actor, refused.subject, refused.detail["what"]) == ("ADA", "1", "approve")


def test_another_bundle_than_was_seen_is_not_approved(staged: Ledger, bundles: Path) -> None:
    with pytest.raises(ReleaseRefused, match="the one that was looked at"):
        approve(staged, bundles, "Bob", seen_digest="f" * 64)
    assert [record.actor for record in refusals(staged)] == ["Bob"]


def promote(ledger: Ledger, bundles: Path, people: People = PEOPLE) -> Record:
    return commands.promote(ledger, 1, by=CONTROLLER, policies=POLICIES, people=people, bundles=bundles)


def test_an_expired_approval_is_refused_and_a_loop_records_it_once(staged: Ledger, bundles: Path) -> None:
    later = open_ledger(Path(staged.place), VirtualClock(NOON + timedelta(hours=169)))
    for _ in range(5):
        with pytest.raises(ConsentVoid, match="Ada's does not count: it expired"):
            promote(later, bundles)
    [refused] = refusals(staged)
    assert (refused.actor, refused.detail["what"]) == ("controller", "promote")
    approve(later, bundles, "Ada")
    assert promote(later, bundles).detail["to"] == "canary"


def test_the_approval_of_a_revoked_person_is_refused_and_recorded(staged: Ledger, bundles: Path) -> None:
    without = msgspec.structs.replace(PEOPLE, people={**PEOPLE.people, "Ada": Listed(("reviewer",), revoked=True)})
    with pytest.raises(ConsentVoid, match="the person is revoked"):
        promote(staged, bundles, without)
    assert len(refusals(staged)) == 1


def test_a_stated_approval_counts_no_more_once_proof_is_asked_for(staged: Ledger, bundles: Path) -> None:
    listed = {**PEOPLE.people, "Ada": Listed(("reviewer",))}
    proven = msgspec.structs.replace(PEOPLE, authentication="proven", others=(), people=listed)
    with pytest.raises(ConsentVoid, match="Ada's does not count: the name was only stated"):
        promote(staged, bundles, proven)
    ada = proven.identify("Ada", proof="key:test")
    commands.approve(staged, 1, by=ada, policies=POLICIES, bundles=bundles)
    with pytest.raises(ReleaseRefused, match="approved by Ada already"):
        commands.approve(staged, 1, by=ada, policies=POLICIES, bundles=bundles)
    assert promote(staged, bundles, proven).detail["to"] == "canary"


def test_an_approval_of_another_policy_is_refused_and_recorded(staged: Ledger, bundles: Path) -> None:
    stricter = msgspec.structs.replace(POLICIES.medium, overlap="wait")
    changed = msgspec.structs.replace(POLICIES, medium=stricter)
    with pytest.raises(ConsentVoid, match="the policy has changed since"):
        commands.promote(staged, 1, by=CONTROLLER, policies=changed, people=PEOPLE, bundles=bundles)
    assert len(refusals(staged)) == 1


def test_what_is_merely_missing_is_refused_without_a_record(ledger: Ledger, bundles: Path, enter: Enter) -> None:
    enter(1)
    release_desk.promote(ledger, 1, by="Mary", bundles=bundles)
    with pytest.raises(ReleaseRefused, match="approved by nobody"):
        promote(ledger, bundles)
    assert refusals(ledger) == []


def test_different_refusals_are_recorded_each(staged: Ledger) -> None:
    for version, by in ((1, CONTROLLER), (1, CONTROLLER), (2, CONTROLLER), (1, release_desk.PIPELINE)):
        with pytest.raises(PermissionDenied):
            rollout_commands.thaw(staged, version, by=by, reason="w")
    assert [(record.actor, record.subject) for record in refusals(staged)] == [
        ("controller", "1"),
        ("controller", "2"),
        ("pipeline", "1"),
    ]
