"""Where a request stands among the events of its key: what every view of the offline join is read from.

Both sides are ordered by time once. The place of each moment that a request has, at its head and at each window's tail,
among all events of a stream is found once for all entities (`OrderedStream`, `time_index.py`). A request's place among
the events of its own key follows from that by whole numbers alone (`KeyedStream`), by a rank structure where keys are
few (`key_ranks.py`) and by a binary search elsewhere: there is no product of keys and times that could overflow.
"""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from flightdeck.features.entity_frame import EntityFrame, Keys, codes_among, stable_order
from flightdeck.features.key_ranks import KeyRanks
from flightdeck.features.measures import Measure, add_up, column_of, values_of
from flightdeck.features.time_index import TimeIndex

__all__ = ["EntityFrame", "KeyedStream", "OrderedStream", "in_order"]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class OrderedStream:
    """The events of a stream in order, and where the rows of a frame stand among them, keys apart.

    Parameters
    ----------
    table
        Events in order of (created, event id), each once (`in_order`).
    frame
        Rows to join to.
    """

    def __init__(self, table: pa.Table, frame: EntityFrame) -> None:
        self.table = table
        self.created_us: Ints = table["created_timestamp"].cast(pa.int64()).to_numpy()
        self._times = TimeIndex(self.created_us)
        self._frame = frame
        self._codes: dict[str, Ints] = {}
        self._head: Ints | None = None
        self._tails: dict[tuple[int, int], Ints] = {}
        self._summed: dict[Measure, Ints] = {}
        self._values: dict[str, Floats] = {}

    def __len__(self) -> int:
        return len(self.created_us)

    def codes(self, column: str) -> Ints:
        """Return the code that the frame has for each event's value, -1 where it has none."""
        if column not in self._codes:
            self._codes[column] = codes_among(self._frame.encoded(column)[1], column_of(self.table, column))
        return self._codes[column]

    def head(self) -> Ints:
        """Return how many events are seen at each moment of the frame."""
        if self._head is None:
            self._head = self._times.count_until(self._frame.seen_us[self._frame.moments[0]])
        return self._head

    def tail(self, window_us: int, tile_us: int) -> Ints:
        """Return how many events lie before the window of each moment of the frame."""
        if (window_us, tile_us) not in self._tails:
            tail_us = (self._frame.at_us[self._frame.moments[0]] - window_us) // tile_us * tile_us
            self._tails[window_us, tile_us] = self._times.count_until(tail_us)
        return self._tails[window_us, tile_us]

    def summed(self, measure: Measure) -> Ints:
        """Return a measure of each event."""
        if measure not in self._summed:
            self._summed[measure] = add_up(measure, self.table)
        return self._summed[measure]

    def values(self, column: str) -> Floats:
        """Return a column of the events as float64, NaN where there is no value."""
        if column not in self._values:
            self._values[column] = values_of(self.table, column)
        return self._values[column]


@dataclass
class KeyedStream:
    """The events of a stream ordered by (key, time), and the range of them that each question of `keys` sees."""

    keys: Keys
    stream: OrderedStream
    rows: Ints = field(init=False)
    key: Ints = field(init=False)
    end: Ints = field(init=False)
    _begins: dict[tuple[int, int], Ints] = field(default_factory=dict)
    _lengths: dict[tuple[int, int], Ints] = field(default_factory=dict)
    _totals: dict[Measure, tuple[Ints, Ints]] = field(default_factory=dict)
    _values: dict[str, Floats] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._key_in_time = key = self.keys.of_events(self.stream)
        known = np.flatnonzero(key >= 0) if (key < 0).any() else None
        key = key if known is None else key[known]
        order = stable_order(key, self.keys.n)
        self.rows = order if known is None else known[order]
        self.key = key.take(order)
        self.end = self.place(self.stream.head())

    @cached_property
    def start(self) -> Ints:
        """Return where the events of each question's key begin."""
        first = np.concatenate([[0], np.cumsum(np.bincount(self.key, minlength=self.keys.n))])
        return first.take(self.keys.key)

    @cached_property
    def _ranks(self) -> KeyRanks:
        return KeyRanks(self._key_in_time, self.keys.n)

    @cached_property
    def _places(self) -> Ints:
        return self.key * (len(self.stream) + 1) + self.rows + 1

    def place(self, until: Ints) -> Ints:
        """Return how many ordered events lie below each question: those of lower keys, and its own of `until`.

        Parameters
        ----------
        until
            Number of the stream's first events that each moment of the frame sees.
        """
        keys = self.keys
        if keys.n == 1 and len(self.rows) == len(self.stream):
            return until.take(keys.moment)
        if keys.are_few:
            return self._ranks.place(keys.key, until, keys.moment)
        asked = keys.key * (len(self.stream) + 1) + until.take(keys.moment)
        return np.searchsorted(self._places, asked, side="right")

    def begin(self, window_us: int, tile_us: int) -> Ints:
        """Return where each question's window begins."""
        if (window_us, tile_us) not in self._begins:
            begin = self.place(self.stream.tail(window_us, tile_us))
            self._begins[window_us, tile_us] = np.minimum(begin, self.end)
        return self._begins[window_us, tile_us]

    def length(self, window: tuple[int, int]) -> Ints:
        """Return the number of events of each question's window."""
        if window not in self._lengths:
            self._lengths[window] = self.end - self.begin(*window)
        return self._lengths[window]

    def total(self, measure: Measure, window: tuple[int, int]) -> Ints:
        """Return a measure's total over each question's window, wrapping around 2**64."""
        if measure.role == "events" or (measure.role == "known" and self._is_complete(measure.column)):
            return self.length(window)
        if measure not in self._totals:
            totals = running_totals(self.stream.summed(measure).take(self.rows))
            self._totals[measure] = totals, totals.take(self.end)
        totals, until_end = self._totals[measure]
        return until_end - totals.take(self.begin(*window))

    def values(self, column: str) -> Floats:
        """Return a column's values in order, NaN where there is none."""
        if column not in self._values:
            self._values[column] = self.stream.values(column)[self.rows]
        return self._values[column]

    def created_us(self, places: Ints) -> Ints:
        """Return when the events at some places were known; 0 where there are none at all."""
        return self.stream.created_us[self.rows[places]] if len(self.rows) else np.zeros(len(places), dtype=np.int64)

    def _is_complete(self, column: str) -> bool:
        values = column_of(self.stream.table, column)
        return bool(pa.types.is_integer(values.type) and not values.null_count)


def in_order(table: pa.Table) -> pa.Table:
    """Return events in order of (created, event id), each id once; a table that is so already is not touched.

    An event that is repeated has the same time: the log refuses an id with another content.
    """
    created_us = table["created_timestamp"].cast(pa.int64()).to_numpy()
    steps = np.diff(created_us)
    has_ids = "event_id" in table.column_names
    if not (steps < 0).any():
        if not has_ids or (steps > 0).all():
            return table
        ids = table["event_id"].combine_chunks()
        rises = pc.less(ids[:-1], ids[1:]).to_numpy(zero_copy_only=False)
        if (rises | (steps > 0)).all():
            return table
    if not has_ids:
        return table.sort_by("created_timestamp")
    ids = table["event_id"].combine_chunks()
    if pc.count_distinct(ids).as_py() < len(ids):
        rows = pa.table({"id": ids, "row": np.arange(len(ids))}).group_by("id").aggregate([("row", "min")])
        table = table.take(rows["row_min"].combine_chunks().sort())
    return table.sort_by([("created_timestamp", "ascending"), ("event_id", "ascending")])


def running_totals(values: Ints) -> Ints:
    """Return running totals that begin with 0, wrapping around 2**64."""
    totals = np.empty(len(values) + 1, dtype=np.int64)
    totals[0] = 0
    np.cumsum(values, dtype=np.int64, out=totals[1:])
    return totals
