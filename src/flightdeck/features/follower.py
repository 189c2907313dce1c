"""The loop that feeds an online store: poll, check, dead letters, apply; one transaction a batch.

It holds one batch at a time, so a store that is slow slows the reading down (backpressure). Where store or source are
away it tries again with growing pauses, for ever, and says so in its metrics. Killed at any point it goes on where the
last committed transaction ended.
"""

import logging
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from threading import Event
from time import monotonic
from types import FrameType

import pyarrow as pa
import pyarrow.compute as pc

from flightdeck.core.clock import Clock, SystemClock, to_us
from flightdeck.core.errors import StoreUnavailable
from flightdeck.events.delivery import Reception
from flightdeck.events.incoming import Rules, check_events
from flightdeck.events.stream import Stream
from flightdeck.features.feed_status import FeedStatus, Role, Totals
from flightdeck.features.materializer import Materializer
from flightdeck.features.stores import FeatureStore, Mark
from flightdeck.features.streaming import Batch, BatchOutdated, EventSource, MustFill, StreamUnavailable
from flightdeck.features.view import FeatureView

logger = logging.getLogger(__name__)

AWAY = (StoreUnavailable, StreamUnavailable, OSError)


@dataclass(frozen=True)
class Pace:
    """Bounds of the loop.

    Parameters
    ----------
    max_events
        Most events of a batch (the least that a source can give may be more).
    max_wait_s
        Longest wait for events before the loop looks around.
    retry_s, longest_retry_s
        First and longest pause when store or source are away.
    report_s
        Time between two status reports.
    """

    max_events: int = 20_000
    max_wait_s: float = 0.5
    retry_s: float = 0.1
    longest_retry_s: float = 10.0
    report_s: float = 1.0


class Follower:
    """Feeds a store from a source until it is told to stop.

    Parameters
    ----------
    source
        Where events come from.
    store
        Store that is fed; the source's transactions are of this store.
    streams
        Declarations of the streams.
    reception
        Checks batches and keeps dead letters and schema changes.
    status
        Metrics and status file.
    pace
        Bounds of the loop.
    clock
        Tells which events lie in the future, and the age of the views.
    """

    def __init__(
        self,
        source: EventSource,
        store: FeatureStore,
        streams: Sequence[Stream],
        reception: Reception,
        *,
        status: FeedStatus | None = None,
        pace: Pace | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._source = source
        self._store = store
        self._streams = {stream.name: stream for stream in streams}
        self._reception = reception
        self._pace = pace or Pace()
        self._clock: Clock = clock or SystemClock()
        self._stop = Event()
        self._reported = float("-inf")
        self._reached_us: int | None = None  # watermark of the store, as far as this process knows
        self.status = status or FeedStatus()

    def stop(self) -> None:
        """End after the batch at hand; may be called from a signal handler."""
        self._stop.set()

    def run(self, *, until_idle: bool = False) -> Totals:
        """Feed until `stop` is called, or (`until_idle`) until nothing comes any more.

        Returns
        -------
        Totals
            What was done; the lock or lease is released.

        Raises
        ------
        MustFill
            If `until_idle`, and the store has to be filled first; else that is waited for.
        """
        n_failed = 0
        try:
            while not self._stop.is_set():
                try:
                    is_done = not self.step() and until_idle and self.status.role == "feeding"
                except AWAY as error:
                    if until_idle and isinstance(error, MustFill):
                        raise
                    self.status.away(error)
                    pause_s = min(self._pace.longest_retry_s, self._pace.retry_s * 2 ** min(n_failed, 30))
                    log = logger.warning if n_failed in (0, 5) else logger.debug
                    log("feeding the store: %s; trying again, next in %.1f s", error, pause_s)
                    n_failed += 1
                    self._report(self.status.role)
                    self._stop.wait(pause_s)
                    continue
                n_failed = 0
                self.status.back()
                self._report(self.status.role)
                if is_done:
                    break
        finally:
            self._source.close()
            self._report("stopped", now=True)
        return self.status.totals

    def step(self) -> bool:
        """Do one round and tell whether a batch was applied.

        Raises
        ------
        StoreUnavailable, StreamUnavailable, OSError
            If store, source or disk are away; nothing was applied then, or the next round finds out.
        """
        if not self._source.acquire(self._pace.max_wait_s):
            self.status.role = "standby"
            return False
        self.status.role = "feeding"
        batch = self._source.poll(self._pace.max_events, self._pace.max_wait_s)
        if batch is None:
            return False
        with suppress(BatchOutdated):
            self._apply(batch)
        return True

    def _apply(self, batch: Batch) -> None:
        began = monotonic()
        views = batch.views if batch.views is not None else Materializer(self._store).views
        read = {stream for view in views for stream in view.sources}
        rules = Rules(now_us=self._present_us(views), is_logged=batch.is_logged)
        events: dict[str, pa.Table] = {}
        unread: dict[str, pa.Table] = {}  # a view that is added later must know how far these were delivered
        n_dead, n_ignored = 0, 0
        for name, rows in batch.events.items():
            stream = self._streams.get(name)
            if stream is None and not batch.is_logged:
                n_dead += self._reception.refuse(name, rows, self._streams, offsets=batch.offsets.get(name))
                continue
            if stream is None or name not in read:
                n_ignored += len(rows)
                if stream is not None and batch.watermark_us is None:
                    unread[name] = check_events(stream, rows, rules=rules).accepted
                continue
            incoming = self._reception.take_in(stream, rows, rules=rules, offsets=batch.offsets.get(name))
            events[name] = incoming.accepted
            n_dead += len(incoming.dead)
        n_accepted = sum(table.num_rows for table in events.values())
        watermark_us = max(_newest_us({**events, **unread}), _told_us(batch, rules))
        with self._source.applying(batch) as moment:
            self._source.remember(moment, events)
            done = Materializer(self._store, views).apply_within(moment, events, watermark_us, batch.offset)
        self._reached_us = done.watermark_us
        n_twice = n_accepted - done.n_events
        self.status.applied(done.n_events, done.n_late, n_dead, n_twice, n_ignored, monotonic() - began)

    def _present_us(self, views: Sequence[FeatureView]) -> int:
        """Return the time before which events are no future: what the store has reached, should the clock be behind."""
        if self._reached_us is None:
            with self._store.reading() as moment:
                self._reached_us = max((moment.mark(view).watermark_us for view in views), default=0)
        return max(to_us(self._clock.now()), self._reached_us)

    def _report(self, role: Role, *, now: bool = False) -> None:
        """Report at most once in a while; a report that fails is no reason to stop feeding."""
        if not now and monotonic() - self._reported < self._pace.report_s:
            return
        self._reported = monotonic()
        marks: list[tuple[FeatureView, Mark]] = []
        lag = None
        with suppress(*AWAY):
            with self._store.reading() as moment:
                marks = [(view, moment.mark(view)) for view in moment.declared().values()]
            lag = self._source.lag()
        with suppress(OSError):
            self.status.report(role, to_us(self._clock.now()), marks, lag)


def run_materializer(follower: Follower, *, until_idle: bool = False) -> Totals:
    """Run a follower in this process's main thread; SIGTERM and SIGINT end it after the batch at hand."""

    def end(number: int, _: FrameType | None) -> None:
        logger.info("feeding the store: ending on signal %d", number)
        follower.stop()

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        return follower.run(until_idle=until_idle)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _told_us(batch: Batch, rules: Rules) -> int:
    """Return the watermark that a source gives, 0 if it gives none or one that lies in the future."""
    told_us = batch.watermark_us or 0
    if rules.now_us is not None and told_us > rules.now_us + rules.skew_us:
        logger.warning("feeding the store: %s says watermark %d us, which lies in the future", batch.offset, told_us)
        return 0
    return told_us


def _newest_us(events: Mapping[str, pa.Table]) -> int:
    """Return when the newest event became known, 0 if there is none (a store's watermark never goes back)."""
    newest = [pc.max(table["created_timestamp"]).value for table in events.values() if table.num_rows]
    return max(newest, default=0)
