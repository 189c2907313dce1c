"""Following a source of events: what a source promises, whichever it is.

`follow_log.py` follows the embedded event log into LMDB, `redis_stream.py` follows Redis Streams into Redis. `Follower`
(`follower.py`) drives either: poll, check, dead-letter, apply.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import pyarrow as pa

from flightdeck.core.errors import FlightdeckError, StoreUnavailable
from flightdeck.features.stores import Moment
from flightdeck.features.view import FeatureView

Rows = Any  # a pyarrow.Table, or a sequence of rows as decoded


class StreamUnavailable(FlightdeckError):
    """The source of events cannot be read right now."""


class MustFill(StoreUnavailable):
    """The store cannot go on from this source: waiting does not help, a backfill does."""


class BatchOutdated(Exception):
    """The store moved between poll and transaction (a backfill, a takeover): nothing was written; poll again."""


@dataclass(frozen=True)
class Batch:
    """Events that are next for the store.

    Parameters
    ----------
    events
        As delivered, by stream: a table, or rows as they were decoded. Not checked yet; may be empty (a heartbeat that
        only moves the watermark).
    watermark_us
        Everything known until then is in the store after this batch; None: the newest accepted event says, as it does
        where it is newer.
    offset
        What the mark says after this batch (`Mark.offset`).
    views
        Versions that this batch is for; None: every version that the store declares.
    offsets
        Where each row came from, by stream, as texts in the order of the rows; empty: `source_offset` says.
    is_logged
        Whether the events lie in the event log: then each of them counts, as in every recomputation.
    token
        The source's own: ids to acknowledge, marks that it saw.
    """

    events: Mapping[str, Rows]
    watermark_us: int | None
    offset: str
    views: tuple[FeatureView, ...] | None = None
    offsets: Mapping[str, list[str]] = field(default_factory=dict)
    is_logged: bool = False
    token: object = None

    @property
    def n_events(self) -> int:
        """Number of rows, before any check."""
        return sum(len(rows) for rows in self.events.values())


class Lag(NamedTuple):
    """How far the store is behind its source.

    Parameters
    ----------
    n_events
        Events that wait.
    seconds
        Age of what the store reflects: the source's newest moment less the lowest watermark.
    """

    n_events: int
    seconds: float


class EventSource(Protocol):
    """A source that a materializer follows.

    `poll` returns what comes after the last COMMITTED transaction: a batch that was polled and not committed comes
    again (maybe cut otherwise). So nothing is lost and nothing counts twice, whatever is killed when.
    """

    def acquire(self, timeout_s: float) -> bool:
        """Become the one that feeds (a file lock, a lease, at least one partition); wait at most `timeout_s`.

        Cheap when this process feeds already: the follower asks before every batch.
        """

    def poll(self, max_events: int, timeout_s: float) -> Batch | None:
        """Return the next events, about `max_events` at most; None when nothing came within `timeout_s`.

        Raises
        ------
        StreamUnavailable, StoreUnavailable
            If source or store are away; the follower tries again later.
        """

    def applying(self, batch: Batch) -> AbstractContextManager[Moment]:
        """Give the transaction in which states, marks, offset and acknowledgement of a batch commit together.

        An exception within it commits nothing.

        Raises
        ------
        BatchOutdated
            If the store moved since the poll.
        StoreUnavailable, StreamUnavailable
            If nothing could be committed, or it is not known whether it was: the next poll finds out.
        """

    def remember(self, moment: Moment, accepted: Mapping[str, pa.Table]) -> None:
        """Take note, within the transaction, which events count: one that was set aside may come again, mended."""

    def lag(self) -> Lag:
        """Return how far the store is behind."""

    def close(self) -> None:
        """Stop feeding, so that a standby takes over; closing again does nothing."""
