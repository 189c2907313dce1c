"""Experiments: who is compared with whom, and which slots of a layer each arm holds.

A layer has 10,000 slots; a unit's position in the layer (`positions`, with the experiment's salt) says for good in
which of them it lies. Who holds which slots is written down: no rule that knows only the shares can let each of three
arms grow without moving units out of another one. `resize` takes free slots and gives up the newest ones, so growing
moves nobody out of any arm.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise

import msgspec

from flightdeck.core.errors import ConfigError

N_SLOTS = 10_000


class Arm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One side of an experiment.

    Parameters
    ----------
    name
        What answers and metrics call it, as `<experiment>:<name>`.
    version
        Model version that decides.
    slots
        Half-open ranges of slots `(start, stop)` that it holds, in the order in which it got them.
    """

    name: str
    version: int
    slots: tuple[tuple[int, int], ...]

    @property
    def share(self) -> float:
        """Share of the units, a multiple of 0.0001."""
        return sum(stop - start for start, stop in self.slots) / N_SLOTS


class Experiment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Arms that are compared. Units that no arm holds are answered as if there were no experiment.

    Parameters
    ----------
    name
        Its name.
    salt
        Name of its layer; another salt deals the units anew, independently of all other layers.
    arms
        At least one; their shares may sum to less than 1.
    segment
        Segment in which it runs; empty for everything that is in no segment.
    """

    name: str
    salt: str
    arms: tuple[Arm, ...]
    segment: str = ""


def split(wanted: Sequence[tuple[str, int, float]]) -> tuple[Arm, ...]:
    """Return new arms for (name, version, share), their slots one after the other.

    Raises
    ------
    ConfigError
        Naming every share that is none, and a sum above 1.

    Examples
    --------
    >>> [arm.slots for arm in split([("old", 1, 0.25), ("new", 2, 0.1)])]
    [((0, 2500),), ((2500, 3500),)]
    """
    problems = [f"arm {name}: {problem}" for name, _, share in wanted if (problem := share_problem(share))]
    total = sum(_n_slots(share) for _, _, share in wanted) if not problems else 0
    if total > N_SLOTS:
        problems.append(f"the shares sum to {total / N_SLOTS:g}, at most 1 is there")
    if problems:
        raise ConfigError(f"dealing out an experiment: {'; '.join(problems)}")
    arms, start = [], 0
    for name, version, share in wanted:
        stop = start + _n_slots(share)
        arms.append(Arm(name, version, ((start, stop),)))
        start = stop
    return tuple(arms)


def resize(arms: Sequence[Arm], name: str, share: float) -> tuple[Arm, ...]:
    """Return `arms` with another share for the arm `name`; the other arms keep all of their units.

    Raises
    ------
    ConfigError
        If there is no such arm, the share is none or more than is free.

    Examples
    --------
    >>> resize(split([("old", 1, 0.25), ("new", 2, 0.1)]), "old", 0.5)[0].slots
    ((0, 2500), (3500, 6000))
    """
    arm = next((arm for arm in arms if arm.name == name), None)
    if arm is None:
        raise ConfigError(f"there is no arm {name!r}; arms there: {', '.join(arm.name for arm in arms)}")
    if problem := share_problem(share):
        raise ConfigError(f"arm {name}: {problem}")
    free = _free(slot_range for other in arms for slot_range in other.slots)
    more = _n_slots(share) - _width(arm.slots)
    if more > _width(free):
        raise ConfigError(
            f"arm {name}: a share of {share:g} needs {more / N_SLOTS:g} more, {_width(free) / N_SLOTS:g} is free"
        )
    slots = _take((*arm.slots, *free), _n_slots(share)) if more > 0 else _take(arm.slots, _n_slots(share))
    return tuple(Arm(name, arm.version, slots) if other is arm else other for other in arms)


def share_problem(share: float) -> str:
    """Return what is wrong with the share of an arm, empty if nothing is.

    Examples
    --------
    >>> share_problem(0.25), share_problem(float("nan")), share_problem(0.00015)
    ('', 'a share lies in (0, 1], got nan', 'a share is a multiple of 0.0001, got 0.00015')
    """
    if not 0 < share <= 1:
        return f"a share lies in (0, 1], got {share:g}"
    return (
        ""
        if abs(share * N_SLOTS - _n_slots(share)) < 1e-6
        else f"a share is a multiple of {1 / N_SLOTS:g}, got {share:g}"
    )


def slot_problems(experiment: Experiment) -> list[str]:
    """Return what is wrong with the slots of an experiment's arms."""
    problems = [
        f"arm {arm.name}: slots are ranges in 0 to {N_SLOTS}, none of them empty"
        for arm in experiment.arms
        if not arm.slots or not all(0 <= start < stop <= N_SLOTS for start, stop in arm.slots)
    ]
    held = sorted((start, stop, arm.name) for arm in experiment.arms for start, stop in arm.slots)
    problems += [
        f"arms {one} and {other} hold the same slots: shares sum to at most 1"
        for (_, stop, one), (start, _, other) in pairwise(held)
        if start < stop
    ]
    return problems


def _n_slots(share: float) -> int:
    return round(share * N_SLOTS)


def _width(slots: Iterable[tuple[int, int]]) -> int:
    return sum(stop - start for start, stop in slots)


def _free(held: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Return the ranges that nobody holds, ascending."""
    free, start = [], 0
    for first, stop in sorted(held):
        if first > start:
            free.append((start, first))
        start = stop
    return (*free, (start, N_SLOTS)) if start < N_SLOTS else tuple(free)


def _take(slots: Iterable[tuple[int, int]], n: int) -> tuple[tuple[int, int], ...]:
    """Return the first `n` slots of `slots`, ranges that touch in order joined."""
    taken: list[tuple[int, int]] = []
    for start, stop in slots:
        size = min(n, stop - start)
        if size <= 0:
            break
        n -= size
        if taken and taken[-1][1] == start:
            taken[-1] = taken[-1][0], start + size
        else:
            taken.append((start, start + size))
    return tuple(taken)
