"""What people and pipelines may do to a release, for the command line and the dashboard alike.

Each command folds the ledger, decides, and appends one record on the condition that the ledger has not moved in
between; where it has, the decision is made again on the new state. Of two people who promote at once one succeeds and
the other is told what is legal now. Nothing here touches MLflow: run the reconciler afterwards.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from flightdeck.core.errors import LedgerConflict, NotFoundError, ReleaseRefused
from flightdeck.gates.policy import Policies
from flightdeck.gates.verdict import Verdict
from flightdeck.inference.bundle import Bundle
from flightdeck.release.ledger import Ledger, LedgerMoved
from flightdeck.release.record import Record
from flightdeck.release.requirements import (
    canary_share,
    named_person,
    person_key,
    plain_reason,
    require_approvals,
    require_bundle,
    require_stage,
    require_verdict,
)
from flightdeck.release.state import (
    APPROVABLE,
    CANARY,
    PROD,
    PROMOTIONS,
    REJECTABLE,
    ReleaseState,
    fold,
    require_promotable,
    rollback_target,
    version_state,
)

Decision = tuple[str, Mapping[str, object]]
N_ATTEMPTS = 20


def current_state(ledger: Ledger) -> ReleaseState:
    """Return the state that the ledger amounts to, refusing an absent or altered one.

    Raises
    ------
    NotFoundError
        If there is no ledger: nothing was released yet, or the file is lost.
    LedgerCorrupt
        If the chain is broken.
    """
    if not ledger.exists():
        raise NotFoundError(
            f"no ledger at {ledger.place}: nothing has been released, or the file was lost",
            next_step="run kedro run --config kedro.yml, or restore the file from a backup if there was one",
        )
    return fold(ledger.records())


def register(
    ledger: Ledger,
    version: int,
    *,
    bundle: Bundle,
    model_name: str,
    tier: str,
    by: str,
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
    facts
        More to remember: content digest, model digest, run.

    Raises
    ------
    ReleaseRefused
        If the ledger knows the version as another bundle.
    """
    existing = [r for r in ledger.records() if r.action == "registered" and r.subject == str(version)]
    if existing:
        if existing[0].detail["digest"] == bundle.digest:
            return existing[0]
        raise ReleaseRefused(
            f"registering version {version}: the ledger knows it as bundle {existing[0].detail['digest'][:16]}, "
            f"this is {bundle.digest[:16]}; the model registry and the ledger have parted",
            next_step="restore data/06_models/mlflow.db and data/06_models/ledger.sqlite from the same backup",
        )
    detail = {**(facts or {}), "digest": bundle.digest, "model_name": model_name, "tier": tier}
    return append_decision(ledger, version, by, lambda _: ("registered", detail), needs_ledger=False)


def record_verdict(ledger: Ledger, version: int, verdict: Verdict, *, bundle: Bundle, by: str) -> Record:
    """Enter what the gate said about the content of `bundle`.

    Raises
    ------
    ReleaseRefused
        If the verdict is about other content or the version is another bundle.
    """
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


def approve(ledger: Ledger, version: int, *, by: str, bundles: Path, reason: str = "") -> Record:
    """Approve the bundle of `version`, as a named person who has looked at it.

    The approval is bound to the bundle's digest, which is compared with the files in `bundles` first.

    Raises
    ------
    ReleaseRefused
        If the name is empty, the version unknown, its stage past approving, its verdict failed or missing, the bundle
        altered, or the same person has approved it already.
    """
    name = named_person(by, "approving")

    def decide(state: ReleaseState) -> Decision:
        current = version_state(state, version)
        require_stage(current, APPROVABLE, "approved")
        require_verdict(current)
        if person_key(name) in {person_key(other) for other in current.approved_by}:
            raise ReleaseRefused(f"version {version} is approved by {name} already; another person may approve it too")
        require_bundle(current, bundles)
        return "approved", {"digest": current.digest, "reason": plain_reason(reason)}

    return append_decision(ledger, version, name, decide)


def reject(ledger: Ledger, version: int, *, by: str, reason: str) -> Record:
    """Reject `version` for good, as a named person with a reason; legal from candidate and staging.

    Raises
    ------
    ReleaseRefused
        If the name or the reason is empty, the version unknown or its stage past rejecting.
    """
    name = named_person(by, "rejecting")
    if not plain_reason(reason):
        raise ReleaseRefused(f"rejecting version {version}: a rejection says why", next_step="give --reason")

    def decide(state: ReleaseState) -> Decision:
        current = version_state(state, version)
        require_stage(current, REJECTABLE, "rejected")
        return "rejected", {"digest": current.digest, "reason": plain_reason(reason)}

    return append_decision(ledger, version, name, decide)


def promote(
    ledger: Ledger,
    version: int,
    *,
    by: str,
    policies: Policies,
    bundles: Path,
    to: str | None = None,
    share: float | None = None,
) -> Record:
    """Move `version` one stage on: candidate -> staging -> canary -> prod.

    Parameters
    ----------
    ledger, version, by
        Where to write, what to move and who does it.
    policies
        Risk tiers: approvals needed and canary steps.
    bundles
        Folder of the sealed bundles; this version's must verify.
    to
        Stage to move to; the next one where left out.
    share
        Share of the units for a canary, one of the tier's steps; its next step where left out.

    Raises
    ------
    ReleaseRefused
        If the move is illegal, the verdict failed or is missing, approvals are missing or the bundle is altered.
    """
    name = named_person(by, "promoting")

    def decide(state: ReleaseState) -> Decision:
        known = version_state(state, version)
        target = to or next(reversed(PROMOTIONS[known.stage]), "the next stage")
        current = require_promotable(state, version, target)
        tier = policies.tier(current.tier)
        require_verdict(current)
        if target in (CANARY, PROD):
            require_approvals(current, tier)
        if share is not None and target != CANARY:
            raise ReleaseRefused(f"promoting version {version} to {target}: only a canary has a share")
        require_bundle(current, bundles)
        detail: dict[str, object] = {"digest": current.digest, "from": current.stage, "to": target}
        if target == CANARY:
            detail["share"] = canary_share(current, tier, share)
        if target == PROD:
            detail["replaces"] = state.champion
        return "promoted", detail

    return append_decision(ledger, version, name, decide)


def rollback(ledger: Ledger, *, by: str, reason: str = "", bundles: Path | None = None) -> tuple[int, int | None]:
    """Take the live canary out, or return from the champion to the champion before it.

    Needs the ledger and nothing else: no MLflow, no network, no approval.

    Parameters
    ----------
    ledger, by, reason
        Where to write, who does it and why.
    bundles
        Folder of the sealed bundles; where given, the bundle to return to must verify.

    Returns
    -------
    tuple of int and (int or None)
        The version taken out and the champion after it (None: none yet).

    Raises
    ------
    ReleaseRefused
        If nothing is live, there is no champion to return to, or its bundle is missing or altered.
    """
    name = named_person(by, "rolling back")
    moved: dict[str, int | None] = {}

    def decide(state: ReleaseState) -> Decision:
        out, back = rollback_target(state)
        if bundles is not None and state.canary is None and back is not None:
            require_bundle(state.versions[back], bundles)
        moved.update(out=out, back=back)
        return "rolled_back", {
            "from": out,
            "to": back,
            "stage": state.versions[out].stage,
            "reason": plain_reason(reason),
        }

    record = append_decision(ledger, None, name, decide)
    return int(record.subject), moved["back"]


def append_decision(
    ledger: Ledger,
    version: int | None,
    actor: str,
    decide: Callable[[ReleaseState], Decision],
    *,
    needs_ledger: bool = True,
) -> Record:
    """Append what `decide` decides on the newest state; decide again whenever the ledger moves underneath.

    The record is about `version`, else about the version that the detail calls `from`, else about none.

    Raises
    ------
    ReleaseRefused
        Whatever `decide` refuses.
    LedgerConflict
        If the ledger keeps moving, or it is fenced and another controller took the lease.
    """
    for _ in range(N_ATTEMPTS):
        state = current_state(ledger) if needs_ledger or ledger.exists() else ReleaseState()
        action, detail = decide(state)
        subject = str(version if version is not None else detail.get("from", "-"))
        try:
            return ledger.append(action, actor=actor, subject=subject, detail=detail, expected_seq=state.seq)
        except LedgerMoved:
            continue
    raise LedgerConflict(
        f"the ledger moved {N_ATTEMPTS} times while this was being decided; nothing was recorded",
        next_step="see who else writes to it, then repeat the command",
    )
