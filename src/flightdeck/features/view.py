"""Declaring windowed features: what is computed, over which stream, for which entity.

A `FeatureView` says *what*; the offline join (`join.py`) and the online store (`online.py`) are two executions of it.
Time semantics, the same for both (after Chronon's tiled windows, https://chronon.ai):

- State at time t is a function of the events with `created_timestamp <= t`.
- A window w at t is (floor(t - w), t]: the head at t itself, the tail cut down to a tile boundary. A tile is a sixtieth
  of the view's shortest window, at least 1 s, and covers (start, end].
- Ties are ordered by `event_id`; the last one wins where one event is asked for.
- An empty window has count 0 and a NaN mean. An unknown entity (an empty key) has NaN everywhere.
"""

from dataclasses import asdict, dataclass
from functools import cached_property

from flightdeck.core.clock import SECOND_US
from flightdeck.core.errors import ConfigError
from flightdeck.core.identifiers import digest_json


@dataclass(frozen=True)
class Windowed:
    """Count of events and means of whole-number columns over sliding windows.

    Parameters
    ----------
    windows_s
        Window lengths in seconds.
    means
        Whole-number columns to average; a column of 0 and 1 gives a share. Sums stay whole numbers until they are
        divided, so that every engine gives the same bits.
    """

    windows_s: tuple[int, ...]
    means: tuple[str, ...] = ()


@dataclass(frozen=True)
class Latest:
    """Columns of the last known event, as float64, and its age in seconds; NaN when older than the view's ttl."""

    columns: tuple[str, ...]


@dataclass(frozen=True)
class OpenItems:
    """How many items are open: +1 for each event of the source, -1 for each of `closed_by`, from the beginning."""

    closed_by: tuple[str, ...]


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
    ttl_s
        Oldest usable event in seconds (for `Latest`).
    owner
        Who answers for it.
    freshness_slo_s
        Age of the store beyond which answers are flagged, in seconds.
    hard_limit_s
        Age of the store beyond which the features must not be used, in seconds.

    Raises
    ------
    ConfigError
        If a window or limit is not positive, or the name is not an identifier.
    """

    name: str
    entity: tuple[str, ...]
    source: str
    compute: Windowed | Latest | OpenItems
    ttl_s: int
    owner: str
    freshness_slo_s: int = 300
    hard_limit_s: int = 1800

    def __post_init__(self) -> None:
        windows = self.compute.windows_s if isinstance(self.compute, Windowed) else ()
        numbers = {"ttl_s": self.ttl_s, "freshness_slo_s": self.freshness_slo_s, "hard_limit_s": self.hard_limit_s}
        wrong = [name for name, value in numbers.items() if value <= 0]
        wrong += [f"window {window} s" for window in windows if window <= 0]
        if isinstance(self.compute, Windowed) and not windows:
            wrong.append("windows_s (empty)")
        if wrong or not self.name.isidentifier():
            raise ConfigError(
                f"declaring feature view {self.name!r}: the name is an identifier, and these are positive: {wrong}",
                next_step="correct the declaration",
            )

    @cached_property
    def digest(self) -> str:
        """Digest of the meaning: the version of the view. Owner and limits are not part of it."""
        meaning = {
            "entity": self.entity,
            "source": self.source,
            "kind": type(self.compute).__name__,
            "compute": asdict(self.compute),
            "ttl_s": self.ttl_s,
            "semantics": 1,
        }
        return digest_json(meaning)

    @property
    def sources(self) -> tuple[str, ...]:
        """Streams that the view reads."""
        closed_by = self.compute.closed_by if isinstance(self.compute, OpenItems) else ()
        return (self.source, *closed_by)

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Names of the features, in the order in which both engines give them."""
        return tuple(f"{self.name}__{feature}" for feature in self._features())

    @property
    def tile_us(self) -> int:
        """Tile length of a windowed view in microseconds."""
        shortest_s = min(self.compute.windows_s) if isinstance(self.compute, Windowed) else 60
        return max(1, shortest_s // 60) * SECOND_US

    @property
    def look_back_s(self) -> int:
        """How far back an event can matter, in seconds (an open-items view needs all events)."""
        if isinstance(self.compute, Windowed):
            return max(self.compute.windows_s) + self.tile_us // SECOND_US
        return self.ttl_s

    def _features(self) -> list[str]:
        if isinstance(self.compute, Latest):
            return [*self.compute.columns, "age_s"]
        if isinstance(self.compute, OpenItems):
            return ["open"]
        return [
            f"{what}_{window // 60}m"
            for window in self.compute.windows_s
            for what in ("count", *(f"mean_{column}" for column in self.compute.means))
        ]
