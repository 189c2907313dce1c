"""What people and pipelines may do to a release, for the command line and the dashboard alike.

Each command asks for the permission of the person, folds the ledger, decides, and appends one record (`decisions`).
Nothing here touches MLflow: run the reconciler afterwards. Judging, freezing and rehearsing are in
`rollout_commands`, routing rules in `route_commands`.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from flightdeck.core.errors import ReleaseRefused
from flightdeck.gates.policy import Policies
from flightdeck.gates.verdict import Verdict
from flightdeck.inference.bundle import Bundle
from flightdeck.release.decisions import Decision, append_decision, record_refusal, records_refusals
from flightdeck.release.ledger import Ledger
from flightdeck.release.moves import (
    require_promotable,
    require_rejectable,
    require_stage,
    require_step,
    rollback_target,
    version_state,
)
from flightdeck.release.people import STATED, People, PermissionDenied, Person, person_key
from flightdeck.release.record import Record
from flightdeck.release.requirements import (
    Bundles,
    canary_share,
    given_reason,
    next_stage,
    plain_reason,
    require_approvals,
    require_bundle,
    require_evidence,
    require_last_step,
    require_rehearsal,
    require_shadowed,
    require_target,
    require_verdict,
    require_way_back,
)
from flightdeck.release.stages import APPROVABLE, CANARY, FROZEN, PROD, SHADOW, ReleaseState


@records_refusals
def register(
    ledger: Ledger,
    version: int,
    *,
    bundle: Bundle,
    model_name: str,
    tier: str,
    by: Person,
    author: str = "",
    facts: Mapping[str, object] | None = None,
) -> Record:
    """Enter a sealed bundle as a candidate; entering the same one again returns the record that is there.

    Parameters
    ----------
    ledger
        Where to write.
    version
        Number that the model registry gave it.
    bundle
        The sealed bundle.
    model_name
        Registered model that the version belongs to.
    tier
        Risk tier whose policy will apply.
    by
        Who registers, usually the pipeline.
    author
        Who made it: that person cannot approve it.
    facts
        More to remember: content digest, model digest, run.

    Raises
    ------
    ReleaseRefused
        If the ledger knows the version as another bundle.
    """
    by.require("register")
    existing = [r for r in ledger.records() if r.action == "registered" and r.subject == str(version)]
    if existing:
        if existing[0].detail["digest"] == bundle.digest:
            return existing[0]
        raise ReleaseRefused(
            f"registering version {version}: the ledger knows it as bundle {existing[0].detail['digest'][:16]}, "
            f"this is {bundle.digest[:16]}; the model registry and the ledger have parted",
            next_step="restore data/06_models/mlflow.db and data/06_models/ledger.sqlite from the same backup",
        )
    detail = {**(facts or {}), "digest": bundle.digest, "model_name": model_name, "tier": tier, "author": author}
    return append_decision(ledger, version, by, lambda _: ("registered", detail), needs_ledger=False)


@records_refusals
def record_verdict(ledger: Ledger, version: int, verdict: Verdict, *, bundle: Bundle, by: Person) -> Record:
    """Enter what the gate said about the content of `bundle`.

    Raises
    ------
    ReleaseRefused
        If the verdict is about other content or the version is another bundle.
    """
    by.require("record_verdict")
    subject = bundle.manifest.metadata.get("content_digest")
    if verdict.subject != subject:
        raise ReleaseRefused(
            f"recording a verdict for version {version}: it is about content {verdict.subject[:16]}, "
            f"the bundle holds {str(subject)[:16]}",
            next_step="run the gate on this draft: kedro run --config kedro.yml",
        )

    def decide(state: ReleaseState) -> Decision:
        current = version_state(state, version)
        if current.digest != bundle.digest:
            raise ReleaseRefused(f"version {version} is bundle {current.digest[:16]}, not {bundle.digest[:16]}")
        return "verdict", {
            "digest": bundle.digest,
            "content_digest": verdict.subject,
            "tier": verdict.tier,
            "passed": verdict.passed,
            "failed": list(verdict.failed),
            "n_checks": len(verdict.checks),
        }

    return append_decision(ledger, version, by, decide)


def approve(
    ledger: Ledger,
    version: int,
    *,
    by: Person,
    policies: Policies,
    bundles: Bundles,
    reason: str = "",
    seen_digest: str = "",
) -> Record:
    """Approve the bundle of `version`, as a person who has looked at it.

    The approval is bound to the bundle's digest, which is compared with the files in `bundles` first, and to the digest
    of the tier's policy. It expires. A refusal is recorded.

    Parameters
    ----------
    ledger, version, by
        Where to write, what is approved and by whom.
    policies
        Risk tiers: how long an approval counts.
    bundles
        Folder of the sealed bundles.
    reason
        What convinced the person.
    seen_digest
        Beginning of the digest that the person looked at, where that is known: another bundle is not approved by it.

    Raises
    ------
    ReleaseRefused
        If the person may not approve or is the author, the version is unknown, its stage past approving, its verdict
        failed or missing, the bundle altered or another one than was seen, or the person has approved it already.
    """

    def decide(state: ReleaseState) -> Decision:
        current = version_state(state, version)
        require_stage(current, APPROVABLE, "approved")
        require_verdict(current)
        if current.author and person_key(current.author) == person_key(by.name):
            raise PermissionDenied(
                f"version {version} is {by.name}'s own work; somebody else approves it",
                next_step="ask a colleague with the role to look at it",
            )
        tier = policies.tier(current.tier)
        now = ledger.clock.now()
        for given in current.approvals:
            is_same = person_key(given.name) == person_key(by.name)
            is_weaker = given.proof == STATED and by.proof != STATED
            if is_same and not is_weaker and given.policy_digest == tier.digest and given.expires_at > now:
                raise ReleaseRefused(
                    f"version {version} is approved by {by.name} already; another person may approve it too"
                )
        if not current.digest.startswith(seen_digest.lower()):
            raise ReleaseRefused(
                f"version {version} is bundle {current.digest[:16]}, the one that was looked at is {seen_digest[:16]}",
                next_step="look at the version again, then decide",
            )
        require_bundle(current, bundles)
        return "approved", {
            "digest": current.digest,
            "policy_digest": tier.digest,
            "roles": list(by.roles),
            "expires_at": (now + timedelta(hours=tier.approvals.valid_for_h)).isoformat(),
            "reason": plain_reason(reason),
        }

    try:
        by.require("approve")
        return append_decision(ledger, version, by, decide)
    except ReleaseRefused as error:
        record_refusal(ledger, version, by.name, "approve", error)
        raise


@records_refusals
def reject(ledger: Ledger, version: int, *, by: Person, reason: str) -> Record:
    """Reject `version` for good, with a reason; legal from candidate, staging and shadow, frozen or not.

    Raises
    ------
    ReleaseRefused
        If the person may not, the reason is empty, the version unknown or its stage past rejecting.
    """
    by.require("reject")
    said = given_reason(reason, f"rejecting version {version}")

    def decide(state: ReleaseState) -> Decision:
        current = version_state(state, version)
        require_rejectable(current)
        return "rejected", {"digest": current.digest, "reason": said}

    return append_decision(ledger, version, by, decide)


@records_refusals
def promote(
    ledger: Ledger,
    version: int,
    *,
    by: Person,
    policies: Policies,
    people: People,
    bundles: Bundles,
    to: str | None = None,
    share: float | None = None,
    is_emergency: bool = False,
    is_override: bool = False,
    supersede: bool = False,
    reason: str = "",
    entered_seq: int | None = None,
) -> Record:
    """Move `version` one step on: candidate -> staging -> shadow -> canary, share by share -> prod.

    Parameters
    ----------
    ledger, version, by
        Where to write, what to move and who does it.
    policies, people
        Risk tiers, and whose approvals count.
    bundles
        Folder of the sealed bundles; this version's must verify, and the champion's before it is replaced.
    to
        Stage to move to; the next one of the tier where left out.
    share
        Share of the units for a canary, the next step of the tier; may be left out.
    is_emergency
        Take the tier's emergency path: no shadow, fewer steps, a review afterwards. Stays with the version.
    is_override
        Move on although the evidence of the present step is no pass.
    supersede
        Let the version that is shadow or canary now give way.
    reason
        Why; needed for an emergency and an override.
    entered_seq
        Record that began the step to move on from, where it is about that step only.

    Raises
    ------
    ReleaseRefused
        If the move is illegal, the version has left the step that is meant, or verdict, approvals, evidence, rehearsal
        or a whole bundle are missing.
    """
    by.require("promote")
    if is_emergency:
        by.require("emergency")
    if is_override:
        by.require("override")
    said = given_reason(reason, "this promotion") if is_emergency or is_override else plain_reason(reason)

    def decide(state: ReleaseState) -> Decision:
        known = version_state(state, version)
        require_step(known, entered_seq, "promoting")
        tier = policies.tier(known.tier)
        is_short = is_emergency or known.is_emergency
        way = replace(known, is_emergency=is_short)
        target = to or (CANARY if share is not None else next_stage(state, way, tier))
        held = {SHADOW: state.shadow, CANARY: state.canary}.get(target)
        given_way = held if supersede and held != version else None
        current = require_promotable(state, version, target, supersedes=given_way)
        if given_way is not None and tier.overlap == "wait" and not is_short:
            by.require("supersede")
        if given_way is not None and state.versions[given_way].stage == FROZEN:
            by.require("thaw")
        require_verdict(current)
        require_bundle(current, bundles)  # may take seconds: consent is compared after it
        now = ledger.clock.now()
        if target in (CANARY, PROD):
            require_shadowed(state, current, tier, is_emergency=is_short)
            require_approvals(current, tier, people, now, is_emergency=is_short)
            if not is_override:
                require_evidence(state, current, tier)
        if share is not None and target != CANARY:
            raise ReleaseRefused(f"promoting version {version} to {target}: only a canary has a share")
        detail: dict[str, object] = {"digest": current.digest, "from": current.stage, "to": target, "reason": said}
        detail |= {"policy_digest": tier.digest, "is_emergency": is_short, "is_override": is_override}
        if given_way is not None:
            detail["supersedes"] = given_way
        if target == CANARY:
            detail["share"] = canary_share(current, tier, share, is_emergency=is_short)
        if target == PROD:
            if state.champion is not None:
                require_last_step(current, tier, is_emergency=is_short)
            if not is_short:
                require_rehearsal(state, current, tier, now)
                require_way_back(state, bundles)
            detail["replaces"] = state.champion
            if is_short:
                detail["review_due_at"] = (now + timedelta(hours=tier.emergency.review_within_h)).isoformat()
        return "promoted", detail

    def holds(state: ReleaseState, detail: Mapping[str, object], at: datetime) -> None:
        """Refuse a consent that has expired since it was looked at."""
        current, is_short = state.versions[version], bool(detail["is_emergency"])
        if detail["to"] in (CANARY, PROD):
            require_approvals(current, policies.tier(current.tier), people, at, is_emergency=is_short)

    return append_decision(ledger, version, by, decide, holds=holds)


@records_refusals
def rollback(
    ledger: Ledger,
    *,
    by: Person,
    reason: str = "",
    bundles: Bundles | None = None,
    only: int | None = None,
    evidence: Mapping[str, object] | None = None,
) -> tuple[int, int | None]:
    """Take the live canary out, or return from the champion to the champion before it.

    Needs the ledger and nothing else: no MLflow, no network, no approval.

    Parameters
    ----------
    ledger, by, reason
        Where to write, who does it and why.
    bundles
        Folder of the sealed bundles; where given, the bundle to return to must verify.
    only
        Version that is meant; where another one would be taken out by now, nothing is.
    evidence
        What the judge knew, where it is the judge that takes it out: not one that was frozen meanwhile.

    Returns
    -------
    tuple of int and (int or None)
        The version taken out and the champion after it (None: none yet).

    Raises
    ------
    ReleaseRefused
        If the person may not, nothing is live, there is no champion to return to, or its bundle is missing or altered.
    """
    by.require("rollback")

    def decide(state: ReleaseState) -> Decision:
        out, back = rollback_target(state)
        if only is not None and out != only:
            raise ReleaseRefused(f"rolling back version {only}: it is not live any more, version {out} is")
        if evidence is not None and state.versions[out].stage == FROZEN:
            raise ReleaseRefused(
                f"rolling back version {out}: it was frozen, a person takes it out or lets it go on",
                next_step="kedro release rollback, or kedro release thaw",
            )
        if bundles is not None and state.canary is None and back is not None:
            require_target(state.versions[back], bundles)
        return "rolled_back", {
            "digest": state.versions[out].digest,
            "from": out,
            "to": back,
            "stage": state.versions[out].live_stage,
            "reason": plain_reason(reason),
            **({"evidence": dict(evidence)} if evidence is not None else {}),
        }

    record = append_decision(ledger, None, by, decide)
    back = record.detail["to"]
    return int(record.subject), int(back) if back is not None else None
