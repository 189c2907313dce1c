"""Following the embedded event log into an embedded store.

The state of a view is {events of the versions in its mark's offset with created_timestamp <= its watermark}. From
(o1, w1) to (o2, w2) two kinds of events are missing: those that were appended after o1 and are known at w2, and those
of o1 that become known in (w1, w2]. A batch brings both (`log_batches.py`). Its watermark stays below whatever is known
of appends that are still unread, so that a store with a backlog looks as old as it is; a live log and a replay of an
old one are the same thing with another clock. Views that stand elsewhere (a version that was backfilled later) are
brought up first.
"""

import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from time import monotonic

import pyarrow as pa

from flightdeck.core.clock import Clock, to_us
from flightdeck.core.errors import NotFoundError
from flightdeck.events.commits import latest_commit
from flightdeck.events.log import EventLog
from flightdeck.events.offset import offset_of
from flightdeck.features.log_batches import LogBatches
from flightdeck.features.log_position import furthest_behind, marks_of, own_versions, require_same_log
from flightdeck.features.stores import FeatureStore, Moment
from flightdeck.features.streaming import Batch, BatchOutdated, Lag, MustFill, StreamUnavailable
from flightdeck.features.view import FeatureView

POLL_S = 0.02
HEARTBEAT_US = 1_000_000


class LogSource:
    """The event log as a source of a materializer; an `EventSource`.

    Parameters
    ----------
    log
        Event log.
    store
        Store whose marks say where to go on.
    lock
        File that the one who feeds holds locked (the store's folder has one for it).
    clock
        Events that become known later than it shows wait; the watermark follows it.
    views
        Versions to feed; None feeds every one that the store declares.
    event_time
        Let the watermark follow the events instead of the clock: then a silent log makes no store look fresh.
    """

    def __init__(
        self,
        log: EventLog,
        store: FeatureStore,
        *,
        lock: Path,
        clock: Clock,
        views: Sequence[FeatureView] | None = None,
        event_time: bool = False,
    ) -> None:
        self._log = log
        self._store = store
        self._lock = lock
        self._clock = clock
        self._views = views
        self._event_time = event_time
        self._held: int | None = None
        self._batches = LogBatches(log)
        self._idle = Event()

    def acquire(self, timeout_s: float) -> bool:
        """Become the one process that feeds the store; the lock is released when the process ends, however it ends."""
        if self._held is not None:
            return True
        self._lock.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT, 0o644)
        ends = monotonic() + timeout_s
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                left = ends - monotonic()
                if left <= 0:
                    os.close(descriptor)
                    return False
                self._idle.wait(min(POLL_S, left))
            else:
                self._held = descriptor
                return True

    def poll(self, max_events: int, timeout_s: float) -> Batch | None:
        """Return the next events, None when nothing came in time.

        Raises
        ------
        StreamUnavailable
            If the log cannot be read.
        StoreUnavailable
            If the store cannot be read or was never filled.
        MustFill
            If it does not say which part of the log it reflects, or says that it was another log.

        Notes
        -----
        A large append is cut by the time at which its events became known. So a batch holds more than `max_events`
        only where more became known in the same microsecond, or where one append brings more that are late (known
        before the store's watermark): those come together.
        """
        ends = monotonic() + timeout_s
        while True:
            with _reading_log():
                batch = self._next(max_events)
            left = ends - monotonic()
            if batch is not None or left <= 0:
                return batch
            self._idle.wait(min(POLL_S, left))

    @contextmanager
    def applying(self, batch: Batch) -> Iterator[Moment]:
        """Give the store's transaction, if the store still stands where the batch begins."""
        seen = batch.token
        with self._store.writing() as moment:
            if not isinstance(seen, dict) or marks_of(moment, self._views) != seen:
                raise BatchOutdated
            yield moment

    def remember(self, moment: Moment, accepted: Mapping[str, pa.Table]) -> None:
        """Do nothing: a log holds each event once."""

    def lag(self) -> Lag:
        """Return how many events wait, and how old the oldest view is compared with the clock (or the newest event).

        Events of appends that are unread count all, of those that were read what has become known since.
        """
        with self._store.reading() as moment:
            marks = marks_of(moment, self._views)
        if not marks:
            return Lag(0, 0.0)
        lowest_us = min(mark.watermark_us for _, mark in marks.values())
        stands: dict[str, int] = {}
        for view, mark in marks.values():
            for stream, version in own_versions(view, mark).items():
                stands[stream] = min(stands.get(stream, version), version)
        n_waiting, now_us = 0, to_us(self._clock.now())
        newest_us = lowest_us
        with _reading_log():
            for stream, version in stands.items():
                latest = latest_commit(self._log.root / stream, version)
                n_waiting += self._log.commit(stream, latest).n_rows - self._log.commit(stream, version).n_rows
                newest_us = max(newest_us, min(self._batches.newest_us(stream, latest), now_us))
            n_waiting += self._batches.n_known(stands, lowest_us, now_us)
        return Lag(n_waiting, max(0.0, ((newest_us if self._event_time else now_us) - lowest_us) / 1e6))

    def close(self) -> None:
        """Release the lock."""
        if self._held is not None:
            os.close(self._held)
            self._held = None

    def _next(self, max_events: int) -> Batch | None:
        with self._store.reading() as moment:
            marks = marks_of(moment, self._views)
        if not marks:
            return None
        start, target = furthest_behind(marks)
        if target is None:
            end = {s: latest_commit(self._log.root / s, v) for s, v in start.versions.items()}
            until_us = max(start.watermark_us, to_us(self._clock.now()))
        else:
            end, until_us = target.versions, target.watermark_us
        has_news = end != start.versions or self._batches.waits(start, until_us)
        must_move = target is not None or (
            not self._event_time and until_us - start.watermark_us >= HEARTBEAT_US  # silence is news, too
        )
        if not (has_news or must_move):
            return None
        try:
            require_same_log(self._log, marks)
        except (MustFill, NotFoundError):
            self._batches = LogBatches(self._log)  # what it knows is of the log that was here before
            raise
        cut = self._batches.cut(start, end, until_us, max_events, follows=self._event_time and target is None)
        if not cut.events and cut.versions == start.versions and not must_move:
            return None
        digests = {stream: self._log.commit(stream, version).digest for stream, version in cut.versions.items()}
        views = tuple(view for view, _ in start.marks.values())
        offset = offset_of(cut.versions, digests)
        return Batch(cut.events, cut.watermark_us, offset, views, is_logged=True, token=marks)


@contextmanager
def _reading_log() -> Iterator[None]:
    try:
        yield
    except NotFoundError as error:
        raise StreamUnavailable(f"following: {error.message}", next_step=error.next_step) from error
    except OSError as error:
        raise StreamUnavailable(f"following the event log: {error}", next_step="look at its folder") from error
