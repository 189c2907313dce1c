"""Which moves the stages allow, and the refusals that name the legal ones. Policy is the business of `requirements`."""

from dataclasses import replace

from flightdeck.core.errors import ReleaseRefused
from flightdeck.inference.routing_rules import MAX_SHADOWS, Rules, rule_problems
from flightdeck.release.stages import (
    APPROVABLE,
    CANARY,
    FREEZABLE,
    FROZEN,
    PROD,
    PROMOTIONS,
    REJECTABLE,
    ROUTABLE,
    SHADOW,
    STAGING,
    SUPERSEDABLE,
    ReleaseState,
    VersionState,
)


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


def require_stage(current: VersionState, legal: tuple[str, ...], done: str) -> None:
    """Refuse a version whose stage is not one of `legal`, naming those."""
    if current.stage not in legal:
        raise ReleaseRefused(
            f"version {current.version} is in {current.stage} and cannot be {done}; "
            f"that is legal in: {', '.join(legal)}"
        )


def require_rejectable(current: VersionState) -> None:
    """Refuse a version that is past rejecting; one that was frozen in shadow decides for nobody and is not."""
    if current.stage != FROZEN or current.frozen_from != SHADOW:
        require_stage(current, REJECTABLE, "rejected")


def require_step(current: VersionState, entered_seq: int | None, doing: str) -> None:
    """Refuse what is about the step that record `entered_seq` began where the version has left it; None: any step."""
    if entered_seq not in (None, current.entered_seq):
        raise ReleaseRefused(
            f"{doing} version {current.version}: the step of record {entered_seq} is over, record "
            f"{current.entered_seq} began another"
        )


def require_promotable(state: ReleaseState, version: int, to: str, *, supersedes: int | None = None) -> VersionState:
    """Return the state of `version` if the stages allow it to go to `to`.

    `supersedes` is the shadow or canary that gives way in the same step.

    Raises
    ------
    ReleaseRefused
        Naming the legal moves.
    """
    current = version_state(state, version)
    legal = PROMOTIONS[current.stage]
    if to not in legal:
        out = "reject" if current.frozen_from == SHADOW else "rollback"
        hint = f"let it go on or take it out: kedro release thaw, kedro release {out}"
        raise ReleaseRefused(
            f"version {version} is in {current.stage} and cannot be promoted to {to!r}; "
            f"legal from {current.stage}: {', '.join(legal) or 'no promotion'}",
            next_step=hint
            if current.stage == FROZEN
            else "promote one stage at a time: candidate -> staging -> shadow -> canary -> prod",
        )
    held = {SHADOW: state.shadow, CANARY: state.canary}.get(to)
    if supersedes is not None and (supersedes != held or supersedes == version):
        raise ReleaseRefused(f"version {version} cannot supersede version {supersedes}: it is not the {to}")
    if supersedes is not None:
        require_supersedable(state, supersedes, version)
    if held not in (None, version, supersedes):
        way_out = "promote it to prod, take it out (kedro release rollback)" if to == CANARY else "reject it"
        raise ReleaseRefused(
            f"version {version} cannot become {to}: version {held} is the {to}",
            next_step=f"{way_out} or let this one take its place: --supersede",
        )
    if to == SHADOW:
        _require_room_for_shadow(state.rules, version)
    return current


def require_supersedable(state: ReleaseState, version: int, by: int) -> VersionState:
    """Return the state of `version` if it may give way to the newer version `by`.

    Raises
    ------
    ReleaseRefused
        If its stage is past giving way, or `by` is not newer and under way itself.
    """
    current = version_state(state, version)
    require_stage(current, SUPERSEDABLE, "superseded")
    newer = version_state(state, by)
    if by <= version or newer.stage not in (*SUPERSEDABLE, PROD):
        raise ReleaseRefused(
            f"version {version} cannot give way to version {by}, which is in {newer.stage}: "
            "a newer one that is under way takes the place of an older one"
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
    held = {SHADOW: state.shadow, CANARY: state.canary}
    moves = [f"promote to {to}" for to in PROMOTIONS[current.stage] if held.get(to) in (None, version)]
    for stages, move in ((APPROVABLE, "approve"), (REJECTABLE, "reject"), (FREEZABLE, "freeze"), ((FROZEN,), "thaw")):
        moves += [move] if current.stage in stages else []
    moves += ["reject"] if current.stage == FROZEN and current.frozen_from == SHADOW else []
    is_taken_out = current.live_stage == CANARY or (
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
    tried |= {(name, v) for name, former in state.segment_champions.items() for v in former}
    for segment in rules.segments:
        is_new = stages.get(segment.champion or 0) in (STAGING, SHADOW)
        if is_new and (segment.name, segment.champion) not in tried:
            problems.append(
                f"version {segment.champion} is in {stages[segment.champion or 0]} and cannot be champion of segment "
                f"{segment.name}: it was no canary yet; make it the canary of this segment, then promote it there"
            )
    if state.shadow is not None:
        problems += _shadow_problems(rules, state.shadow)
    if problems:
        raise ReleaseRefused("\n  - ".join(["these routes cannot be:", *problems]))


def taken_out(current: VersionState, stage: str) -> VersionState:
    """Return a version that left its traffic for `stage`: share, consents and evidence of it are void."""
    return replace(
        current, stage=stage, canary_share=0.0, frozen_from="", approvals=(), evidence=None, is_emergency=False
    )


def _require_room_for_shadow(rules: Rules, version: int) -> None:
    for problem in _shadow_problems(rules, version):
        raise ReleaseRefused(
            f"version {version} cannot become shadow: {problem}", next_step="kedro release route shadow remove VERSION"
        )


def _shadow_problems(rules: Rules, version: int) -> list[str]:
    """Return what is wrong with rules beside a version whose stage makes it a shadow."""
    others = [shadow.version for shadow in rules.shadows if shadow.version != version]
    return [] if len(others) < MAX_SHADOWS else [f"{MAX_SHADOWS} shadows are there, at most {MAX_SHADOWS} are allowed"]
