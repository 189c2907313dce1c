"""What people may do to a release, and what they are told when they may not."""

import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from flightdeck.core.errors import NotFoundError, ReleaseRefused
from flightdeck.core.files import write_json
from flightdeck.core.layout import PROJECT
from flightdeck.gates.policy import Policies, read_policies
from flightdeck.gates.verdict import Check, judge
from flightdeck.inference import bundle as bundle_format
from flightdeck.inference.bundle import Bundle
from flightdeck.release import rollout_commands
from flightdeck.release.decisions import current_state
from flightdeck.release.ledger import Ledger
from flightdeck.release.moves import legal_moves
from flightdeck.release.order_entry import enter_orders
from flightdeck.release.orders import SUFFIX, Order
from flightdeck.release.sqlite_ledger import SqliteLedger
from flightdeck.release.state import fold
from tests import release_desk as commands

POLICIES: Policies = read_policies(PROJECT / "conf")
Enter = Callable[..., Bundle]


class Desk:
    """The commands with ledger and bundles filled in."""

    def __init__(self, ledger: Ledger, bundles: Path) -> None:
        self.ledger, self.bundles = ledger, bundles

    def approve(self, version: int, by: str = "Ada Lovelace") -> None:
        commands.approve(self.ledger, version, by=by, bundles=self.bundles)

    def promote(self, version: int, to: str | None = None, share: float | None = None) -> dict[str, object]:
        record = commands.promote(self.ledger, version, by="Ada", bundles=self.bundles, to=to, share=share)
        return record.detail

    def release(self, version: int) -> None:
        self.approve(version)
        commands.bring(self.ledger, version, "prod", bundles=self.bundles)

    def rollback(self) -> tuple[int, int | None]:
        return commands.rollback(self.ledger, by="Ada", bundles=self.bundles)


@pytest.fixture
def desk(ledger: Ledger, bundles: Path) -> Desk:
    return Desk(ledger, bundles)


def test_the_first_version_goes_to_prod_in_three_promotions(desk: Desk, enter: Enter) -> None:
    enter(1)
    assert desk.promote(1)["to"] == "staging"
    desk.approve(1)
    assert desk.promote(1)["share"] == 0.1
    assert desk.promote(1, "canary")["share"] == 0.5
    assert desk.promote(1)["to"] == "prod"
    assert current_state(desk.ledger).champion == 1


def test_no_ledger_says_what_to_do(desk: Desk) -> None:
    for use in (lambda: desk.promote(1), lambda: desk.approve(1), desk.rollback):
        with pytest.raises(NotFoundError, match=r"no ledger at .*: nothing has been released") as error:
            use()
        assert "kedro run --config kedro.yml" in error.value.next_step


def test_unknown_version_names_the_known_ones(desk: Desk, enter: Enter) -> None:
    enter(1)
    with pytest.raises(ReleaseRefused, match="version 7 is not in the ledger; versions there: 1"):
        desk.promote(7)


@pytest.mark.parametrize("to", ["canary", "prod", "production", "candidate"])
def test_illegal_moves_name_the_legal_one(desk: Desk, enter: Enter, to: str) -> None:
    enter(1)
    desk.approve(1)
    with pytest.raises(ReleaseRefused, match="legal from candidate: staging"):
        desk.promote(1, to)


def test_leaving_staging_needs_an_approval(desk: Desk, enter: Enter) -> None:
    enter(1)
    desk.promote(1)
    with pytest.raises(ReleaseRefused, match="approved by nobody; tier medium needs 1 person"):
        desk.promote(1)


def test_a_high_risk_needs_two_different_people(desk: Desk, enter: Enter) -> None:
    enter(1, tier="high")
    desk.promote(1)
    desk.approve(1, "Ada Lovelace")
    with pytest.raises(ReleaseRefused, match="needs 2 different people, missing: 1 more"):
        desk.promote(1)
    with pytest.raises(ReleaseRefused, match="approved by ada lovelace already"):
        desk.approve(1, " ada  lovelace ")
    desk.approve(1, "Grace Hopper")
    assert desk.promote(1)["share"] == 0.01


@pytest.mark.parametrize("again", ["Zoe\u0308 Smith", "ZOË\u00a0SMITH", "Ｚｏë Smith"])
def test_two_spellings_of_a_name_are_one_person(desk: Desk, enter: Enter, again: str) -> None:
    enter(1, tier="high")
    desk.promote(1)
    desk.approve(1, "Zoë Smith")
    with pytest.raises(ReleaseRefused, match="already; another person"):
        desk.approve(1, again)
    digest = current_state(desk.ledger).versions[1].digest
    desk.ledger.append("approved", actor=again, subject="1", detail={"digest": digest, "reason": ""})
    with pytest.raises(ReleaseRefused, match="needs 2 different people, missing: 1 more"):
        desk.promote(1)


@pytest.mark.parametrize("name", ["", "   ", "\n", "a\x1b[31m", "x" * 201])
def test_an_approval_has_a_name(desk: Desk, enter: Enter, name: str) -> None:
    enter(1)
    with pytest.raises(ReleaseRefused, match="person's name"):
        desk.approve(1, name)


def test_a_failed_verdict_cannot_be_approved_or_promoted(desk: Desk, enter: Enter) -> None:
    enter(1, passed=False)
    for use in (lambda: desk.approve(1), lambda: desk.promote(1)):
        with pytest.raises(ReleaseRefused, match="failed the gate: auc_15"):
            use()
    commands.reject(desk.ledger, 1, by="Ada", reason="AUC")
    assert current_state(desk.ledger).versions[1].stage == "rejected"


def test_a_missing_verdict_is_no_verdict(desk: Desk, enter: Enter) -> None:
    enter(1, passed=None)
    with pytest.raises(ReleaseRefused, match="has no verdict"):
        desk.promote(1)


def test_an_altered_bundle_is_neither_approved_nor_promoted(desk: Desk, enter: Enter) -> None:
    bundle = enter(1)
    model = bundle.path / "model.onnx"
    model.chmod(0o644)
    model.write_bytes(model.read_bytes() + b"!")
    for use in (lambda: desk.approve(1), lambda: desk.promote(1)):
        with pytest.raises(ReleaseRefused, match=r"does not verify: .*altered: model.onnx"):
            use()


def test_a_bundle_of_an_older_format_is_not_promoted_and_says_what_to_do(
    desk: Desk, enter: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    enter(1)
    desk.approve(1)
    monkeypatch.setattr(bundle_format, "FORMAT", bundle_format.FORMAT + 1)
    with pytest.raises(ReleaseRefused, match=r"it is of format 2, this code reads format 3") as refused:
        desk.promote(1)
    assert "train again" in refused.value.next_step


@pytest.mark.parametrize("share", [0.3, 0.0, 1.0, -1.0, float("nan")])
def test_a_canary_share_is_a_step_of_the_tier(desk: Desk, enter: Enter, share: float) -> None:
    enter(1)
    desk.approve(1)
    desk.promote(1)
    with pytest.raises(ReleaseRefused, match=r"legal in tier medium: 0.1, 0.5"):
        desk.promote(1, "canary", share)


def test_only_a_canary_has_a_share_and_repeating_one_is_refused(desk: Desk, enter: Enter) -> None:
    enter(1)
    with pytest.raises(ReleaseRefused, match="only a canary has a share"):
        desk.promote(1, "staging", 0.1)
    desk.approve(1)
    desk.promote(1)
    with pytest.raises(ReleaseRefused, match=r"the next step of tier medium is 0.1, none is left out"):
        desk.promote(1, share=0.5)
    desk.promote(1, share=0.1)
    desk.promote(1, share=0.5)
    with pytest.raises(ReleaseRefused, match=r"share of 0.5 already"):
        desk.promote(1, "canary")


def test_rollback_takes_the_canary_then_the_champion_then_refuses(desk: Desk, enter: Enter) -> None:
    for version in (1, 2, 3):
        enter(version)
    desk.release(1)
    desk.release(2)
    desk.approve(3)
    commands.bring(desk.ledger, 3, "canary", bundles=desk.bundles)
    assert desk.rollback() == (3, 2)
    assert desk.rollback() == (2, 1)
    with pytest.raises(ReleaseRefused, match="version 1 is the first champion"):
        desk.rollback()


def test_rollback_before_the_first_champion_takes_the_canary(desk: Desk, enter: Enter) -> None:
    enter(1)
    desk.approve(1)
    desk.promote(1)
    desk.promote(1)
    assert desk.rollback() == (1, None)
    with pytest.raises(ReleaseRefused, match="nothing is live"):
        desk.rollback()


def test_rollback_to_a_lost_bundle_says_so(desk: Desk, enter: Enter) -> None:
    first = enter(1)
    enter(2)
    desk.release(1)
    desk.release(2)
    first.path.rename(first.path.with_name("lost"))
    with pytest.raises(ReleaseRefused, match="version 1: its bundle does not verify"):
        desk.rollback()


def test_a_version_taken_out_needs_a_new_approval(desk: Desk, enter: Enter) -> None:
    enter(1)
    desk.approve(1)
    desk.promote(1)
    desk.promote(1)
    desk.rollback()
    desk.promote(1, "staging")
    with pytest.raises(ReleaseRefused, match="approved by nobody"):
        desk.promote(1)


def test_a_live_version_cannot_be_rejected_and_a_rejection_says_why(desk: Desk, enter: Enter) -> None:
    enter(1)
    with pytest.raises(ReleaseRefused, match="says why"):
        commands.reject(desk.ledger, 1, by="Ada", reason=" ")
    desk.release(1)
    with pytest.raises(ReleaseRefused, match="legal in: candidate, staging, shadow"):
        commands.reject(desk.ledger, 1, by="Ada", reason="late")


def test_a_frozen_shadow_may_be_rejected_as_it_is_and_a_frozen_canary_not(desk: Desk, enter: Enter) -> None:
    for version in (1, 2, 3):
        enter(version)
    desk.release(1)
    for version, stage in ((2, "shadow"), (3, "canary")):
        desk.approve(version)
        commands.bring(desk.ledger, version, stage, bundles=desk.bundles)
        rollout_commands.freeze(desk.ledger, version, by=commands.person("Ada"), reason="no data")
        assert current_state(desk.ledger).versions[version].stage == "frozen"
        if stage == "shadow":
            assert legal_moves(current_state(desk.ledger), version) == ["thaw", "reject"]
            commands.reject(desk.ledger, version, by="Ada", reason="off")
    assert (current_state(desk.ledger).shadow, current_state(desk.ledger).versions[2].frozen_from) == (None, "")
    with pytest.raises(ReleaseRefused, match="version 3 is in frozen and cannot be rejected"):
        commands.reject(desk.ledger, 3, by="Ada", reason="off")
    assert legal_moves(current_state(desk.ledger), 3) == ["thaw", "rollback"]


def test_while_an_order_waits_for_its_record_nothing_moves_and_a_rollback_does(
    desk: Desk, enter: Enter, tmp_path: Path
) -> None:
    for version in (1, 2):
        enter(version)
    desk.release(1)
    desk.approve(2)
    commands.bring(desk.ledger, 2, "canary", bundles=desk.bundles)
    commands.show_evidence(desk.ledger, 2)
    desk.ledger.orders = tmp_path / "orders"
    at = current_state(desk.ledger).versions[2]
    order = Order("one", desk.ledger.clock.now(), "Grace", "stated", "it harms", 2, at.entered_seq)
    write_json(desk.ledger.orders / f"one{SUFFIX}", msgspec.to_builtins(order))
    refused: list[Callable[[], object]] = [
        lambda: desk.promote(2),
        lambda: desk.approve(2, by="Linus"),
        lambda: rollout_commands.freeze(desk.ledger, 2, by=commands.person("Ada"), reason="odd"),
    ]
    for decide in refused:
        with pytest.raises(ReleaseRefused, match=r"1 rollbacks wait .* Grace at .* \(version 2 out\)") as error:
            decide()
        assert "kedro release reconcile" in error.value.next_step
    assert "is recorded" in enter_orders(desk.ledger, desk.ledger.orders)[0]
    assert current_state(desk.ledger).versions[2].stage == "rolled_back"
    assert desk.promote(2)["to"] == "staging"


def test_registering_twice_is_once_and_another_bundle_is_refused(desk: Desk, enter: Enter) -> None:
    bundle = enter(1)
    again = commands.register(desk.ledger, 1, bundle=bundle, model_name="flight-delay", tier="medium")
    assert again.seq == 1
    other = enter(2)
    with pytest.raises(ReleaseRefused, match="have parted"):
        commands.register(desk.ledger, 1, bundle=other, model_name="flight-delay", tier="medium")


def test_a_verdict_about_other_content_is_refused(desk: Desk, enter: Enter) -> None:
    bundle = enter(1, passed=None)
    check = Check("auc_15", 0.8, 0.77, passed=True, blocking=True, detail="")
    with pytest.raises(ReleaseRefused, match="it is about content"):
        commands.record_verdict(desk.ledger, 1, judge("f" * 64, "medium", [check], ""), bundle=bundle)


def test_reasons_are_kept_on_one_plain_line(desk: Desk, enter: Enter) -> None:
    enter(1)
    record = commands.approve(
        desk.ledger, 1, by="Ada", bundles=desk.bundles, reason="fine\n2 forged record \x1b[31m by me"
    )
    assert record.detail["reason"] == "fine 2 forged record [31m by me"
    with pytest.raises(ReleaseRefused, match="at most"):
        commands.reject(desk.ledger, 1, by="Ada", reason="x" * 2001)


def test_of_many_who_promote_at_once_one_succeeds(desk: Desk, enter: Enter) -> None:
    versions = (1, 2, 3, 4)
    for version in versions:
        enter(version)
        desk.approve(version)
        desk.promote(version)
    outcomes: list[str] = []

    def to_canary(version: int) -> None:
        try:
            outcomes.append(str(desk.promote(version, "canary")["to"]))
        except ReleaseRefused as error:
            outcomes.append(error.message)

    threads = [threading.Thread(target=to_canary, args=(version,)) for version in versions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count("canary") == 1
    assert sum("is the canary" in outcome for outcome in outcomes) == 3
    assert fold(desk.ledger.records()).canary in versions
    desk.ledger.verify()


def test_a_decision_that_the_ledger_overtakes_is_made_again(desk: Desk, enter: Enter) -> None:
    enter(1)

    class Interrupted(SqliteLedger):
        n_interruptions = 3

        def append(self, action: str, **given: object) -> object:  # type: ignore[override]
            if self.n_interruptions:
                self.n_interruptions -= 1
                super().append("alert", actor="monitoring", subject="-", detail={})
            return super().append(action, **given)  # type: ignore[arg-type]

    ledger = Interrupted(Path(desk.ledger.place), desk.ledger.clock)
    record = commands.approve(ledger, 1, by="Ada", bundles=desk.bundles)
    assert record.seq == 6
