"""Feeding an online store from the event stream.

`backfill` builds the states of the log at a time; `apply` advances them by a batch of newly known events. States and
what they reflect change in one transaction: an event counts once, whatever is killed when. An event that comes late,
after the store has passed its time of knowledge, is applied all the same if its source commits an offset with the
batch: states do not depend on the order of arrival. Without an offset nobody could tell it from one that comes twice.
"""

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from flightdeck.core.clock import SECOND_US, from_us
from flightdeck.core.errors import StoreUnavailable, some
from flightdeck.events.log import EventLog
from flightdeck.events.offset import offset_of
from flightdeck.features.addable import addable
from flightdeck.features.state_update import KeyedEvents, advance, key_events
from flightdeck.features.stores import FeatureStore, Filling, Mark, Moment
from flightdeck.features.view import FeatureView, OpenItems

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Applied:
    """What a batch did.

    Parameters
    ----------
    n_events
        Events applied.
    n_late
        Events that came after the store had passed their time of knowledge: applied where the source says by an
        offset what was read before, left out where it does not (they may have been delivered twice).
    watermark_us
        Time up to which everything known is applied now.
    """

    n_events: int
    n_late: int
    watermark_us: int


class Materializer:
    """Keeps feature views in an online store up to date. One at a time writes (the store holds a lock or lease).

    Parameters
    ----------
    store
        Store opened for writing.
    views
        Declarations to feed; None feeds every version that is declared in the store.
    """

    def __init__(self, store: FeatureStore, views: Sequence[FeatureView] | None = None) -> None:
        self._store = store
        self._given = None if views is None else _each_meaning_once(views)

    @property
    def views(self) -> tuple[FeatureView, ...]:
        """Versions that are fed, each meaning once; a declared one that was never filled is not fed yet."""
        if self._given is not None:
            return self._given
        with self._store.reading() as moment:
            return _each_meaning_once(_filled(moment))

    @property
    def streams(self) -> tuple[str, ...]:
        """Streams that the views read, each once."""
        return tuple(dict.fromkeys(source for view in self.views for source in view.sources))

    def backfill(self, log: EventLog, until_us: int, views: Sequence[FeatureView] | None = None) -> Applied:
        """Declare views, forget their states and build those of `until_us` from the log, in one transaction.

        Parameters
        ----------
        log
            Event log.
        until_us
            Events known until then are applied, UTC microseconds. Where consumers of Redis streams have gone further,
            so does this: events that they have read would be missing for ever.
        views
            Which views (default: all that this materializer feeds).

        Raises
        ------
        NotFoundError
            If the log lacks a stream.
        StoreUnavailable
            If the store cannot be written; it keeps what it had.
        """
        chosen = self.views if views is None else _each_meaning_once(views)
        streams = tuple(dict.fromkeys(source for view in chosen for source in view.sources))
        n_events = 0
        with self._store.filling(chosen, until_us) as filling:
            moment = filling.moment
            latest = {stream: log.version(stream) for stream in streams}
            versions = {stream: found.version for stream, found in latest.items()}
            until_us = max(filling.until_us, _newest_waiting_us(log, versions, filling))
            mark = Mark(until_us, offset_of(versions, {stream: found.digest for stream, found in latest.items()}))
            for view in chosen:
                moment.clear(view)
                moment.declare(view)
            for stream in streams:
                readers = [view for view in chosen if stream in view.sources]
                n_events += _recent(log, stream, versions[stream], readers, until_us, filling, self._store)
            for view in chosen:
                moment.set_mark(view, mark)
        return Applied(n_events, 0, until_us)

    def apply(self, events: Mapping[str, pa.Table], watermark_us: int, offset: str | None = None) -> Applied:
        """Apply a batch of events and move the watermark, in one transaction.

        Parameters
        ----------
        events
            A table for each stream that has news, each event once; streams without a view are ignored.
        watermark_us
            Everything known until then is in the store after this batch.
        offset
            The part of the log that was read; with one, late events are applied. None keeps what the store says and
            leaves out what the store has passed, so that a batch may come twice.

        Raises
        ------
        ValueError
            If an event is newer than the watermark.
        StoreUnavailable
            If the store has not been backfilled or cannot be written.
        """
        with self._store.writing() as moment:
            return self.apply_within(moment, events, watermark_us, offset)

    def apply_within(
        self, moment: Moment, events: Mapping[str, pa.Table], watermark_us: int, offset: str | None = None
    ) -> Applied:
        """Do what `apply` does, in a transaction that the caller holds and may add to."""
        views = self._given if self._given is not None else _each_meaning_once(_filled(moment))
        if not views:
            raise StoreUnavailable(
                "feeding the online store: it declares no view that was filled", next_step="kedro features apply"
            )
        streams = {source for view in views for source in view.sources}
        used = {name: _each_event_once(table) for name, table in events.items() if name in streams and table.num_rows}
        newest_us = max((int(_created_us(table).max()) for table in used.values()), default=watermark_us)
        if newest_us > watermark_us:
            raise ValueError(f"an event of {from_us(newest_us)} is newer than the watermark {from_us(watermark_us)}")
        marks = [moment.mark(view) for view in views]
        lowest_us = min(mark.watermark_us for mark in marks)
        n_late = sum(int((_created_us(table) <= lowest_us).sum()) for table in used.values())
        for view, before in zip(views, marks, strict=True):
            now_us = max(watermark_us, before.watermark_us)
            fresh = used if offset is not None else _newer(used, before.watermark_us)
            _advance(self._store, moment, view, fresh, now_us)
            moment.set_mark(view, Mark(now_us, before.offset if offset is None else offset))
        n_used = sum(table.num_rows for table in used.values())
        reached_us = max(watermark_us, *(mark.watermark_us for mark in marks))
        return Applied(n_used if offset is not None else n_used - n_late, n_late, reached_us)


def _recent(
    log: EventLog,
    stream: str,
    version: int,
    views: Sequence[FeatureView],
    until_us: int,
    filling: Filling,
    store: FeatureStore,
) -> int:
    """Apply the events of a stream that still matter to some views; return how many lie within their windows."""
    n_events = 0
    for is_gauge in (False, True):
        readers = [view for view in views if isinstance(view.compute, OpenItems) == is_gauge]
        if not readers:
            continue
        reach_us = max(view.look_back_s for view in readers) * SECOND_US
        after_us = None if is_gauge else until_us - reach_us - 1
        names = {"event_id", "created_timestamp", *(name for view in readers for name in view.event_columns)}
        columns = [name for name in log.columns(stream) if name in names]
        events = log.read(
            stream, version=version, columns=columns, created_after_us=after_us, created_until_us=until_us
        )
        n_events += 0 if is_gauge else events.num_rows
        for view in readers:
            counted = _advance(store, filling.moment, view, {stream: events}, until_us)
            if counted is not None:
                filling.note(view, stream, counted)
    return n_events


def _newest_waiting_us(log: EventLog, versions: Mapping[str, int], filling: Filling) -> int:
    """Return when the newest event became known that waits for other versions, as the log has it."""
    newest_us = filling.until_us
    for stream in filling.waiting:
        events = log.read(
            stream, version=versions[stream], columns=["event_id", "created_timestamp"], created_after_us=newest_us
        )
        newest_us = int(_created_us(events)[filling.waits(stream, events)].max(initial=newest_us))
    return newest_us


def _advance(
    store: FeatureStore, moment: Moment, view: FeatureView, events: Mapping[str, pa.Table], now_us: int
) -> KeyedEvents | None:
    """Advance the states of one view by the events of its streams; return those that counted, if any."""
    parts = [
        (_of_view(view, store.not_filled(view, s, events[s])), 1 if place == 0 else -1)
        for place, s in enumerate(view.sources)
        if s in events
    ]
    if not parts:
        return None
    keyed = key_events(view, parts)
    keyed = keyed.owned(store.owns(view, keyed.keys)) if len(keyed.place) else keyed
    if not len(keyed.place):
        return None
    moment.put(view, keyed.keys, advance(view, moment.states(view, keyed.keys), keyed, now_us))
    return keyed


def _filled(moment: Moment) -> list[FeatureView]:
    """Return the declared versions that were filled."""
    filled = []
    for view in moment.declared().values():
        with suppress(StoreUnavailable):
            moment.mark(view)
            filled.append(view)
    return filled


def _of_view(view: FeatureView, events: pa.Table) -> pa.Table:
    """Return a stream's events as a view sees them: what it cannot add up is no value, a gauge's keys are text."""
    if isinstance(view.compute, OpenItems):  # its streams may type a key differently
        for place, name in enumerate(events.column_names):
            if name in view.entity:
                events = events.set_column(place, name, events[name].cast(pa.string()))
        return events
    found = addable(view, events)
    for column, ids in found.left_out.items():
        what = f"{view.name}@{view.version}: {column} cannot be added up exactly and is no value in events {some(ids)}"
        logger.warning("feeding %s", what)
    return found.events


def _each_meaning_once(views: Sequence[FeatureView]) -> tuple[FeatureView, ...]:
    return tuple({view.digest: view for view in views}.values())


def _each_event_once(table: pa.Table) -> pa.Table:
    """Keep the first row of each event id within a batch."""
    ids = table["event_id"].combine_chunks().dictionary_encode()
    if len(ids.dictionary) == table.num_rows:
        return table
    rows = (
        pa.table({"code": ids.indices, "row": np.arange(table.num_rows)}).group_by("code").aggregate([("row", "min")])
    )
    return table.take(rows["row_min"].combine_chunks().sort())


def _newer(events: Mapping[str, pa.Table], than_us: int) -> dict[str, pa.Table]:
    """Return the events that became known after `than_us`."""
    return {name: table.filter(pa.array(_created_us(table) > than_us)) for name, table in events.items()}


def _created_us(table: pa.Table) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    return np.asarray(table["created_timestamp"].cast(pa.int64()).to_numpy(), dtype=np.int64)
