"""What an online store promises, whichever it is: consistent reads, and states that change together with their mark.

LMDB (`store.py`) is the embedded default; Redis and Redis Cluster (`redis_store.py`) are for more than one machine.
"""

import struct
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flightdeck.core.errors import StoreUnavailable
from flightdeck.features.view import FeatureView

if TYPE_CHECKING:
    from flightdeck.features.state_update import KeyedEvents

_WATERMARK = struct.Struct("<q")


class StoreEmpty(StoreUnavailable):
    """There is no online store yet: nothing was ever declared or filled there."""


@dataclass(frozen=True)
class Mark:
    """What the states of a view reflect.

    Parameters
    ----------
    watermark_us
        Every event known until then is applied, and none that became known later; UTC microseconds.
    offset
        The part of the log that was read: `arrived@2 departed@3` (stream@version) or the ids of a Redis stream; empty
        where it is not known.
    """

    watermark_us: int
    offset: str = ""

    def packed(self) -> bytes:
        """Return the mark as stores keep it."""
        return _WATERMARK.pack(self.watermark_us) + self.offset.encode()


@lru_cache(maxsize=256)  # views that are fed together have the same mark, and it is read with every request
def mark_of(packed: bytes) -> Mark:
    """Return the mark that was packed; the same object for the same bytes."""
    return Mark(_WATERMARK.unpack_from(packed)[0], packed[_WATERMARK.size :].decode())


class StoreRead(NamedTuple):
    """One consistent moment of a store.

    Parameters
    ----------
    states
        For each wanted view, the packed state of each key, None where there is none.
    marks
        For each wanted view the mark that all its keys reflect; where partitions differ it is the lowest of all, and
        its offset says what is ahead (`reflected.py`).
    watermarks_us
        For each wanted view the watermark of each key, where partitions reflect different moments; else None.
    """

    states: list[list[bytes | None]]
    marks: list[Mark]
    watermarks_us: list[list[int]] | None = None


class Moment(Protocol):
    """One transaction: reads see one moment, writes become visible together or not at all."""

    def mark(self, view: FeatureView) -> Mark:
        """Return what a view's states reflect; `StoreUnavailable` if this version was never fed."""

    def states(self, view: FeatureView, keys: Sequence[str]) -> list[bytes | None]:
        """Return the packed state of each key, None where there is none."""

    def keys(self, view: FeatureView) -> list[str]:
        """Return the entity keys that have a state, in any order; those that were too long to be kept are left out."""

    def put(self, view: FeatureView, keys: Sequence[str], states: Sequence[bytes]) -> None:
        """Replace the states of some keys."""

    def set_mark(self, view: FeatureView, mark: Mark) -> None:
        """Say what the states of a view reflect now."""

    def clear(self, view: FeatureView) -> None:
        """Forget states and mark of one version of a view."""

    def declared(self) -> dict[str, FeatureView]:
        """Return every version that the store feeds, by digest; versions that code declares no more included."""

    def outdated(self) -> tuple[FeatureView, ...]:
        """Return what code of another meaning declared, under its digest of then: not fed, only to be forgotten."""

    def declare(self, view: FeatureView) -> None:
        """Feed a version from now on."""

    def forget(self, view: FeatureView) -> None:
        """Clear a version and feed it no more."""


@dataclass(frozen=True)
class Filling:
    """A transaction in which versions are filled from the log.

    Parameters
    ----------
    moment
        The transaction.
    until_us
        Until when to fill at least: what was asked for, or later where events may have been delivered that the versions
        would never see again. UTC microseconds.
    waiting
        By stream 64 bits of the ids of events that were delivered for other versions and wait: fill until the newest.
    """

    moment: Moment
    until_us: int
    waiting: Mapping[str, npt.NDArray[np.uint64]] = field(default_factory=dict)

    def waits(self, stream: str, events: pa.Table) -> npt.NDArray[np.bool_]:
        """Tell which events are `waiting`, shape `(n_events,)`."""
        return np.zeros(events.num_rows, dtype=bool)

    def note(self, view: FeatureView, stream: str, counted: "KeyedEvents") -> None:
        """Take note of events that a version counts; a store that reads the log itself knows by its offset."""


class FeatureStore(Protocol):
    """An online store of feature states."""

    def read(self, wanted: Sequence[tuple[FeatureView, Sequence[str]]]) -> StoreRead:
        """Return states and marks of one consistent moment, in one round trip."""

    def reading(self) -> AbstractContextManager[Moment]:
        """Give one consistent moment to read from."""

    def writing(self) -> AbstractContextManager[Moment]:
        """Give a transaction that changes states and marks together, or not at all."""

    def filling(self, views: Sequence[FeatureView], until_us: int) -> AbstractContextManager[Filling]:
        """Give a transaction in which versions are filled anew; the log is to be read within it."""

    def not_filled(self, view: FeatureView, stream: str, events: pa.Table) -> pa.Table:
        """Return the events of a stream that the version does not contain from its filling."""

    def owns(self, view: FeatureView, keys: Sequence[str]) -> npt.NDArray[np.bool_]:
        """Tell which keys this store's writer feeds, shape `(n_keys,)`."""

    def close(self) -> None:
        """Release the store; closing again does nothing."""


def open_store(where: Path | str, *, read_only: bool) -> FeatureStore:
    """Open the online store at a path (LMDB) or an address (`redis://`, `redis+cluster://`).

    Raises
    ------
    StoreEmpty
        If a reader finds no store.
    StoreUnavailable
        If it cannot be reached.
    """
    if isinstance(where, str) and where.startswith(("redis://", "rediss://", "redis+cluster://")):
        from flightdeck.features.redis_store import RedisStore

        return RedisStore.open(where, read_only=read_only)
    from flightdeck.features.store import OnlineStore

    return OnlineStore.open(Path(where), read_only=read_only)
