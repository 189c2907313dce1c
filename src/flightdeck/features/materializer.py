"""Feeding the online store from the event stream.

`backfill` rebuilds the state of the log at a time; `apply` advances it by a batch of newly known events. State and
watermark change in one transaction: an event counts once, whatever is killed when.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from flightdeck.core.clock import SECOND_US, from_us
from flightdeck.events.log import EventLog
from flightdeck.features.state import KEY_SEPARATOR, Row, advance
from flightdeck.features.store import Moment, OnlineStore
from flightdeck.features.view import FeatureView, Latest, OpenItems, Windowed


@dataclass(frozen=True)
class Applied:
    """What a batch did.

    Parameters
    ----------
    n_events
        Events applied.
    n_late
        Events refused because the store had already passed their time of knowledge.
    watermark_us
        Time up to which everything known is applied now.
    """

    n_events: int
    n_late: int
    watermark_us: int


class Materializer:
    """Keeps a set of views in an online store up to date. One at a time writes (LMDB holds a lock).

    Parameters
    ----------
    store
        Store opened for writing.
    views
        Declarations to feed.
    """

    def __init__(self, store: OnlineStore, views: Sequence[FeatureView]) -> None:
        self._store = store
        self._views = tuple({view.digest: view for view in views}.values())  # equal meanings share one state

    @property
    def streams(self) -> tuple[str, ...]:
        """Streams that the views read, each once."""
        return tuple(dict.fromkeys(source for view in self._views for source in view.sources))

    def backfill(self, log: EventLog, until_us: int) -> Applied:
        """Forget the views' states and build those of `until_us` from the log, in one transaction.

        Raises
        ------
        NotFoundError
            If the log lacks a stream.
        StoreUnavailable
            If the store cannot be written; it keeps what it had.
        """
        reach_us = max(view.look_back_s for view in self._views) * SECOND_US
        recent = {
            stream: log.read(stream, created_after_us=until_us - reach_us - 1, created_until_us=until_us)
            for stream in self.streams
        }
        counted = {source for view in self._views if isinstance(view.compute, OpenItems) for source in view.sources}
        whole = {stream: log.read(stream, created_until_us=until_us) for stream in counted}
        with self._store.writing() as moment:
            for view in self._views:
                moment.clear(view)
                self._advance(moment, view, whole if isinstance(view.compute, OpenItems) else recent)
                moment.set_watermark(view, until_us)
        return Applied(sum(table.num_rows for table in recent.values()), 0, until_us)

    def apply(self, events: Mapping[str, pa.Table], watermark_us: int) -> Applied:
        """Apply a batch of events and move the watermark, in one transaction.

        Parameters
        ----------
        events
            A table for each stream that has news, sorted by knowledge; streams without a view are ignored.
        watermark_us
            Everything known until then is in the store after this batch.

        Raises
        ------
        ValueError
            If an event is newer than the watermark.
        StoreUnavailable
            If the store has not been backfilled or cannot be written.
        """
        used = {stream: table for stream, table in events.items() if stream in self.streams and table.num_rows}
        newest_us = max((_created_us(table)[-1] for table in used.values()), default=watermark_us)
        if newest_us > watermark_us:
            raise ValueError(f"an event of {from_us(newest_us)} is newer than the watermark {from_us(watermark_us)}")
        with self._store.writing() as moment:
            reached_us = [moment.watermark_us(view) for view in self._views]
            for view, view_us in zip(self._views, reached_us, strict=True):
                self._advance(moment, view, _newer(used, view_us))
                moment.set_watermark(view, max(watermark_us, view_us))
        n_fresh = sum(table.num_rows for table in _newer(used, min(reached_us)).values())
        n_late = sum(table.num_rows for table in used.values()) - n_fresh
        return Applied(n_fresh, n_late, max(watermark_us, *reached_us))

    def _advance(self, moment: Moment, view: FeatureView, events: Mapping[str, pa.Table]) -> None:
        """Advance the states of one view by the events of its streams."""
        by_key: dict[str, list[Row]] = defaultdict(list)
        for place, stream in enumerate(view.sources):
            if stream in events and events[stream].num_rows:
                for key, row in _rows(view, events[stream], 1 if place == 0 else -1):
                    by_key[key].append(row)
        before = moment.states(view, by_key)
        after = {key: advance(view, before[key], sorted(rows, key=_at)) for key, rows in by_key.items()}
        moment.put(view, after)


def _rows(view: FeatureView, table: pa.Table, weight: int) -> Iterable[tuple[str, Row]]:
    """Yield (entity key, (time of knowledge, measures)) of each event whose entity is known."""
    parts = [table[column].to_pylist() for column in view.entity]
    keys = [KEY_SEPARATOR.join(part) if all(part) else None for part in zip(*parts, strict=True)] if parts else None
    measures = _measures(view, table, weight)
    for place, (created_us, values) in enumerate(zip(_created_us(table), measures, strict=True)):
        key = "" if keys is None else keys[place]
        if key is not None:
            yield key, (created_us, values)


def _measures(view: FeatureView, table: pa.Table, weight: int) -> Iterable[tuple[float, ...]]:
    if isinstance(view.compute, Windowed) and view.compute.means:
        return zip(*(table[column].to_pylist() for column in view.compute.means), strict=True)
    if isinstance(view.compute, Latest):
        columns = (table[column].cast(pa.float64()).to_numpy().tolist() for column in view.compute.columns)
        return zip(*columns, strict=True)
    return [() if isinstance(view.compute, Windowed) else (weight,)] * int(table.num_rows)


def _created_us(table: pa.Table) -> list[int]:
    return list(table["created_timestamp"].cast(pa.int64()).to_pylist())


def _newer(events: Mapping[str, pa.Table], than_us: int) -> dict[str, pa.Table]:
    """Return the events that became known after `than_us`."""
    return {
        stream: table.filter(pc.greater(table["created_timestamp"].cast(pa.int64()), than_us))
        for stream, table in events.items()
    }


def _at(row: Row) -> int:
    return row[0]
