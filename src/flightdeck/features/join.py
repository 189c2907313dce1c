"""The offline engine: a point-in-time join by prefix sums and binary search.

Events of a view are ordered by (entity key, knowledge time). A window is then the difference of two prefix sums at two
positions, each found by one binary search over a combined key-and-time number. Sums are int64 and divided once at the
end, so the result equals the online engine bit by bit. Cost: O((events + requests) log events) for each view.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from flightdeck.core.clock import SECOND_US
from flightdeck.core.errors import ContractViolation, FlightdeckError
from flightdeck.features.view import FeatureView, Latest, Windowed

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class EntityFrame:
    """The rows to join features to: entity columns and times, encoded once for all views.

    Parameters
    ----------
    columns
        Entity columns of strings, shape `(n_rows,)`; an empty or missing value means unknown.
    at_us
        Time of each row, UTC microseconds, shape `(n_rows,)`.
    known_until_us
        Only events known until then are seen (default: `at_us`), shape `(n_rows,)`.
    """

    def __init__(self, columns: Mapping[str, npt.NDArray[np.object_]], at_us: Ints, known_until_us: Ints | None = None):
        self.at_us = np.asarray(at_us, dtype=np.int64)
        self.seen_us = self.at_us if known_until_us is None else np.minimum(self.at_us, known_until_us)
        self._columns = columns
        self._encoded: dict[str, tuple[Ints, npt.NDArray[np.object_]]] = {}

    def __len__(self) -> int:
        return len(self.at_us)

    def encoded(self, column: str) -> tuple[Ints, npt.NDArray[np.object_]]:
        """Return codes (-1 where unknown) and the values that they stand for."""
        if column not in self._encoded:
            codes, uniques = pd.factorize(np.asarray(self._columns[column], dtype=object), use_na_sentinel=True)
            empty = np.flatnonzero(uniques == "")
            known = np.where(np.isin(codes, empty), -1, codes).astype(np.int64)
            self._encoded[column] = known, np.asarray(uniques, dtype=object)
        return self._encoded[column]


def point_in_time_join(view: FeatureView, events: Mapping[str, pa.Table], frame: EntityFrame) -> dict[str, Floats]:
    """Return the features of `view` for each row of `frame` as they were known at the row's time.

    Parameters
    ----------
    view
        Declaration.
    events
        Table of each of the view's streams, sorted by (`created_timestamp`, `event_id`).
    frame
        Rows to join to.

    Returns
    -------
    dict of str to array
        float64 of shape `(n_rows,)` for each of `view.columns`, in the row order of `frame`.

    Raises
    ------
    ContractViolation
        If a column to average holds nulls or fractions.
    FlightdeckError
        If keys times time span exceed 63 bits: join in partitions then.
    """
    index = _index(view, events, frame)
    if isinstance(view.compute, Windowed):
        values = _windows(view, view.compute, index, frame)
    elif isinstance(view.compute, Latest):
        values = _latest(view, view.compute, index, frame)
    else:
        values = [index.total("weight")]
    unknown = index.key < 0
    for column in values:
        column[unknown] = np.nan
    return dict(zip(view.columns, values, strict=True))


@dataclass
class _Index:
    """Events ordered by key and time, and each row's range in them."""

    key: Ints
    start: Ints
    end: Ints
    combined: Ints
    span: int
    first_us: int
    created_us: Ints
    measures: dict[str, Floats | Ints]

    def position(self, at_us: Ints) -> Ints:
        """Return how many ordered events lie up to `at_us` of the row's key, those of lower keys included."""
        relative = np.clip(at_us - self.first_us, -1, self.span - 2)
        return np.searchsorted(self.combined, self.key * self.span + relative + 1, side="right")

    def total(self, column: str) -> Floats:
        """Return the sum of a column from the key's first event to the row's time."""
        sums = _prefix_sums(self.measures[column])
        return (sums[self.end] - sums[self.start]).astype(np.float64)


def _index(view: FeatureView, events: Mapping[str, pa.Table], frame: EntityFrame) -> _Index:
    """Order the view's events by key and time and find each row's range."""
    tables = [_with_weight(events[name], 1 if i == 0 else -1) for i, name in enumerate(view.sources)]
    wanted = list(dict.fromkeys(["created_timestamp", *view.entity, *_measures(view)]))
    table = pa.concat_tables([t.select(wanted) for t in tables])
    created_us = table["created_timestamp"].cast(pa.int64()).to_numpy()
    row_key, event_key, n_keys = _keys(view, table, frame)
    keep = np.flatnonzero(event_key >= 0)
    order = keep[np.lexsort((created_us[keep], event_key[keep]))]
    first_us = int(created_us[order].min()) if len(order) else 0
    span = (int(created_us[order].max()) - first_us if len(order) else 0) + 3
    if (n_keys + 1) * span >= 2**63:
        raise FlightdeckError(
            f"joining {view.name}: {n_keys:,} keys over {span // SECOND_US:,} s do not fit one pass",
            next_step="join shorter periods and concatenate",
        )
    combined = event_key[order] * span + (created_us[order] - first_us) + 1
    values = {name: _whole(view, name, table, order) for name in _measures(view)}
    index = _Index(row_key, order[:0], order[:0], combined, span, first_us, created_us[order], values)
    index.start = index.position(np.full(len(frame), first_us - 1))
    index.end = index.position(frame.seen_us)
    return index


def _windows(view: FeatureView, compute: Windowed, index: _Index, frame: EntityFrame) -> list[Floats]:
    sums = {column: _prefix_sums(index.measures[column]) for column in compute.means}
    result: list[Floats] = []
    for window_s in compute.windows_s:
        tail_us = (frame.at_us - window_s * SECOND_US) // view.tile_us * view.tile_us
        begin = np.minimum(index.position(tail_us), index.end)
        count = (index.end - begin).astype(np.float64)
        result.append(count)
        with np.errstate(invalid="ignore"):
            result += [(sums[column][index.end] - sums[column][begin]) / count for column in compute.means]
    return result


def _latest(view: FeatureView, compute: Latest, index: _Index, frame: EntityFrame) -> list[Floats]:
    last = index.end - 1
    there = index.end > index.start
    safe = np.where(there, last, 0)
    created_us = index.created_us[safe] if len(index.created_us) else np.zeros(len(frame), dtype=np.int64)
    age_s = (frame.at_us - created_us) / SECOND_US
    usable = there & (age_s <= view.ttl_s)
    columns = [index.measures[name] for name in compute.columns]
    picked = [values[safe] if len(values) else np.full(len(frame), np.nan) for values in columns]
    return [np.where(usable, values, np.nan) for values in (*picked, age_s)]


def _keys(view: FeatureView, table: pa.Table, frame: EntityFrame) -> tuple[Ints, Ints, int]:
    """Return each row's key, each event's key (-1 where no row asks for it) and the number of keys."""
    row_key = np.zeros(len(frame), dtype=np.int64)
    event_key = np.zeros(table.num_rows, dtype=np.int64)
    n_keys = 1
    for column in view.entity:
        row_codes, values = frame.encoded(column)
        event_codes = _codes_of(table[column], values)
        row_key = np.where((row_key < 0) | (row_codes < 0), -1, row_key * len(values) + row_codes)
        event_key = np.where((event_key < 0) | (event_codes < 0), -1, event_key * len(values) + event_codes)
        n_keys *= max(1, len(values))
    return row_key, event_key, n_keys


def _codes_of(column: pa.ChunkedArray, values: npt.NDArray[np.object_]) -> Ints:
    """Return the code of each event's value among `values`, -1 where it is not one of them."""
    encoded = column.combine_chunks().dictionary_encode()
    place = {value: code for code, value in enumerate(values)}
    table = np.array([place.get(value, -1) for value in encoded.dictionary.to_pylist()] + [-1], dtype=np.int64)
    indices = encoded.indices.fill_null(len(table) - 1).to_numpy(zero_copy_only=False)
    return np.asarray(table[indices], dtype=np.int64)


def _measures(view: FeatureView) -> tuple[str, ...]:
    if isinstance(view.compute, Windowed):
        return view.compute.means
    return view.compute.columns if isinstance(view.compute, Latest) else ("weight",)


def _with_weight(table: pa.Table, weight: int) -> pa.Table:
    return table.append_column("weight", pa.array(np.full(table.num_rows, weight, dtype=np.int64)))


def _whole(view: FeatureView, name: str, table: pa.Table, order: Ints) -> Floats | Ints:
    """Return a measure in order: float64 for `Latest`, int64 for anything that is summed."""
    column = table[name]
    if isinstance(view.compute, Latest):
        return np.asarray(column.cast(pa.float64()).to_numpy()[order], dtype=np.float64)
    if not pa.types.is_integer(column.type) or column.null_count:
        raise ContractViolation(
            f"feature view {view.name}: column {name!r} is {column.type} with {column.null_count} nulls; sums need "
            "whole numbers without nulls",
            next_step="scale the column to a whole-number unit at ingestion",
        )
    return np.asarray(column.to_numpy()[order], dtype=np.int64)


def _prefix_sums(values: Floats | Ints) -> Ints:
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(values, dtype=np.int64)])
