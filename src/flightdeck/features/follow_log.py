"""Following the embedded event log into an embedded store.

The state of a view is {events of the versions in its mark's offset with created_timestamp <= its watermark}. From
(o1, w1) to (o2, w2) two kinds of events are missing: those of o1 that become known in (w1, w2], and those that were
appended after o1 and are known at w2. A step brings one kind; so a live log and a replay of an old one are the same
thing with another clock. Views that stand elsewhere (a version that was backfilled later) are brought up first.
"""

import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from time import monotonic

import pyarrow as pa
import pyarrow.compute as pc

from flightdeck.core.clock import Clock, from_us, to_us
from flightdeck.core.errors import NotFoundError, StoreUnavailable
from flightdeck.events.commits import latest_commit
from flightdeck.events.log import EventLog
from flightdeck.events.offset import offset_of, versions_of
from flightdeck.events.stream import INSTANT
from flightdeck.features.stores import FeatureStore, Mark, Moment
from flightdeck.features.streaming import Batch, BatchOutdated, Lag, StreamUnavailable
from flightdeck.features.view import FeatureView

POLL_S = 0.02
HEARTBEAT_US = 1_000_000
HORIZON_US = 6 * 3600 * 1_000_000  # of a log that is replayed, so much is read at once
FOREVER_US = 2**62
LOOK_AGAIN_S = 1.0  # for events whose time has not come, where the watermark follows the events
_APPLY = "fill the store from the log: kedro features apply"


@dataclass(frozen=True)
class _Position:
    """Some views that stand at one place: versions of their streams, and watermark."""

    marks: dict[str, tuple[FeatureView, Mark]]
    versions: dict[str, int]
    watermark_us: int


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
        self._newest_us: dict[str, list[int]] = {}
        self._took_known = False
        self._looked: tuple[str, int, float] = ("", 0, 0.0)
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
        """Return the next events, None when nothing came in time; one append is the least that a batch takes.

        Raises
        ------
        StreamUnavailable
            If the log cannot be read.
        StoreUnavailable
            If the store cannot be read, was never filled, or does not say which part of the log it reflects.
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
            if not isinstance(seen, dict) or _marks(moment, self._views) != seen:
                raise BatchOutdated
            yield moment

    def remember(self, moment: Moment, accepted: Mapping[str, pa.Table]) -> None:
        """Do nothing: a log holds each event once."""

    def lag(self) -> Lag:
        """Return how many events wait, and how old the oldest view is compared with the clock (or the newest event)."""
        with self._store.reading() as moment:
            marks = _marks(moment, self._views)
        if not marks:
            return Lag(0, 0.0)
        lowest_us = min(mark.watermark_us for _, mark in marks.values())
        stands: dict[str, int] = {}
        for view, mark in marks.values():
            for stream, version in _own(view, mark).items():
                stands[stream] = min(stands.get(stream, version), version)
        n_waiting, now_us = 0, to_us(self._clock.now())
        newest_us = lowest_us
        with _reading_log():
            for stream, version in stands.items():
                latest = latest_commit(self._log.root / stream, version)
                n_waiting += self._log.commit(stream, latest).n_rows - self._log.commit(stream, version).n_rows
                newest_us = max(newest_us, min(self._newest(stream, latest), now_us))
        return Lag(n_waiting, max(0.0, ((newest_us if self._event_time else now_us) - lowest_us) / 1e6))

    def close(self) -> None:
        """Release the lock."""
        if self._held is not None:
            os.close(self._held)
            self._held = None

    def _next(self, max_events: int) -> Batch | None:
        with self._store.reading() as moment:
            marks = _marks(moment, self._views)
        if not marks:
            return None
        start, until = _furthest_behind(marks)
        ceiling_us = to_us(self._clock.now())
        if until is None:
            end = {s: latest_commit(self._log.root / s, v) for s, v in start.versions.items()}
            until_us = max(start.watermark_us, ceiling_us)
        else:
            end, until_us = until.versions, until.watermark_us
        waits = any(self._newest(stream, v) > start.watermark_us for stream, v in start.versions.items())
        has_arrivals = any(end[stream] > version for stream, version in start.versions.items())
        is_catching_up = until is not None
        found: Batch | None = None
        if waits and until_us > start.watermark_us and not (has_arrivals and self._took_known):
            found = self._becoming_known(marks, start, until_us, max_events, catching_up=is_catching_up)
        self._took_known = found is not None
        if found is None and has_arrivals:
            return self._arrivals(marks, start, end, until_us, max_events, waits=waits, catching_up=is_catching_up)
        if found is None and not waits:
            silence_us = until_us - start.watermark_us
            if (is_catching_up and silence_us > 0) or (not self._event_time and silence_us >= HEARTBEAT_US):
                found = self._batch(marks, start, {}, until_us, start.versions)
        return found

    def _arrivals(
        self,
        marks: dict[str, tuple[FeatureView, Mark]],
        start: _Position,
        end: dict[str, int],
        until_us: int,
        max_events: int,
        *,
        waits: bool,
        catching_up: bool,
    ) -> Batch:
        """Return the events of the next appends; those that are not known yet wait for their time."""
        versions, n_taken = dict(start.versions), 0
        while n_taken < max_events:
            nexts = {s: self._log.commit(s, v + 1) for s, v in versions.items() if v < end[s]}
            if not nexts:
                break
            stream = min(nexts, key=lambda name: nexts[name].newest_us or 0)
            if n_taken and n_taken + nexts[stream].n_added > max_events:
                break
            versions[stream] += 1
            n_taken += nexts[stream].n_added
        known_us = start.watermark_us if waits or (catching_up and versions != end) else until_us
        events = {}
        for stream, version in versions.items():
            if version > start.versions[stream]:
                rows, _ = self._log.read_since(stream, start.versions[stream], until=version)
                events[stream] = rows.filter(pc.field("created_timestamp") <= pa.scalar(from_us(known_us), INSTANT))
        follows = self._event_time and not waits and not catching_up
        return self._batch(marks, start, events, None if follows else known_us, versions)

    def _becoming_known(
        self,
        marks: dict[str, tuple[FeatureView, Mark]],
        start: _Position,
        until_us: int,
        max_events: int,
        *,
        catching_up: bool,
    ) -> Batch | None:
        """Return events of the versions that the store has, which have become known since."""
        after_us = start.watermark_us
        stop_us = until_us if self._event_time else min(until_us, after_us + HORIZON_US)
        looked_at, looked_from, when = self._looked
        is_known = (looked_at, looked_from) == (offset_of(start.versions), after_us)
        if is_known and not catching_up and monotonic() - when < LOOK_AGAIN_S:
            return None
        times = pa.chunked_array(
            [
                chunk
                for stream, version in start.versions.items()
                if version >= 0 and self._newest(stream, version) > after_us
                for chunk in self._log.read(
                    stream,
                    version=version,
                    columns=["created_timestamp"],
                    created_after_us=after_us,
                    created_until_us=stop_us,
                )["created_timestamp"].chunks
            ],
            INSTANT,
        ).cast(pa.int64())
        if not len(times) and self._event_time and not catching_up:
            self._looked = (offset_of(start.versions), after_us, monotonic())
            return None
        if not len(times) and stop_us - after_us < HEARTBEAT_US and not catching_up:
            return None
        if len(times) > max_events:
            stop_us = int(times.sort()[max_events - 1].as_py())
        elif self._event_time and not catching_up:
            stop_us = int(pc.max(times).as_py())
        events = {
            stream: self._log.read(stream, version=version, created_after_us=after_us, created_until_us=stop_us)
            for stream, version in start.versions.items()
            if version >= 0 and len(times)
        }
        return self._batch(marks, start, events, stop_us, start.versions)

    def _batch(
        self,
        marks: dict[str, tuple[FeatureView, Mark]],
        start: _Position,
        events: dict[str, pa.Table],
        watermark_us: int | None,
        versions: dict[str, int],
    ) -> Batch:
        views = tuple(view for view, _ in start.marks.values())
        kept = {stream: table for stream, table in events.items() if table.num_rows}
        return Batch(kept, watermark_us, offset_of(versions), views, is_logged=True, token=marks)

    def _newest(self, stream: str, version: int) -> int:
        """Return a time after which no event of a stream's version became known."""
        found = self._newest_us.setdefault(stream, [])
        while len(found) <= version:
            newest_us = self._log.commit(stream, len(found)).newest_us
            found.append(max(found[-1] if found else 0, FOREVER_US if newest_us is None else newest_us))
        return found[version] if version >= 0 else 0


@contextmanager
def _reading_log() -> Iterator[None]:
    try:
        yield
    except NotFoundError as error:
        raise StreamUnavailable(f"following: {error.message}", next_step=error.next_step) from error
    except OSError as error:
        raise StreamUnavailable(f"following the event log: {error}", next_step="look at its folder") from error


def _marks(moment: Moment, views: Sequence[FeatureView] | None) -> dict[str, tuple[FeatureView, Mark]]:
    declared = {view.digest: view for view in views} if views is not None else moment.declared()
    return {digest: (view, moment.mark(view)) for digest, view in declared.items()}


def _own(view: FeatureView, mark: Mark) -> dict[str, int]:
    """Return the versions of a view's streams that its mark names."""
    versions = versions_of(mark.offset)
    if any(stream not in versions for stream in view.sources):
        raise StoreUnavailable(
            f"following the event log: the store does not say which part of {', '.join(view.sources)} view {view.name} "
            f"reflects (it says {mark.offset!r})",
            next_step=_APPLY,
        )
    return {stream: versions[stream] for stream in view.sources}


def _furthest_behind(marks: dict[str, tuple[FeatureView, Mark]]) -> tuple[_Position, _Position | None]:
    """Return views that stand behind others and where those stand, or all views where they stand together."""
    furthest: dict[str, int] = {}
    for view, mark in marks.values():
        for stream, version in _own(view, mark).items():
            furthest[stream] = max(furthest.get(stream, version), version)
    latest_us = max(mark.watermark_us for _, mark in marks.values())
    for view, mark in marks.values():
        own = _own(view, mark)
        target = {stream: furthest[stream] for stream in own}
        if own != target or mark.watermark_us < latest_us:
            group = {
                digest: (other, its)
                for digest, (other, its) in marks.items()
                if its.watermark_us == mark.watermark_us and _own(other, its) == own
            }
            return _Position(group, own, mark.watermark_us), _Position({}, target, latest_us)
    return _Position(marks, furthest, latest_us), None
