"""A routing table as lookups: what `flightdeck.inference.routing` evaluates, and what it answers with."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from flightdeck.inference.experiments import N_SLOTS, Experiment
from flightdeck.inference.positions import MAX_SALT, N_BITS, RANGE, Layer, open_layer, place_in
from flightdeck.inference.routing_rules import Canary, Rules, Segment

CHAMPION, CANARY = "champion", "canary"


class Route(NamedTuple):
    """One way that a table can decide.

    Parameters
    ----------
    arm
        `champion`, `canary` or `<experiment>:<arm>`.
    segment
        Name of the segment, empty for none. Arm and segment together say which rule decided.
    version
        Version that decides; None where there is no champion.
    fallback_version
        Version whose model answers in the same request where `version` fails: the champion here. None if it is the
        champion that decides, or there is none.
    """

    arm: str
    segment: str
    version: int | None
    fallback_version: int | None


class Routes(NamedTuple):
    """What a table says about `n` items.

    Parameters
    ----------
    routes
        All routes of the table; the same tuple for every batch.
    choice
        intp of shape `(n,)`: place in `routes` of each item.
    shadows
        (version, row numbers of shape `(k,)`) of each shadow that scores a copy of at least one item; never an item
        that this very version decides.
    """

    routes: tuple[Route, ...]
    choice: npt.NDArray[np.intp]
    shadows: tuple[tuple[int, npt.NDArray[np.intp]], ...]

    def groups(self) -> list[tuple[Route, npt.NDArray[np.intp]]]:
        """Return each route that an item takes, with the numbers of its rows, ascending."""
        if len(self.routes) == 1:
            return [(self.routes[0], np.arange(len(self.choice)))] if len(self.choice) else []
        return [(self.routes[at], np.flatnonzero(self.choice == at)) for at in sorted(set(self.choice.tolist()))]


class _Scope(NamedTuple):
    """What decides inside one segment, or outside of all; a decision is a place in the table's routes."""

    experiments: tuple[tuple[Layer, Sequence[int]], ...]
    canary: tuple[Layer, float, int] | None
    champion: int

    def choose(self, unit_id: str) -> int:
        unit = unit_id.encode()
        for layer, by_slot in self.experiments:
            chosen = by_slot[place_in(layer, unit) * N_SLOTS >> N_BITS]
            if chosen >= 0:
                return chosen
        if self.canary is not None and place_in(self.canary[0], unit) < self.canary[1]:
            return self.canary[2]
        return self.champion


class CompiledTable:
    """A table as lookups: request values to a scope, a unit's slot or position to a route.

    Parameters
    ----------
    champion, canary, rules, digests
        Those of the `RoutingTable`, which has been found to be right.

    Attributes
    ----------
    routes
        Every `Route` that there is, the table's champion first.
    """

    def __init__(self, champion: int | None, canary: Canary | None, rules: Rules, digests: Mapping[int, str]) -> None:
        self._digests = digests
        self._found: list[Route] = []
        outside = self._scope(Segment("", {}, champion, canary), champion, rules.experiments)
        inside = [self._scope(segment, champion, rules.experiments) for segment in rules.segments]
        self._scopes = (outside, *inside)
        self._conditions = _conditions(rules.segments)
        self._shadows = [
            (shadow.version, open_layer(f"shadow:{digests[shadow.version]}"[:MAX_SALT]), shadow.share * RANGE)
            for shadow in rules.shadows
        ]
        self.routes = tuple(self._found)
        self._is_plain = len(self.routes) == 1 and not self._shadows

    def route(self, units: Sequence[str], columns: Mapping[str, npt.NDArray[Any]]) -> Routes:
        """Return who decides for each item; see `flightdeck.inference.routing.route`."""
        if self._is_plain:
            return Routes(self.routes, np.zeros(len(units), np.intp), ())
        scopes = self._scopes_of(columns, len(units)) if self._conditions else [0] * len(units)
        seen: dict[tuple[int, str], int] = {}
        chosen = []
        for item in zip(scopes, units, strict=True):
            found = seen.get(item)
            if found is None:
                found = seen[item] = self._scopes[item[0]].choose(item[1])
            chosen.append(found)
        return Routes(self.routes, np.array(chosen, np.intp), self._copies(units, chosen) if self._shadows else ())

    def _scope(self, segment: Segment, champion: int | None, experiments: Sequence[Experiment]) -> _Scope:
        own = segment.champion if segment.champion is not None else champion
        at_champion = self._add(CHAMPION, segment.name, own, own)
        layers = []
        for experiment in experiments:
            if experiment.segment == segment.name:
                by_slot = [-1] * N_SLOTS
                for arm in experiment.arms:
                    at = self._add(f"{experiment.name}:{arm.name}", segment.name, arm.version, own)
                    for start, stop in arm.slots:
                        by_slot[start:stop] = [at] * (stop - start)
                layers.append((open_layer(experiment.salt), by_slot))
        canary = None
        if segment.canary is not None:
            at = self._add(CANARY, segment.name, segment.canary.version, own)
            canary = open_layer(self._digests[segment.canary.version]), segment.canary.share * RANGE, at
        return _Scope(tuple(layers), canary, at_champion)

    def _add(self, arm: str, segment: str, version: int | None, champion: int | None) -> int:
        self._found.append(Route(arm, segment, version, champion if champion != version else None))
        return len(self._found) - 1

    def _scopes_of(self, columns: Mapping[str, npt.NDArray[Any]], n: int) -> list[int]:
        """Return for each item the place of its scope: bit s of a mask says that segment s may still be the one."""
        masks = [(1 << len(self._scopes) - 1) - 1] * n
        for column, otherwise, by_value in self._conditions:
            values = columns[column].tolist() if column in columns else [None] * n
            masks = [mask & by_value.get(value, otherwise) for mask, value in zip(masks, values, strict=True)]
        return [(mask & -mask).bit_length() for mask in masks]

    def _copies(self, units: Sequence[str], chosen: Sequence[int]) -> tuple[tuple[int, npt.NDArray[np.intp]], ...]:
        """Return the rows that each shadow scores."""
        copies = []
        for version, layer, bound in self._shadows:
            is_in = {unit: bound >= RANGE or place_in(layer, unit.encode()) < bound for unit in set(units)}
            rows = [
                row
                for row, (unit, at) in enumerate(zip(units, chosen, strict=True))
                if is_in[unit] and self.routes[at].version != version
            ]
            if rows:
                copies.append((version, np.array(rows, np.intp)))
        return tuple(copies)


def _conditions(segments: Sequence[Segment]) -> list[tuple[str, int, dict[Any, int]]]:
    """Return for each column that a segment names: its name, the mask of a value that none names, the mask of each."""
    found = []
    for column in dict.fromkeys(column for segment in segments for column in segment.where):
        otherwise = sum(1 << place for place, segment in enumerate(segments) if column not in segment.where)
        by_value: dict[Any, int] = {}
        for place, segment in enumerate(segments):
            for value in _spellings(segment.where.get(column, ())):
                by_value[value] = by_value.get(value, otherwise) | 1 << place
        found.append((column, otherwise, by_value))
    return found


def _spellings(values: Iterable[str]) -> Iterable[str | int]:
    """Yield each value as text, and as a number too where it is one: columns are of text or of whole numbers."""
    for value in values:
        yield value
        if value.removeprefix("-").isdecimal() and str(int(value)) == value:
            yield int(value)
