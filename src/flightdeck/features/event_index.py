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

from flightdeck.features.entity_frame import Codes, EntityFrame, Keys, codes_among, stable_order
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
        self._codes: dict[str, Codes] = {}
        self._head: Ints | None = None
        self._tails: dict[tuple[int, int], Ints] = {}
        self._summed: dict[Measure, Ints] = {}
        self._values: dict[str, Floats] = {}
        self._is_complete: dict[str, bool] = {}

    def __len__(self) -> int:
        return len(self.created_us)

    def codes(self, column: str) -> Codes:
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

    def is_complete(self, column: str) -> bool:
        """Tell whether every event has a value, as can be seen without looking at the values."""
        if column not in self._is_complete:
            values = column_of(self.table, column)
            self._is_complete[column] = pa.types.is_integer(values.type) and not values.null_count
        return self._is_complete[column]


@dataclass
class KeyedStream:
    """The events of a stream ordered by (key, time), and what is computed of them once for all questions of `keys`."""

    keys: Keys
    stream: OrderedStream
    rows: Ints = field(init=False)
    _totals: dict[Measure, Ints] = field(default_factory=dict)
    _values: dict[str, Floats] = field(default_factory=dict)
    _last_known: dict[str, Ints] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._key_in_time = key = self.keys.of_events(self.stream)
        known = np.flatnonzero(key >= 0) if (key < 0).any() else None
        order = stable_order(key if known is None else key[known], self.keys.n)
        self.rows = order if known is None else known[order]

    @cached_property
    def key(self) -> Codes:
        """Return the key of each event, in their order."""
        return self._key_in_time.take(self.rows)

    @cached_property
    def first(self) -> Ints:
        """Return where the events of each key begin."""
        return running_totals(np.bincount(self._key_in_time + 1, minlength=self.keys.n + 1)[1:])

    @cached_property
    def _ranks(self) -> KeyRanks:
        return KeyRanks(self._key_in_time, self.keys.n)

    @cached_property
    def _places(self) -> Ints:
        places = self.key.astype(np.int64) * (len(self.stream) + 1)
        places += self.rows
        places += 1
        return places

    def place(self, until: Ints, part: slice) -> Ints:
        """Return how many ordered events lie below some questions: those of lower keys, and their own of `until`.

        Parameters
        ----------
        until
            Number of the stream's first events that each moment of the frame sees.
        part
            Which questions.
        """
        keys = self.keys
        seen = until.take(keys.moment[part])
        if keys.n == 1 and len(self.rows) == len(self.stream):
            return seen
        if keys.are_few:
            return self._ranks.place(keys.key[part], seen)
        seen += keys.key[part] * (len(self.stream) + 1)
        return np.searchsorted(self._places, seen, side="right")

    def totals(self, measure: Measure) -> Ints:
        """Return running totals of a measure, wrapping around 2**64."""
        if measure not in self._totals:
            self._totals[measure] = running_totals(self.stream.summed(measure).take(self.rows))
        return self._totals[measure]

    def values(self, column: str) -> Floats:
        """Return a column's values in order, NaN where there is none."""
        if column not in self._values:
            self._values[column] = self.stream.values(column).take(self.rows)
        return self._values[column]

    def last_known(self, column: str) -> Ints:
        """Return for each event the place of the last one, itself included, that has a value; -1 where none has."""
        if column not in self._last_known:
            values = self.values(column)
            known = np.where(np.isnan(values), -1, np.arange(len(values)))
            self._last_known[column] = np.maximum.accumulate(known)
        return self._last_known[column]

    def created_us(self, places: Ints) -> Ints:
        """Return when the events at some places were known; 0 where there are none at all."""
        if not len(self.rows):
            return np.zeros(len(places), dtype=np.int64)
        return self.stream.created_us.take(self.rows.take(places))


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
