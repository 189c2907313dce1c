"""What the ledger's records mean: the stage of every version, as a pure fold.

There is at most one version in canary and one in prod, the champion. Shadows, experiments and segments are the rules of
the newest `routed` record, less the versions that left since. `fold` refuses a ledger that says otherwise: its chain
may be whole, yet no command of ours wrote it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime

import msgspec

from flightdeck.core.errors import LedgerCorrupt, ReleaseRefused
from flightdeck.inference.routing_rules import Rules
from flightdeck.release.moves import (
    require_promotable,
    require_rejectable,
    require_routable,
    require_stage,
    require_supersedable,
    rollback_target,
    taken_out,
    version_state,
)
from flightdeck.release.people import STATED
from flightdeck.release.record import RESTORE, Record
from flightdeck.release.stages import (
    APPROVABLE,
    ARCHIVED,
    CANARY,
    FREEZABLE,
    FROZEN,
    PROD,
    REJECTED,
    ROLLED_BACK,
    SUPERSEDED,
    Approval,
    Evidence,
    Rehearsal,
    ReleaseState,
    VersionState,
)


def fold(records: Iterable[Record], state: ReleaseState | None = None) -> ReleaseState:
    """Return the state after `records`, starting from `state` (default: nothing released).

    Actions that say nothing about a version (`alert`, `refused`, ...) only move `seq` and `digest`.

    Raises
    ------
    LedgerCorrupt
        If a record makes a move that the commands never make.
    """
    state = state or ReleaseState()
    for record in records:
        apply = _MEANINGS.get(record.action)
        try:
            state = replace(apply(state, record) if apply else state, seq=record.seq, digest=record.digest)
        except (ReleaseRefused, KeyError, ValueError, TypeError) as error:
            reason = error.message if isinstance(error, ReleaseRefused) else repr(error)
            raise LedgerCorrupt(
                f"reading the ledger: record {record.seq} ({record.action} {record.subject}) cannot be: {reason}",
                next_step=RESTORE,
            ) from error
    return state


def _registered(state: ReleaseState, record: Record) -> ReleaseState:
    version, detail = int(record.subject), record.detail
    if version in state.versions:
        raise ReleaseRefused(f"version {version} is registered already")
    entered = VersionState(
        version, detail["digest"], detail["tier"], detail["model_name"], str(detail.get("author", ""))
    )
    return _with(state, _entered(entered, record))


def _verdict(state: ReleaseState, record: Record) -> ReleaseState:
    current, detail = _bound(state, record), record.detail
    return _with(
        state, replace(current, verdict_passed=bool(detail["passed"]), failed_checks=tuple(detail.get("failed", ())))
    )


def _approved(state: ReleaseState, record: Record) -> ReleaseState:
    current, detail = _bound(state, record), record.detail
    require_stage(current, APPROVABLE, "approved")
    given = Approval(
        record.actor,
        tuple(detail.get("roles", ())),
        record.recorded_at,
        datetime.fromisoformat(detail["expires_at"]) if "expires_at" in detail else record.recorded_at,
        str(detail.get("policy_digest", "")),
        str(detail.get("proof", STATED)),
    )
    return _with(state, replace(current, approvals=(*current.approvals, given)))


def _revoked(state: ReleaseState, record: Record) -> ReleaseState:
    current, name = _bound(state, record), record.detail["name"]
    kept = tuple(approval for approval in current.approvals if approval.name != name)
    if kept == current.approvals:
        raise ReleaseRefused(f"version {current.version} is not approved by {name}")
    return _with(state, replace(current, approvals=kept))


def _tier_changed(state: ReleaseState, record: Record) -> ReleaseState:
    current = _bound(state, record)
    require_stage(current, APPROVABLE, "given another tier")
    if record.detail["from"] != current.tier:
        raise ReleaseRefused(f"version {current.version} is of tier {current.tier}")
    looked_at = None if record.detail["voids_verdict"] else current.verdict_passed
    return _with(state, replace(current, tier=str(record.detail["to"]), approvals=(), verdict_passed=looked_at))


def _rejected(state: ReleaseState, record: Record) -> ReleaseState:
    current = _bound(state, record)
    require_rejectable(current)
    return _left(state, current, REJECTED, record)


def _promoted(state: ReleaseState, record: Record) -> ReleaseState:
    detail, to = record.detail, str(record.detail["to"])
    given_way = detail.get("supersedes")
    current = require_promotable(state, _bound(state, record).version, to, supersedes=given_way)
    if given_way is not None:
        require_supersedable(state, int(given_way), current.version)
        state = _left(state, state.versions[int(given_way)], SUPERSEDED, record)
    former = state.champion
    if to == PROD and former is not None:
        state = _with(state, _entered(replace(state.versions[former], stage=ARCHIVED), record))
        state = replace(state, previous_champions=(*state.previous_champions, former))
    due = detail.get("review_due_at")
    moved = replace(
        current,
        stage=to,
        canary_share=float(detail["share"]) if to == CANARY else 0.0,
        is_emergency=current.is_emergency or bool(detail.get("is_emergency", False)),
        review_due_at=datetime.fromisoformat(due) if due else current.review_due_at,
    )
    return _with(state, _entered(moved, record))


def _judged(state: ReleaseState, record: Record) -> ReleaseState:
    current, detail = _bound(state, record), record.detail
    require_stage(current, FREEZABLE, "judged")
    if detail["entered_seq"] != current.entered_seq:
        raise ReleaseRefused(f"it is about the step of record {detail['entered_seq']}, not {current.entered_seq}")
    return _with(
        state,
        replace(current, evidence=Evidence(str(detail["verdict"]), record.recorded_at, int(detail["n_requests"]))),
    )


def _frozen(state: ReleaseState, record: Record) -> ReleaseState:
    current = _bound(state, record)
    require_stage(current, FREEZABLE, "frozen")
    return _with(state, replace(current, stage=FROZEN, frozen_from=current.stage))


def _thawed(state: ReleaseState, record: Record) -> ReleaseState:
    current = _bound(state, record)
    require_stage(current, (FROZEN,), "let go on")
    return _with(state, _entered(replace(current, stage=current.frozen_from, frozen_from=""), record))


def _superseded(state: ReleaseState, record: Record) -> ReleaseState:
    current = require_supersedable(state, _bound(state, record).version, int(record.detail["by"]))
    return _left(state, current, SUPERSEDED, record)


def _rolled_back(state: ReleaseState, record: Record) -> ReleaseState:
    out, back = rollback_target(state)
    if int(record.subject) != out or record.detail["to"] != back:
        raise ReleaseRefused(f"a rollback takes version {out} out and returns to {back}")
    was_champion = state.versions[out].stage == PROD
    state = _left(state, state.versions[out], ROLLED_BACK, record)
    if was_champion and back is not None:
        back_again = _entered(replace(state.versions[back], stage=PROD), record)
        if "ordered_at" in record.detail:  # the service has obeyed since then
            back_again = replace(back_again, entered_at=datetime.fromisoformat(record.detail["ordered_at"]))
        state = _with(state, back_again)
        state = replace(state, previous_champions=state.previous_champions[:-1])
    return state


def _rehearsed(state: ReleaseState, record: Record) -> ReleaseState:
    current, detail = _bound(state, record), record.detail
    to = detail["to"]
    done = Rehearsal(record.recorded_at, float(detail["duration_s"]), int(to) if to is not None else None)
    return _with(state, replace(current, rehearsal=done))


def _reviewed(state: ReleaseState, record: Record) -> ReleaseState:
    current = _bound(state, record)
    if current.review_due_at is None:
        raise ReleaseRefused(f"version {current.version} has no review due")
    return _with(state, replace(current, review_due_at=None))


def _routed(state: ReleaseState, record: Record) -> ReleaseState:
    rules = msgspec.convert(record.detail["rules"], Rules)
    require_routable(state, rules)
    named = {str(version): state.versions[version].digest for version in rules.versions}
    if record.detail["digests"] != named:
        raise ReleaseRefused("it is about other bundles than those of its versions")
    former = _segment_champions(state, rules, record.detail.get("returns"))
    return replace(state, rules=rules, segment_champions=former)


_MEANINGS = {
    "registered": _registered,
    "verdict": _verdict,
    "approved": _approved,
    "approval_revoked": _revoked,
    "tier_changed": _tier_changed,
    "rejected": _rejected,
    "promoted": _promoted,
    "judged": _judged,
    "frozen": _frozen,
    "thawed": _thawed,
    "superseded": _superseded,
    "rolled_back": _rolled_back,
    "rehearsed": _rehearsed,
    "reviewed": _reviewed,
    "routed": _routed,
}


def _bound(state: ReleaseState, record: Record) -> VersionState:
    """Return the state of the record's version, refusing a record about another digest."""
    current = version_state(state, int(record.subject))
    if record.detail["digest"] != current.digest:
        said = str(record.detail["digest"])[:16]
        raise ReleaseRefused(f"it is about bundle {said}, version {current.version} is {current.digest[:16]}")
    return current


def _segment_champions(state: ReleaseState, rules: Rules, returns: object) -> Mapping[str, tuple[int | None, ...]]:
    """Return the former champions of each segment after `rules`; `returns` names the segment that went back to one."""
    before = {segment.name: segment.champion for segment in state.rules.segments}
    found: dict[str, tuple[int | None, ...]] = {}
    for segment in rules.segments:
        former = state.segment_champions.get(segment.name, ())
        if segment.name == returns:
            former = former[:-1]
        elif segment.name in before and before[segment.name] != segment.champion:
            former = (*former, before[segment.name])
        if former:
            found[segment.name] = former
    return found


def _left(state: ReleaseState, current: VersionState, stage: str, record: Record) -> ReleaseState:
    """Return the state after a version left for a stage without traffic; no rule and no way back names it any more."""
    state = _with(state, _entered(taken_out(current, stage), record))
    former = {
        name: kept
        for name, versions in state.segment_champions.items()
        if (kept := tuple(v for v in versions if v != current.version))
    }
    return replace(state, rules=state.rules.without({current.version}), segment_champions=former)


def _entered(changed: VersionState, record: Record) -> VersionState:
    return replace(changed, entered_seq=record.seq, entered_at=record.recorded_at, evidence=None)


def _with(state: ReleaseState, changed: VersionState) -> ReleaseState:
    return replace(state, versions={**state.versions, changed.version: changed})
