"""Changes of the routing rules, one function each: rules in, rules out, and who gets more traffic by it. Pure.

An edit that only takes traffic away names nobody in `gains`: it is never held up by a missing approval or bundle. A
share that is none raises `ConfigError`, everything else that cannot be `ReleaseRefused`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import msgspec

from flightdeck.core.errors import ReleaseRefused, nearest
from flightdeck.gates.policy import Policies
from flightdeck.inference.experiments import Experiment, resize, split
from flightdeck.inference.routing_rules import Canary, Rules, Segment, Shadow, share_problems
from flightdeck.release.moves import version_state
from flightdeck.release.requirements import canary_share
from flightdeck.release.stages import ReleaseState

Named = TypeVar("Named", Experiment, Segment)
_change = msgspec.structs.replace


@dataclass(frozen=True)
class Edit:
    """A change of the rules.

    Parameters
    ----------
    rules
        The rules afterwards.
    what
        The change in words.
    about
        Versions that it concerns.
    gains
        Those of them that get traffic which they had not.
    returns
        Segment that goes back to the champion before its present one; empty for none.
    """

    rules: Rules
    what: str
    about: tuple[int, ...] = ()
    gains: tuple[int, ...] = ()
    returns: str = ""


def set_shadow(state: ReleaseState, version: int, share: float) -> Edit:
    """Let `version` score a copy of a share of the units, or of another share than now."""
    _require_share(f"shadow {version}", share)
    before = next((shadow.share for shadow in state.rules.shadows if shadow.version == version), 0.0)
    others = tuple(shadow for shadow in state.rules.shadows if shadow.version != version)
    rules = _change(state.rules, shadows=(*others, Shadow(version, share)))
    return Edit(rules, f"shadow {version} of {share:.4g}", (version,), (version,) if share > before else ())


def remove_shadow(state: ReleaseState, version: int) -> Edit:
    """Let `version` score no copies any more."""
    shadows = [shadow.version for shadow in state.rules.shadows]
    if version not in shadows:
        raise ReleaseRefused(f"version {version} is no shadow; shadows: {_listed(shadows)}")
    kept = tuple(shadow for shadow in state.rules.shadows if shadow.version != version)
    return Edit(_change(state.rules, shadows=kept), f"shadow {version} removed", (version,))


def add_experiment(state: ReleaseState, name: str, arms: Sequence[tuple[str, int, float]], segment: str = "") -> Edit:
    """Begin an experiment with (name, version, share) of each arm; its layer is one that no units have met."""
    experiment = Experiment(name, f"{name}@{state.seq + 1}", split(arms), segment)
    versions = tuple(dict.fromkeys(version for _, version, _ in arms))
    said = ", ".join(f"{arm} {share:.4g} (version {version})" for arm, version, share in arms)
    rules = _change(state.rules, experiments=(*state.rules.experiments, experiment))
    return Edit(rules, f"experiment {name}: {said}", versions, versions)


def set_arm_share(state: ReleaseState, name: str, arm: str, share: float) -> Edit:
    """Give an arm of an experiment another share; no unit leaves another arm."""
    experiment = _named("experiment", name, state.rules.experiments)
    arms = resize(experiment.arms, arm, share)
    before, after = ({a.name: a for a in those}[arm] for those in (experiment.arms, arms))
    about = (after.version,)
    rules = _put(state.rules, _change(experiment, arms=arms))
    return Edit(rules, f"arm {name}:{arm} of {share:.4g}", about, about if after.share > before.share else ())


def remove_experiment(state: ReleaseState, name: str) -> Edit:
    """End an experiment."""
    experiment = _named("experiment", name, state.rules.experiments)
    kept = tuple(other for other in state.rules.experiments if other is not experiment)
    versions = tuple(dict.fromkeys(arm.version for arm in experiment.arms))
    return Edit(_change(state.rules, experiments=kept), f"experiment {name} removed", versions)


def add_segment(
    state: ReleaseState,
    name: str,
    where: Mapping[str, Sequence[str]],
    *,
    champion: int | None = None,
    before: str | None = None,
    columns: Iterable[str] | None = None,
) -> Edit:
    """Begin a segment, as the last one or before another one.

    Parameters
    ----------
    state
        What is in force.
    name
        Name of the segment.
    where
        Values by request column.
    champion
        Version that decides there; the table's champion where left out.
    before
        Segment that this one comes before: the first one that matches counts.
    columns
        Request columns that there are; not compared where left out.
    """
    known = list(where if columns is None else columns)
    unknown = [column for column in where if column not in known]
    if unknown:
        said = ", ".join(f"{column!r}{nearest(column, known)}" for column in unknown)
        raise ReleaseRefused(f"segment {name}: requests have no column {said}; columns: {', '.join(sorted(known))}")
    segments = list(state.rules.segments)
    at = len(segments) if before is None else segments.index(_named("segment", before, segments))
    segments.insert(at, Segment(name, {column: tuple(values) for column, values in where.items()}, champion))
    said = " and ".join(f"{column} in {{{', '.join(values)}}}" for column, values in where.items())
    about = () if champion is None else (champion,)
    answered = f", champion {champion}" if champion is not None else ""
    return Edit(_change(state.rules, segments=tuple(segments)), f"segment {name}: {said}{answered}", about, about)


def set_segment_canary(
    state: ReleaseState, name: str, version: int, policies: Policies, share: float | None = None
) -> Edit:
    """Make `version` the canary of a segment, or raise or lower its share there: a step of its tier, else the next."""
    segment = _named("segment", name, state.rules.segments)
    held = segment.canary
    if held is not None and held.version != version:
        raise ReleaseRefused(
            f"version {version} cannot become canary of segment {name}: version {held.version} is the canary there",
            next_step=f"kedro release route segment promote {name}, or kedro release route segment rollback {name}",
        )
    before = held.share if held is not None else 0.0
    current = version_state(state, version)
    share = canary_share(replace(current, canary_share=before), policies.tier(current.tier), share)
    rules = _put(state.rules, _change(segment, canary=Canary(version, share)))
    return Edit(
        rules, f"segment {name}: canary {version} of {share:.4g}", (version,), (version,) if share > before else ()
    )


def promote_segment_canary(state: ReleaseState, name: str) -> Edit:
    """Make the canary of a segment its champion."""
    segment = _named("segment", name, state.rules.segments)
    if segment.canary is None:
        raise ReleaseRefused(
            f"segment {name} has no canary to promote",
            next_step=f"kedro release route segment canary {name} VERSION",
        )
    version = segment.canary.version
    about = (version,) if segment.champion is None else (version, segment.champion)
    rules = _put(state.rules, _change(segment, champion=version, canary=None))
    return Edit(rules, f"segment {name}: canary {version} became its champion", about, (version,))


def roll_back_segment(state: ReleaseState, name: str) -> Edit:
    """Take the canary of a segment out; without one, its champion: the one before it there answers then.

    Where there was none before, or it has left since, the champion of the table answers.
    """
    segment = _named("segment", name, state.rules.segments)
    returns = ""
    if segment.canary is not None:
        out, after, back = segment.canary.version, _change(segment, canary=None), segment.champion
    elif segment.champion is not None:
        former = state.segment_champions.get(name, ())
        out, back, returns = segment.champion, former[-1] if former else None, name if former else ""
        after = _change(segment, champion=back)
    else:
        raise ReleaseRefused(
            f"rolling back segment {name}: the champion of the table answers there already",
            next_step="kedro release rollback takes that one back",
        )
    answers = f"version {back}" if back is not None else "the champion of the table"
    return Edit(
        _put(state.rules, after), f"segment {name}: version {out} taken out, {answers} answers", (out,), (), returns
    )


def remove_segment(state: ReleaseState, name: str) -> Edit:
    """End a segment: its items are answered as all others are."""
    segment = _named("segment", name, state.rules.segments)
    inside = [experiment.name for experiment in state.rules.experiments if experiment.segment == name]
    if inside:
        raise ReleaseRefused(
            f"removing segment {name}: experiments run in it: {', '.join(inside)}",
            next_step=f"kedro release route experiment remove {inside[0]}",
        )
    versions = (segment.champion, segment.canary.version if segment.canary is not None else None)
    kept = tuple(other for other in state.rules.segments if other is not segment)
    about = tuple(version for version in versions if version is not None)
    return Edit(_change(state.rules, segments=kept), f"segment {name} removed", about)


def _named(what: str, name: str, there: Sequence[Named]) -> Named:
    found = next((one for one in there if one.name == name), None)
    if found is None:
        names = [one.name for one in there]
        raise ReleaseRefused(f"there is no {what} {name!r}{nearest(name, names)}; {what}s: {_listed(names)}")
    return found


def _put(rules: Rules, changed: Experiment | Segment) -> Rules:
    """Return the rules with the experiment or segment of that name changed."""
    if isinstance(changed, Segment):
        return _change(rules, segments=tuple(changed if one.name == changed.name else one for one in rules.segments))
    experiments = tuple(changed if one.name == changed.name else one for one in rules.experiments)
    return _change(rules, experiments=experiments)


def _require_share(what: str, share: float) -> None:
    for problem in share_problems(what, share):
        raise ReleaseRefused(problem)


def _listed(names: Iterable[object]) -> str:
    return ", ".join(map(str, names)) or "none"
