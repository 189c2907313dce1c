"""What a version must have before it may be moved: a verdict, consent, evidence, a rehearsal, a whole bundle."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import permutations
from pathlib import Path
from typing import Protocol

from flightdeck.core.errors import BundleRefused, NotFoundError, ReleaseRefused
from flightdeck.gates.policy import Tier
from flightdeck.inference.bundle import Bundle, open_bundle, require_format
from flightdeck.release.people import ConsentVoid, People, one_line, person_key
from flightdeck.release.stages import CANARY, PROD, SHADOW, Approval, ReleaseState, VersionState

MAX_REASON = 2000


class Shelf(Protocol):
    """Sealed bundles that lie elsewhere than in a folder."""

    def open(self, digest: str) -> Bundle:
        """Return the verified bundle of a digest, refusing as `open_bundle` does."""
        ...


Bundles = Path | Shelf
"""Where the sealed bundles are: their folder, or a shelf."""


def plain_reason(reason: str) -> str:
    """Return a reason as one line of printable characters: it is shown in terminals and pages.

    Raises
    ------
    ReleaseRefused
        If it is longer than 2,000 characters.
    """
    line = one_line(reason)
    if len(line) > MAX_REASON:
        raise ReleaseRefused(f"a reason has at most {MAX_REASON:,} characters, got {len(line):,}")
    return line


def given_reason(reason: str, doing: str) -> str:
    """Return a reason as one line, refusing an empty one."""
    line = plain_reason(reason)
    if not line:
        raise ReleaseRefused(f"{doing} says why", next_step="give --reason")
    return line


def require_verdict(current: VersionState) -> None:
    """Refuse a version that the gate has not looked at, or has failed, naming the failed checks."""
    if current.verdict_passed is None:
        raise ReleaseRefused(
            f"version {current.version} has no verdict: the gate has not looked at it",
            next_step="kedro run --config kedro.yml",
        )
    if not current.verdict_passed:
        raise ReleaseRefused(
            f"version {current.version} failed the gate: {', '.join(current.failed_checks)}",
            next_step=f"read its report (kedro release show {current.version}), train again; legal now: reject",
        )


def void_because(approval: Approval, tier: Tier, people: People, now: datetime, *, valid_for_h: float) -> str:
    """Return why an approval does not count now, in words; empty where it does."""
    if approval.policy_digest != tier.digest:
        return "the policy has changed since"
    expires_at = min(approval.expires_at, approval.at + timedelta(hours=valid_for_h))
    if expires_at <= now:
        return f"it expired at {expires_at:%Y-%m-%d %H:%M} UTC"
    return people.void_because(approval.name, approval.proof)


def valid_approvals(current: VersionState, tier: Tier, people: People, now: datetime) -> list[Approval]:
    """Return the approvals that count now: of this policy, not expired, by people who are still there."""
    valid_for_h = tier.approvals.valid_for_h
    return [given for given in current.approvals if not void_because(given, tier, people, now, valid_for_h=valid_for_h)]


def require_approvals(
    current: VersionState, tier: Tier, people: People, now: datetime, *, is_emergency: bool = False
) -> None:
    """Refuse a version whose valid approvals are not those that its tier asks for.

    Raises
    ------
    ReleaseRefused
        Naming who approves it, whose approval does not count and why, and what is missing; `ConsentVoid` where an
        approval counts no more.
    """
    asked, _ = tier.way(is_emergency)
    whys = [void_because(given, tier, people, now, valid_for_h=asked.valid_for_h) for given in current.approvals]
    given_and_why = list(zip(current.approvals, whys, strict=True))
    valid = {person_key(given.name): given for given, why in given_and_why if not why}
    void = {given.name: why for given, why in given_and_why if why and person_key(given.name) not in valid}
    missing = missing_approvals(list(valid.values()), asked.n, asked.roles)
    if not missing:
        return
    have = ", ".join(approval.name for approval in valid.values()) or "nobody"
    kind = ConsentVoid if void else ReleaseRefused
    raise kind(
        "; ".join(
            [
                f"version {current.version} is approved by {have}; tier {current.tier} needs {asked.n} "
                f"{'person' if asked.n == 1 else 'different people'}, missing: {missing}",
                *(f"{name}'s does not count: {why}" for name, why in void.items()),
            ]
        ),
        next_step=f"kedro release approve {current.version} --by NAME",
    )


def missing_approvals(valid: Sequence[Approval], n: int, roles: Sequence[str]) -> str:
    """Return in words what is missing to `n` approvals, one person for each of `roles`; empty if nothing is."""
    open_roles = min(
        (
            [role for role, approval in zip(roles, order, strict=False) if role not in approval.roles]
            + list(roles[len(order) :])
            for order in permutations(valid[:8], min(len(roles), len(valid[:8])))
        ),
        key=len,
        default=list(roles),
    )
    n_more = n - len(valid)
    if open_roles:
        return f"{max(n_more, len(open_roles))} more, with the role {' and '.join(open_roles)}"
    return f"{n_more} more" if n_more > 0 else ""


def require_evidence(state: ReleaseState, current: VersionState, tier: Tier) -> None:
    """Refuse to move a version on whose present step was not judged a pass.

    There is nothing to compare with before the first champion, and no traffic in candidate and staging.

    Raises
    ------
    ReleaseRefused
        Saying what the judge says.
    """
    if state.champion is None or current.stage not in (SHADOW, CANARY):
        return
    evidence = current.evidence
    if evidence is not None and evidence.verdict == "pass":
        return
    said = f"the judge says {evidence.verdict}" if evidence is not None else "the judge has said nothing yet"
    raise ReleaseRefused(
        f"version {current.version} in {current.stage} has no evidence that it is no worse: {said} "
        f"{f'after {evidence.n_requests:,} requests' if evidence is not None else ''}".rstrip(),
        next_step="let the controller judge it (kedro release rollout), or move it on against the evidence with "
        "--override and a reason",
    )


def require_shadowed(state: ReleaseState, current: VersionState, tier: Tier, *, is_emergency: bool) -> None:
    """Refuse a version that its tier wants to see in shadow before it decides, once there is traffic."""
    has_shadow = tier.shadow is not None and state.champion is not None and not is_emergency
    if has_shadow and current.stage not in (SHADOW, CANARY):
        raise ReleaseRefused(
            f"version {current.version} is in {current.stage}: tier {current.tier} wants it in shadow before canary",
            next_step=f"kedro release promote {current.version} --to shadow",
        )


def require_rehearsal(state: ReleaseState, current: VersionState, tier: Tier, now: datetime) -> None:
    """Refuse a version whose way back was not rehearsed lately, where its tier asks for that."""
    if tier.rehearsal_within_h is None or state.champion is None:
        return
    done = current.rehearsal
    if done is not None and now - done.at <= timedelta(hours=tier.rehearsal_within_h) and done.to == state.champion:
        return
    was = "never" if done is None else f"last at {done.at:%Y-%m-%d %H:%M} UTC, back to version {done.to}"
    raise ReleaseRefused(
        f"version {current.version}: its rollback was {was} rehearsed; tier {current.tier} asks for a rehearsal within "
        f"{tier.rehearsal_within_h:g} h, back to version {state.champion}",
        next_step=f"kedro release rehearse {current.version}",
    )


def require_bundle(current: VersionState, bundles: Bundles) -> None:
    """Refuse a version whose sealed bundle below `bundles` is missing, altered or of a format that is not served."""
    try:
        require_format(
            open_bundle(bundles / current.digest[:16], expected_digest=current.digest)
            if isinstance(bundles, Path)
            else bundles.open(current.digest)
        )
    except (BundleRefused, NotFoundError) as error:
        raise ReleaseRefused(
            f"version {current.version}: its bundle does not verify: {error.message}",
            next_step="restore the folder from a backup, or train again: kedro run --config kedro.yml",
        ) from error


def require_target(current: VersionState, bundles: Bundles) -> None:
    """Refuse to return to a champion whose bundle does not verify: a worker that starts anew could not open it."""
    try:
        require_bundle(current, bundles)
    except ReleaseRefused as error:
        raise ReleaseRefused(
            error.message,
            next_step="workers that run have it in memory: kedro release rollback --as-loaded, then restore it "
            f"(kedro release fetch {current.version}) before one starts anew",
        ) from error


def require_way_back(state: ReleaseState, bundles: Bundles) -> None:
    """Refuse to replace a champion whose own bundle does not verify: a rollback would have nowhere to go."""
    if state.champion is None:
        return
    try:
        require_bundle(state.versions[state.champion], bundles)
    except ReleaseRefused as error:
        raise ReleaseRefused(
            f"there would be no way back: {error.message}",
            next_step="restore the bundle of the champion (kedro release fetch), or take the emergency path",
        ) from error


def canary_share(current: VersionState, tier: Tier, share: float | None, *, is_emergency: bool = False) -> float:
    """Return the canary share to set: the wished one if it is a step of the tier, else the next step.

    Raises
    ------
    ReleaseRefused
        If it is no step, skips one, or is the share that there is.
    """
    steps = [step.share for step in tier.way(is_emergency)[1]]
    following = next((s for s in steps if s > current.canary_share), steps[-1])
    share = following if share is None else share
    if share not in steps:
        raise ReleaseRefused(
            f"promoting version {current.version} to canary with a share of {share}: "
            f"legal in tier {current.tier}: {', '.join(f'{step:g}' for step in steps)}"
        )
    if share == current.canary_share:
        raise ReleaseRefused(f"version {current.version} decides for a share of {share:g} already")
    if share > following:
        raise ReleaseRefused(
            f"promoting version {current.version} to a share of {share:g}: the next step of tier {current.tier} is "
            f"{following:g}, none is left out"
        )
    return share


def require_last_step(current: VersionState, tier: Tier, *, is_emergency: bool) -> None:
    """Refuse to put a canary into prod that has not come to the last share of its tier."""
    last = tier.way(is_emergency)[1][-1].share
    if current.canary_share < last:
        raise ReleaseRefused(
            f"version {current.version} decides for a share of {current.canary_share:g}; tier {current.tier} goes to "
            f"{last:g} before prod",
            next_step=f"kedro release promote {current.version} --to {CANARY}",
        )


def next_stage(state: ReleaseState, current: VersionState, tier: Tier) -> str:
    """Return the stage that comes next for a version by its tier; canary once more until its last share."""
    if current.stage == CANARY:
        last = tier.way(current.is_emergency)[1][-1].share
        return PROD if state.champion is None or current.canary_share >= last else CANARY
    if current.stage == SHADOW:
        return CANARY
    if current.stage == "staging":
        wants_shadow = tier.shadow is not None and state.champion is not None and not current.is_emergency
        return SHADOW if wants_shadow else CANARY
    return "staging"
