"""The offline engine: a point-in-time join by running totals and places in order, vectorised.

Events are ordered by (entity key, knowledge time) once for all views of the same entity and stream, and each request's
place among them is found for its head and for each window's tail (`entity_frame.py`, `event_index.py`). A window is
then a range of ordered events (`event_ranges.py`):

- count, sum, mean, share, std: the difference of two running totals (int64, exact);
- last and since last: the last event before the range's end that has a value;
- min and max: the range minimum by a sparse table over blocks of doubling length (`range_extremes.py`);
- distinct: how many events of the range have their value's previous occurrence before the range (`distinct_count.py`).

Cost: O((events + requests) log events) for each entity. `partitioned.py` bounds the memory.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from flightdeck.core.clock import SECOND_US
from flightdeck.features.aggregates import Aggregate
from flightdeck.features.distinct_count import count_distinct
from flightdeck.features.entity_frame import EntityFrame, Keys
from flightdeck.features.event_index import KeyedStream, OrderedStream, in_order
from flightdeck.features.event_ranges import EventRanges, Window
from flightdeck.features.measures import EVENTS, column_of, finish, measures_of
from flightdeck.features.range_extremes import range_minimum
from flightdeck.features.view import FeatureView, Latest, Windowed

__all__ = ["EntityFrame", "in_order", "point_in_time_join", "point_in_time_joins"]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
PART = 2**16  # questions answered at once: a bound on what a step writes; 2**14 to 2**19 cost the same
OF_ALL_EVENTS = ("min", "max", "distinct")  # aggregates that prepare all events of a stream for each call


def point_in_time_join(view: FeatureView, events: Mapping[str, pa.Table], frame: EntityFrame) -> dict[str, Floats]:
    """Return the features of one view; see `point_in_time_joins`."""
    return point_in_time_joins([view], events, frame)


def point_in_time_joins(
    views: Sequence[FeatureView], events: Mapping[str, pa.Table], frame: EntityFrame
) -> dict[str, Floats]:
    """Return the features of `views` for each row of `frame` as they were known at the row's time.

    Parameters
    ----------
    views
        Declarations.
    events
        Table of each stream that the views read, in any order; a repeated event counts once.
    frame
        Rows to join to.

    Returns
    -------
    dict of str to array
        float64 of shape `(n_rows,)` for each column of each view, in the row order of `frame`; those of a view
        share one block of memory, which is there as long as one of them is.

    Raises
    ------
    ContractViolation
        If a column is missing, of another type, or holds a value that cannot be added up exactly.
    """
    streams: dict[str, OrderedStream] = {}
    by_entity: dict[tuple[str, ...], list[FeatureView]] = {}
    for view in views:
        by_entity.setdefault(view.entity, []).append(view)
        for name in view.sources:
            if name not in streams:
                streams[name] = OrderedStream(in_order(events[name]), frame)
    joined: dict[str, Floats] = {}
    for view in views:  # in one piece: far fewer pages to set up
        joined.update(zip(view.columns, np.empty((len(view.columns), len(frame))), strict=True))
    for entity, chosen in by_entity.items():
        read = dict.fromkeys(name for view in chosen for name in view.sources)
        keys = Keys.of(entity, frame, n_events=max(len(streams[name]) for name in read))
        out = [joined[column] for view in chosen for column in view.columns]
        _answer(chosen, keys, {name: KeyedStream(keys, streams[name]) for name in read}, out)
    return joined


def _answer(views: Sequence[FeatureView], keys: Keys, keyed: Mapping[str, KeyedStream], out: Sequence[Floats]) -> None:
    """Write the columns of views of one entity, a part of the questions at a time."""
    n = len(keys)
    answers = out if keys.answers is None else np.empty((len(out), n + 1))
    step = max(1, n) if any(_looks_at_all_events(view) for view in views) else PART
    for begin in range(0, max(1, n), step):  # no questions are a part, too: columns are looked at all the same
        part = slice(begin, min(begin + step, n))
        ranges = {name: EventRanges(events, part) for name, events in keyed.items()}
        columns = (values for view in views for values in _features(view, ranges))
        for column, values in zip(answers, columns, strict=True):
            column[part] = values
    if keys.answers is not None:
        for column, of_rows in zip(answers, out, strict=True):
            column[n] = np.nan
            np.take(column, keys.answers, out=of_rows, mode="wrap")  # an unknown entity is -1, the last


def _looks_at_all_events(view: FeatureView) -> bool:
    """Tell whether each part of the questions would cost as much as all of them."""
    return isinstance(view.compute, Windowed) and any(a.kind in OF_ALL_EVENTS for a in view.compute.aggregates)


def _features(view: FeatureView, ranges: Mapping[str, EventRanges]) -> Iterator[Floats]:
    """Yield the columns of a view, a value for each question."""
    seen = ranges[view.source]
    if isinstance(view.compute, Windowed):
        for window_s in view.compute.windows_s:
            for aggregate in view.compute.aggregates:
                yield _aggregate(aggregate, seen, (window_s * SECOND_US, view.tiles_us[window_s]))
    elif isinstance(view.compute, Latest):
        yield from _latest(view, view.compute, seen)
    else:
        n_open = seen.end - seen.start
        for name in view.compute.closed_by:
            n_open -= ranges[name].end - ranges[name].start
        yield n_open.astype(np.float64)


def _aggregate(aggregate: Aggregate, seen: EventRanges, window: Window) -> Floats:
    needed = measures_of(aggregate)
    if needed:
        return finish(aggregate, {measure: seen.total(measure, window) for measure in (EVENTS, *needed)})
    events, begin, end = seen.events, seen.begin(window), seen.end
    if aggregate.kind == "since_last":
        created_us = events.created_us(np.maximum(end - 1, 0))
        return np.where(end > begin, (seen.at_us - created_us) / SECOND_US, np.nan)
    if aggregate.kind == "last":
        return _last_value(events, aggregate.column, begin, end)
    if aggregate.kind == "distinct":
        codes = value_codes(events.stream.table, aggregate.column)[events.rows]
        counted = count_distinct(codes, codes >= 0, events.key, begin, end)
        return np.minimum(counted, aggregate.at_most).astype(np.float64)
    values = events.values(aggregate.column)
    return range_minimum(values, begin, end) if aggregate.kind == "min" else -range_minimum(-values, begin, end)


def _last_value(events: KeyedStream, column: str, begin: Ints, end: Ints) -> Floats:
    """Return the last value of each range, NaN where it has none."""
    values, place = events.values(column), events.last_known(column)
    if not len(values):
        return np.full(len(begin), np.nan)
    last = np.where(end > begin, place[np.maximum(end - 1, 0)], -1)
    return np.where(last >= begin, values[np.maximum(last, 0)], np.nan)


def _latest(view: FeatureView, compute: Latest, seen: EventRanges) -> Iterator[Floats]:
    there = seen.end > seen.start
    last = np.where(there, seen.end - 1, 0)
    age_s = (seen.at_us - seen.events.created_us(last)) / SECOND_US
    usable = there & (age_s <= view.ttl_s)
    for name in compute.columns:
        values = seen.events.values(name)
        yield np.where(usable, values.take(last), np.nan) if len(values) else np.full(len(last), np.nan)
    yield np.where(usable, age_s, np.nan)


def value_codes(table: pa.Table, name: str) -> Ints:
    """Return a code of each value of a column, equal for equal numbers or texts; -1 where there is no value."""
    column = column_of(table, name)
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        values = np.asarray(column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), dtype=np.float64)
        codes, _ = pd.factorize(np.where(np.isfinite(values), values, np.nan), use_na_sentinel=True)
        return np.asarray(codes, dtype=np.int64)
    encoded = column.cast(pa.string()).combine_chunks().dictionary_encode()
    return np.asarray(encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False), dtype=np.int64)
