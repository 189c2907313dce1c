"""Declaring features: what is computed, over which stream, for which entity.

A `FeatureView` says *what*. The offline join (`join.py`), the Ibis engine (`ibis_engine.py`) and the online stores are
executions of it. Time semantics, the same for all (docs/features.md; after Chronon's tiled windows, https://chronon.ai):

- State at time t is a function of the set of events with `created_timestamp <= t`; the order of arrival is nothing.
- A window w at t is (floor(t - w), t]: the head at t itself, the tail cut down to a boundary of the window's tile. A
  tile is at most a sixtieth of its window and at least 1 s, covers (start, end], and is a multiple of the tiles of the
  view's shorter windows.
- Ties are ordered by `event_id`; the last one wins where one event is asked for.
- An empty window has count and sum 0, everything else NaN. An unknown entity (an empty key) has NaN everywhere.
"""

import re
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from flightdeck.core.clock import SECOND_US
from flightdeck.core.errors import ConfigError, some
from flightdeck.core.identifiers import digest_json
from flightdeck.features.aggregates import Aggregate

SEMANTICS = 2  # raised when the same declaration comes to mean something else: every view gets a new version then
DAY_S = 86_400
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": DAY_S}


@dataclass(frozen=True)
class Windowed:
    """Aggregates over sliding windows; every aggregate is computed over every window.

    Parameters
    ----------
    windows_s
        Window lengths in seconds, each once.
    aggregates
        What is computed (`flightdeck.features.aggregates`), each once.
    """

    windows_s: tuple[int, ...]
    aggregates: tuple[Aggregate, ...]


@dataclass(frozen=True)
class Latest:
    """Columns of the last known event, as float64, and its age in seconds; NaN when older than the view's ttl."""

    columns: tuple[str, ...]


@dataclass(frozen=True)
class OpenItems:
    """A gauge: +1 for each event of the source, -1 for each of `closed_by`, summed from the beginning."""

    closed_by: tuple[str, ...]


Compute = Windowed | Latest | OpenItems


def windowed(*aggregates: Aggregate, over: str) -> Windowed:
    """Return aggregates over windows that are written as in `30m 3h 7d`.

    Raises
    ------
    ConfigError
        If a window is not a whole number followed by s, m, h or d.

    Examples
    --------
    >>> from flightdeck.features.aggregates import count
    >>> windowed(count(), over="30m 3h").windows_s
    (1800, 10800)
    """
    windows_s = []
    for text in over.split():
        parts = re.fullmatch(r"(\d+)([smhd])", text)
        if parts is None:
            raise ConfigError(
                f"declaring a window: {text!r} is not a whole number followed by s, m, h or d",
                next_step="write windows as in over='30m 3h'",
            )
        windows_s.append(int(parts[1]) * _UNIT_S[parts[2]])
    return Windowed(tuple(windows_s), aggregates)


@dataclass(frozen=True)
class FeatureView:
    """A declared group of features over one entity.

    Parameters
    ----------
    name
        Name of the view; its features are called `<name>__<feature>`.
    entity
        Columns that make the entity key, equal in the events and in the entity frame; `()` means everything.
    source
        Stream that feeds the view.
    compute
        What is computed.
    owner
        Who answers for it.
    ttl_s
        Oldest usable event in seconds, for `Latest`; without meaning for the others.
    freshness_slo_s
        Age of the store beyond which answers are flagged, in seconds.
    hard_limit_s
        Age of the store beyond which the features must not be used, in seconds.

    Raises
    ------
    ConfigError
        If a window or limit is not positive, something is declared twice or not at all, a name is not an identifier, or
        a text stands where a tuple belongs (`("origin")` lacks its comma).

    Examples
    --------
    >>> from flightdeck.features.aggregates import count, share
    >>> compute = windowed(count(), share("is_late"), over="1h")
    >>> FeatureView("origin_departures", ("origin",), "departed", compute, owner="me").columns
    ('origin_departures__count_60m', 'origin_departures__share_is_late_60m')
    """

    name: str
    entity: tuple[str, ...]
    source: str
    compute: Compute
    owner: str
    ttl_s: int = DAY_S
    freshness_slo_s: int = 300
    hard_limit_s: int = 1800

    def __post_init__(self) -> None:
        wrong = self._misshapen()
        wrong += [f"{name} is {getattr(self, name)}" for name in _POSITIVE if getattr(self, name) <= 0]
        if isinstance(self.compute, Windowed):
            wrong += [f"window {window} s" for window in self.compute.windows_s if window <= 0]
        wrong += [f"{name!r} is no identifier" for name in (self.name, *self.entity) if not name.isidentifier()]
        if not wrong:
            wrong += [
                f"{name} is declared twice" for name in sorted({c for c in self.columns if self.columns.count(c) > 1})
            ]
            wrong += [f"entity column {c!r} twice" for c in sorted(set(self.entity)) if self.entity.count(c) > 1]
        if wrong:
            raise ConfigError(
                f"declaring feature view {self.name!r}: {some(wrong)}; names are identifiers, times are positive",
                next_step="correct the declaration",
            )

    @cached_property
    def digest(self) -> str:
        """Digest of the meaning: the version of the view. Owner and freshness limits are not part of it."""
        meaning = {name: value for name, value in self.as_json().items() if name not in _NO_MEANING}
        if not isinstance(self.compute, Latest):
            meaning["ttl_s"] = DAY_S  # it was part of every version once: those of the default stay what they are
        return digest_json({**meaning, "semantics": SEMANTICS})

    def under(self, digest: str) -> "FeatureView":
        """Return this declaration under the digest by which other code knew it: its states are not this code's.

        Parameters
        ----------
        digest
            All or the first 32 characters of it.
        """
        other = copy(self)
        vars(other)["digest"] = digest
        return other

    @property
    def version(self) -> str:
        """The first twelve characters of the digest, for people."""
        return self.digest[:12]

    @property
    def sources(self) -> tuple[str, ...]:
        """Streams that the view reads."""
        closed_by = self.compute.closed_by if isinstance(self.compute, OpenItems) else ()
        return (self.source, *closed_by)

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Names of the features, in the order in which every engine gives them."""
        return tuple(f"{self.name}__{feature}" for feature in self._features())

    @cached_property
    def tiles_us(self) -> dict[int, int]:
        """Tile length of each window in microseconds, by the window's length in seconds, shortest first."""
        tiles, step_s = {}, 1
        for window_s in sorted(self.compute.windows_s if isinstance(self.compute, Windowed) else ()):
            step_s *= max(1, window_s // 60 // step_s)
            tiles[window_s] = step_s * SECOND_US
        return tiles

    @property
    def look_back_s(self) -> int:
        """How far back an event can matter, in seconds (an open-items view needs all events)."""
        if isinstance(self.compute, Windowed):
            return max(window_s + tile_us // SECOND_US for window_s, tile_us in self.tiles_us.items())
        return self.ttl_s

    @property
    def event_columns(self) -> tuple[str, ...]:
        """Columns of the events that the view reads, those that every stream carries left out."""
        columns: tuple[str, ...] = ()
        if isinstance(self.compute, Windowed):
            columns = tuple(aggregate.column for aggregate in self.compute.aggregates if aggregate.column)
        if isinstance(self.compute, Latest):
            columns = self.compute.columns
        return tuple(dict.fromkeys([*self.entity, *columns]))

    def as_json(self) -> dict[str, Any]:
        """Return the declaration as a JSON object; `from_json` reads it back."""
        compute: dict[str, Any]
        if isinstance(self.compute, Windowed):
            compute = {
                "windows_s": list(self.compute.windows_s),
                "aggregates": [aggregate.as_json() for aggregate in self.compute.aggregates],
            }
        elif isinstance(self.compute, Latest):
            compute = {"columns": list(self.compute.columns)}
        else:
            compute = {"closed_by": list(self.compute.closed_by)}
        return {
            "name": self.name,
            "entity": list(self.entity),
            "source": self.source,
            "kind": type(self.compute).__name__,
            "compute": compute,
            "owner": self.owner,
            "ttl_s": self.ttl_s,
            "freshness_slo_s": self.freshness_slo_s,
            "hard_limit_s": self.hard_limit_s,
        }

    @classmethod
    def from_json(cls, declared: Mapping[str, Any]) -> "FeatureView":
        """Return the view that `as_json` described.

        Raises
        ------
        ConfigError
            If the object is not a declaration.
        """
        try:
            compute = _COMPUTE[declared["kind"]](declared["compute"])
            limits = {name: int(declared[name]) for name in _POSITIVE}
            entity = tuple(declared["entity"])
            return cls(declared["name"], entity, declared["source"], compute, declared["owner"], **limits)
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"reading the declaration of a feature view: {error!r}") from error

    def _misshapen(self) -> list[str]:
        """Return what is of another kind than it must be, or empty where something has to be said."""
        wrong = [f"{name} is empty" for name in ("source", "owner") if not getattr(self, name)]
        compute: object = self.compute
        if not isinstance(compute, Windowed | Latest | OpenItems):
            return [*wrong, f"compute is {compute!r}; it is made by windowed(...), Latest(...) or OpenItems(...)"]
        groups = {"entity": self.entity, **vars(compute)}
        wrong += [
            f"{name} is the text {names!r}; write ({names!r},)"
            for name, names in groups.items()
            if isinstance(names, str)
        ]
        return wrong + [f"{name} is empty" for name in ("windows_s", "aggregates") if groups.get(name) == ()]

    def _features(self) -> list[str]:
        if isinstance(self.compute, Latest):
            return [*self.compute.columns, "age_s"]
        if isinstance(self.compute, OpenItems):
            return ["open"]
        return [f"{a.label}_{_label(window)}" for window in self.compute.windows_s for a in self.compute.aggregates]


_POSITIVE = ("ttl_s", "freshness_slo_s", "hard_limit_s")
_NO_MEANING = ("name", "owner", "freshness_slo_s", "hard_limit_s")
_COMPUTE: dict[str, Any] = {
    "Windowed": lambda c: Windowed(tuple(c["windows_s"]), tuple(Aggregate(**a) for a in c["aggregates"])),
    "Latest": lambda c: Latest(tuple(c["columns"])),
    "OpenItems": lambda c: OpenItems(tuple(c["closed_by"])),
}


def _label(window_s: int) -> str:
    return f"{window_s // 60}m" if window_s % 60 == 0 else f"{window_s}s"
