"""What is decided about a version under way: evidence, freezing, superseding, rehearsal, review, another tier."""

from collections.abc import Mapping

from flightdeck.core.errors import ReleaseRefused
from flightdeck.gates.policy import Policies
from flightdeck.release.decisions import Decision, append_decision, record_refusal, records_refusals
from flightdeck.release.ledger import Ledger
from flightdeck.release.moves import require_stage, require_step, require_supersedable, version_state
from flightdeck.release.people import Person, person_key, plain_name
from flightdeck.release.record import Record
from flightdeck.release.requirements import given_reason
from flightdeck.release.stages import APPROVABLE, FREEZABLE, FROZEN, ReleaseState

VERDICTS = ("pass", "fail", "inconclusive", "error")
RANK = ("low", "medium", "high")


@records_refusals
def record_evidence(
    ledger: Ledger,
    version: int,
    *,
    by: Person,
    entered_seq: int,
    verdict: str,
    n_requests: int,
    metrics: Mapping[str, object],
) -> Record:
    """Enter what the judge says about the step of `version` that record `entered_seq` began.

    Raises
    ------
    ReleaseRefused
        If the verdict is none of pass, fail, inconclusive, error, or the version has left that step.
    """
    by.require("judge")
    if verdict not in VERDICTS or n_requests < 0:
        raise ReleaseRefused(f"judging version {version}: {verdict!r} after {n_requests} requests is no verdict")

    def decide(state: ReleaseState) -> Decision:
        current = version_state(state, version)
        require_stage(current, FREEZABLE, "judged")
        require_step(current, entered_seq, "judging")
        return "judged", {
            "digest": current.digest,
            "entered_seq": entered_seq,
            "stage": current.stage,
            "share": current.canary_share,
            "verdict": verdict,
            "n_requests": n_requests,
            "metrics": dict(metrics),
        }

    return append_decision(ledger, version, by, decide)


@records_refusals
def freeze(ledger: Ledger, version: int, *, by: Person, reason: str, entered_seq: int | None = None) -> Record:
    """Keep a shadow or canary where it is until a person lets it go on or takes it out.

    Parameters
    ----------
    ledger, version, by, reason
        Where to write, what to freeze, who does it and why.
    entered_seq
        Record that began the step that is meant, where it is about one step only.

    Raises
    ------
    ReleaseRefused
        If the person may not, the reason is empty, the version is neither in shadow nor in canary, or has left the
        step that is meant.
    """
    by.require("freeze")
    said = given_reason(reason, f"freezing version {version}")

    def decide(state: ReleaseState) -> Decision:
        current = version_state(state, version)
        require_stage(current, FREEZABLE, "frozen")
        require_step(current, entered_seq, "freezing")
        return "frozen", {"digest": current.digest, "reason": said}

    return append_decision(ledger, version, by, decide)


@records_refusals
def thaw(ledger: Ledger, version: int, *, by: Person, reason: str) -> Record:
    """Let a frozen version go on in its step, whose evidence is collected anew.

    Raises
    ------
    ReleaseRefused
        If the person may not, the reason is empty, or the version is not frozen.
    """
    by.require("thaw")
    said = given_reason(reason, f"letting version {version} go on")

    def decide(state: ReleaseState) -> Decision:
        current = version_state(state, version)
        require_stage(current, (FROZEN,), "let go on")
        return "thawed", {"digest": current.digest, "reason": said}

    return append_decision(ledger, version, by, decide)


@records_refusals
def supersede(ledger: Ledger, version: int, *, by: Person, newer: int) -> Record:
    """Let `version` give way for good to the version `newer`; a frozen one by somebody who may let it go on.

    Raises
    ------
    ReleaseRefused
        If the person may not, `version` is past giving way, or `newer` is no newer version under way.
    """
    by.require("supersede")

    def decide(state: ReleaseState) -> Decision:
        current = require_supersedable(state, version, newer)
        if current.stage == FROZEN:
            by.require("thaw")
        return "superseded", {"digest": current.digest, "by": newer}

    return append_decision(ledger, version, by, decide)


@records_refusals
def record_rehearsal(ledger: Ledger, version: int, *, by: Person, to: int | None, duration_s: float) -> Record:
    """Enter that the rollback from `version` to the version `to` was performed against a running server.

    Raises
    ------
    ReleaseRefused
        If the person may not, or the version is unknown.
    """
    by.require("rehearse")

    def decide(state: ReleaseState) -> Decision:
        current = version_state(state, version)
        return "rehearsed", {"digest": current.digest, "to": to, "duration_s": duration_s}

    return append_decision(ledger, version, by, decide)


@records_refusals
def review(ledger: Ledger, version: int, *, by: Person, reason: str) -> Record:
    """Enter the review that an emergency release owes.

    Raises
    ------
    ReleaseRefused
        If the person may not, is the author, the reason is empty, or no review is due.
    """
    by.require("review")
    said = given_reason(reason, f"reviewing version {version}")

    def decide(state: ReleaseState) -> Decision:
        current = version_state(state, version)
        if current.review_due_at is None:
            raise ReleaseRefused(f"version {version} has no review due")
        if current.author and person_key(current.author) == person_key(by.name):
            raise ReleaseRefused(f"version {version} is {by.name}'s own work; somebody else reviews it")
        return "reviewed", {"digest": current.digest, "reason": said}

    return append_decision(ledger, version, by, decide)


@records_refusals
def revoke_approval(ledger: Ledger, version: int, *, by: Person, name: str, reason: str) -> Record:
    """Take back the approval that `name` gave: anybody their own, others with the permission.

    Raises
    ------
    ReleaseRefused
        If the person may not, the reason is empty, or `name` does not approve the version.
    """
    name = plain_name(name)
    if person_key(name) != person_key(by.name):
        by.require("revoke_approval")
    said = given_reason(reason, f"revoking an approval of version {version}")

    def decide(state: ReleaseState) -> Decision:
        current = version_state(state, version)
        require_stage(current, APPROVABLE, "disapproved of")
        given = [approval.name for approval in current.approvals if person_key(approval.name) == person_key(name)]
        if not given:
            raise ReleaseRefused(f"version {version} is not approved by {name}")
        return "approval_revoked", {"digest": current.digest, "name": given[0], "reason": said}

    return append_decision(ledger, version, by, decide)


def change_tier(ledger: Ledger, version: int, *, by: Person, to: str, policies: Policies, reason: str) -> Record:
    """Give `version` another risk tier; all approvals are void then.

    A lower tier takes the permission, and the role that owns the tier which is left. After a rise the gate must look
    again: its verdict was made with looser bounds.

    Raises
    ------
    ReleaseRefused
        If the person may not, the reason is empty, the tier is the same, or the stage is past it. Recorded.
    """
    said = given_reason(reason, f"changing the tier of version {version}")

    def decide(state: ReleaseState) -> Decision:
        current = version_state(state, version)
        require_stage(current, APPROVABLE, "given another tier")
        wanted = policies.tier(to)
        if to == current.tier:
            raise ReleaseRefused(f"version {version} is of tier {to} already")
        is_lower = RANK.index(to) < RANK.index(current.tier)
        if is_lower:
            by.require("lower_tier")
            owner = policies.tier(current.tier).owner
            if owner not in by.roles:
                raise ReleaseRefused(f"tier {current.tier} is lowered by its owner, the role {owner}")
        else:
            by.require("change_tier")
        return "tier_changed", {
            "digest": current.digest,
            "from": current.tier,
            "to": to,
            "policy_digest": wanted.digest,
            "voids_verdict": not is_lower,
            "reason": said,
        }

    try:
        return append_decision(ledger, version, by, decide)
    except ReleaseRefused as error:
        record_refusal(ledger, version, by.name, "change_tier", error)
        raise


def reviews_overdue(state: ReleaseState, ledger: Ledger) -> list[int]:
    """Return the versions whose emergency release was not reviewed in time."""
    now = ledger.clock.now()
    return [v.version for v in state.versions.values() if v.review_due_at is not None and v.review_due_at < now]
