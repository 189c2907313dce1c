"""What the ledger's records mean: the stage of every version, as a pure fold.

::

    candidate -> staging -> canary -> prod -> archived
        |           |          |        |        |
     rejected    rejected   rolled_back |       prod     (rollback brings the previous champion back)
                                     rolled_back -> staging  (a new attempt needs new approvals)

There is at most one version in canary and one in prod, the champion. Shadows, experiments and segments are the rules of
the newest `routed` record, less the versions that were rolled back or rejected since. `fold` refuses a ledger that says
otherwise: its chain may be whole, yet no command of ours wrote it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import msgspec

from flightdeck.core.errors import LedgerCorrupt, ReleaseRefused
from flightdeck.inference.routing_rules import NO_RULES, Rules, rule_problems
from flightdeck.release.record import GENESIS, RESTORE, Record

CANDIDATE, STAGING, CANARY, PROD = "candidate", "staging", "canary", "prod"
ARCHIVED, REJECTED, ROLLED_BACK = "archived", "rejected", "rolled_back"
PROMOTIONS: Mapping[str, tuple[str, ...]] = {
    CANDIDATE: (STAGING,),
    STAGING: (CANARY,),
    CANARY: (CANARY, PROD),
    PROD: (),
    ARCHIVED: (),
    REJECTED: (),
    ROLLED_BACK: (STAGING,),
}
REJECTABLE = (CANDIDATE, STAGING)
APPROVABLE = (CANDIDATE, STAGING, CANARY)
ROUTABLE = (STAGING, CANARY, PROD, ARCHIVED)


@dataclass(frozen=True)
class VersionState:
    """Where one model version stands.

    Parameters
    ----------
    version
        Number of the version in the model registry.
    digest
        Digest of its sealed bundle, 64 hexadecimal characters.
    tier
        Risk tier whose policy applies.
    model_name
        Name of the registered model.
    stage
        One of candidate, staging, canary, prod, archived, rejected, rolled_back.
    verdict_passed
        What the gate said; None before it looked.
    failed_checks
        Names of the blocking checks that failed.
    approved_by
        Names of the people who approve this digest, in order.
    canary_share
        Share of the units that a canary decides for, in (0, 1); 0 in any other stage.
    """

    version: int
    digest: str
    tier: str
    model_name: str
    stage: str = CANDIDATE
    verdict_passed: bool | None = None
    failed_checks: tuple[str, ...] = ()
    approved_by: tuple[str, ...] = ()
    canary_share: float = 0.0


@dataclass(frozen=True)
class ReleaseState:
    """What is live, what waits and what was: the fold over all records up to `seq`, whose digest is `digest`."""

    versions: Mapping[int, VersionState] = field(default_factory=dict)
    previous_champions: tuple[int, ...] = ()
    rules: Rules = NO_RULES
    seq: int = 0
    digest: str = GENESIS

    @property
    def champion(self) -> int | None:
        """Version in prod, or None."""
        return self._only(PROD)

    @property
    def canary(self) -> int | None:
        """Version in canary, or None."""
        return self._only(CANARY)

    @property
    def canary_share(self) -> float:
        """Share of the units that the canary decides for, 0 without one."""
        return self.versions[self.canary].canary_share if self.canary is not None else 0.0

    @property
    def candidate(self) -> int | None:
        """Newest version that waits in candidate or staging, or None."""
        waiting = [v.version for v in self.versions.values() if v.stage in (CANDIDATE, STAGING)]
        return max(waiting, default=None)

    @property
    def model_name(self) -> str | None:
        """Registered model that the versions belong to, or None before the first."""
        return next((v.model_name for v in reversed(list(self.versions.values()))), None)

    def _only(self, stage: str) -> int | None:
        return next((v.version for v in self.versions.values() if v.stage == stage), None)


def fold(records: Iterable[Record], state: ReleaseState | None = None) -> ReleaseState:
    """Return the state after `records`, starting from `state` (default: nothing released).

    Actions that say nothing about a version (`alert`, ...) only move `seq` and `digest`.

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


def version_state(state: ReleaseState, version: int) -> VersionState:
    """Return the state of `version`.

    Raises
    ------
    ReleaseRefused
        If it is unknown, naming the versions there are.
    """
    if version not in state.versions:
        known = ", ".join(str(v) for v in sorted(state.versions)) or "none: run kedro run --config kedro.yml"
        raise ReleaseRefused(f"version {version} is not in the ledger; versions there: {known}")
    return state.versions[version]


def require_promotable(state: ReleaseState, version: int, to: str) -> VersionState:
    """Return the state of `version` if the stages allow it to go to `to`.

    Raises
    ------
    ReleaseRefused
        Naming the legal moves.
    """
    current = version_state(state, version)
    legal = PROMOTIONS[current.stage]
    if to not in legal:
        raise ReleaseRefused(
            f"version {version} is in {current.stage} and cannot be promoted to {to!r}; "
            f"legal from {current.stage}: {', '.join(legal) or 'no promotion'}",
            next_step="promote one stage at a time: candidate -> staging -> canary -> prod",
        )
    if to == CANARY and state.canary not in (None, version):
        raise ReleaseRefused(
            f"version {version} cannot become canary: version {state.canary} is the canary",
            next_step=f"promote {state.canary} to prod, or take it out: kedro release rollback",
        )
    return current


def rollback_target(state: ReleaseState) -> tuple[int, int | None]:
    """Return which version a rollback takes out, and which one serves after it (None: no champion yet).

    A live canary is taken out first; without one the champion gives way to the champion before it.

    Raises
    ------
    ReleaseRefused
        If nothing is live, or the champion has no predecessor.
    """
    if state.canary is not None:
        return state.canary, state.champion
    if state.champion is None:
        raise ReleaseRefused(
            "rolling back: nothing is live, no version is in canary or prod",
            next_step="see what there is: kedro release list",
        )
    if not state.previous_champions:
        raise ReleaseRefused(
            f"rolling back: version {state.champion} is the first champion, there is none before it to return to",
            next_step="release another version; until then the service can only be stopped",
        )
    return state.champion, state.previous_champions[-1]


def legal_moves(state: ReleaseState, version: int) -> list[str]:
    """Return what may be done with `version` now, as far as stages say: verdict and approvals are left aside."""
    current = version_state(state, version)
    moves = [f"promote to {to}" for to in PROMOTIONS[current.stage] if to != CANARY or state.canary in (None, version)]
    moves += ["approve"] if current.stage in APPROVABLE else []
    moves += ["reject"] if current.stage in REJECTABLE else []
    is_taken_out = current.stage == CANARY or (
        current.stage == PROD and state.canary is None and bool(state.previous_champions)
    )
    return [*moves, "rollback"] if is_taken_out else moves


def require_routable(state: ReleaseState, rules: Rules) -> None:
    """Refuse rules that are wrong in themselves or give traffic to a version whose stage does not allow it.

    A version has left candidate, and was neither rejected nor rolled back. The champion of a segment was a canary
    before, of the table or of this segment.

    Raises
    ------
    ReleaseRefused
        With everything that is wrong.
    """
    problems = rule_problems(rules, state.versions)
    stages = {version: current.stage for version, current in state.versions.items()}
    for version, role in rules.roles():
        if version in stages and stages[version] not in ROUTABLE:
            problems.append(
                f"version {version} is in {stages[version]} and cannot be {role}; legal in: {', '.join(ROUTABLE)}"
            )
    tried = {(s.name, v) for s in state.rules.segments for v in (s.champion, s.canary.version if s.canary else None)}
    for segment in rules.segments:
        if stages.get(segment.champion or 0) == STAGING and (segment.name, segment.champion) not in tried:
            problems.append(
                f"version {segment.champion} is in {STAGING} and cannot be champion of segment {segment.name}: it was "
                "no canary yet; make it the canary of this segment, then promote it there"
            )
    if problems:
        raise ReleaseRefused("\n  - ".join(["these routes cannot be:", *problems]))


def _registered(state: ReleaseState, record: Record) -> ReleaseState:
    version, detail = int(record.subject), record.detail
    if version in state.versions:
        raise ReleaseRefused(f"version {version} is registered already")
    return _with(state, VersionState(version, detail["digest"], detail["tier"], detail["model_name"]))


def _verdict(state: ReleaseState, record: Record) -> ReleaseState:
    current, detail = _bound(state, record), record.detail
    return _with(
        state, replace(current, verdict_passed=bool(detail["passed"]), failed_checks=tuple(detail.get("failed", ())))
    )


def _approved(state: ReleaseState, record: Record) -> ReleaseState:
    current = _bound(state, record)
    return _with(state, replace(current, approved_by=(*current.approved_by, record.actor)))


def _rejected(state: ReleaseState, record: Record) -> ReleaseState:
    current = _bound(state, record)
    if current.stage not in REJECTABLE:
        raise ReleaseRefused(f"version {current.version} is in {current.stage}")
    return _unrouted(_with(state, replace(current, stage=REJECTED, approved_by=())), current.version)


def _promoted(state: ReleaseState, record: Record) -> ReleaseState:
    to: str = record.detail["to"]
    current = require_promotable(state, _bound(state, record).version, to)
    former = state.champion
    if to == PROD and former is not None:
        state = _with(state, replace(state.versions[former], stage=ARCHIVED))
        state = replace(state, previous_champions=(*state.previous_champions, former))
    share = float(record.detail["share"]) if to == CANARY else 0.0
    return _with(state, replace(current, stage=to, canary_share=share))


def _rolled_back(state: ReleaseState, record: Record) -> ReleaseState:
    out, back = rollback_target(state)
    if int(record.subject) != out or record.detail["to"] != back:
        raise ReleaseRefused(f"a rollback takes version {out} out and returns to {back}")
    was_champion = state.versions[out].stage == PROD
    state = _with(state, replace(state.versions[out], stage=ROLLED_BACK, canary_share=0.0, approved_by=()))
    state = _unrouted(state, out)
    if was_champion and back is not None:
        state = _with(state, replace(state.versions[back], stage=PROD))
        state = replace(state, previous_champions=state.previous_champions[:-1])
    return state


def _routed(state: ReleaseState, record: Record) -> ReleaseState:
    rules = msgspec.convert(record.detail["rules"], Rules)
    require_routable(state, rules)
    named = {str(version): state.versions[version].digest for version in rules.versions}
    if record.detail["digests"] != named:
        raise ReleaseRefused("it is about other bundles than those of its versions")
    return replace(state, rules=rules)


_MEANINGS = {
    "registered": _registered,
    "verdict": _verdict,
    "approved": _approved,
    "rejected": _rejected,
    "promoted": _promoted,
    "rolled_back": _rolled_back,
    "routed": _routed,
}


def _bound(state: ReleaseState, record: Record) -> VersionState:
    """Return the state of the record's version, refusing a record about another digest."""
    current = version_state(state, int(record.subject))
    if record.detail["digest"] != current.digest:
        said = str(record.detail["digest"])[:16]
        raise ReleaseRefused(f"it is about bundle {said}, version {current.version} is {current.digest[:16]}")
    return current


def _unrouted(state: ReleaseState, version: int) -> ReleaseState:
    return replace(state, rules=state.rules.without({version}))


def _with(state: ReleaseState, changed: VersionState) -> ReleaseState:
    return replace(state, versions={**state.versions, changed.version: changed})
