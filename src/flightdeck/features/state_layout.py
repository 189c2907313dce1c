"""How the online state of one entity key is packed: a head and tracks, all int64, each track a sorted list of rows.

One state is `[last_us, length of each track, then the tracks]`; a track stores its columns one after the other. Every
question about a window is then one binary search for its tail:

- `totals`: (end of tile, running total of each measure). A window's total is the last row minus the row at the tail.
- `min`, `max` of a column: (end of tile, value), only values that no later one beats: the first row after the tail.
- `distinct` of a column: (end of the tile that saw the value last, hash): how many rows lie after the tail.
- `last` of a column, and the row of `Latest`: (created, values..., event id in words of 8 bytes, for ties).
- `open`: the running total of a gauge.

Floating values are kept as the 64 bits that they are. The end of a tile is that of the view's finest tile.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt

from flightdeck.features.measures import Measure, sum_measures
from flightdeck.features.view import FeatureView, Latest, Windowed

Ints = npt.NDArray[np.int64]
KEY_SEPARATOR = "\x1f"  # the unit separator: codes, names and numbers hold none
NEVER_US = -(1 << 62)
TrackKind = Literal["totals", "min", "max", "distinct", "last", "open"]


@dataclass(frozen=True)
class Track:
    """One track of a view's states.

    Parameters
    ----------
    kind
        What its rows are.
    columns
        Columns of the events: one for min, max, distinct and last, several for the row of `Latest`.
    n_columns
        Columns of a row, the end of its tile included (of a `last` track: created and values).
    at_most
        Bound of a `distinct` track.
    """

    kind: TrackKind
    columns: tuple[str, ...]
    n_columns: int
    at_most: int = 0


@dataclass(frozen=True)
class Layout:
    """Tracks of a view and the measures of its totals."""

    tracks: tuple[Track, ...]
    measures: tuple[Measure, ...]

    @property
    def n_head(self) -> int:
        """Numbers before the first track."""
        return 1 + len(self.tracks)

    def place(self, kind: str, column: str) -> int:
        """Return the place of the track of a column."""
        return next(i for i, t in enumerate(self.tracks) if t.kind == kind and column in t.columns)


@lru_cache(maxsize=1024)
def layout_of(view: FeatureView) -> Layout:
    """Return the layout of a view's states."""
    if isinstance(view.compute, Latest):
        return Layout((Track("last", view.compute.columns, 1 + len(view.compute.columns)),), ())
    if not isinstance(view.compute, Windowed):
        return Layout((Track("open", (), 1),), ())
    measures = sum_measures(view)
    tracks = {("totals", ""): Track("totals", (), 1 + len(measures))}
    for aggregate in view.compute.aggregates:
        known = tracks.get((aggregate.kind, aggregate.column))
        if aggregate.kind in ("min", "max", "last", "distinct"):
            at_most = max(aggregate.at_most, known.at_most if known else 0)
            tracks[aggregate.kind, aggregate.column] = Track(aggregate.kind, (aggregate.column,), 2, at_most)
    return Layout(tuple(tracks.values()), measures)


@dataclass
class Ragged:
    """Rows of many keys, key after key: one array a column.

    Parameters
    ----------
    key
        Place of each row's key, ascending, shape `(n_rows,)`.
    columns
        int64 arrays of shape `(n_rows,)`.
    """

    key: Ints
    columns: list[Ints]

    def take(self, which: npt.NDArray[np.bool_] | Ints) -> "Ragged":
        """Return some rows."""
        return Ragged(self.key[which], [column[which] for column in self.columns])


def unpack(layout: Layout, states: Sequence[bytes | None]) -> tuple[Ints, list[Ragged]]:
    """Return `last_us` of each key (`NEVER_US` where there is no state) and the rows of each track.

    A `last` track's columns are followed by the words of the event id: columns are then of one length a key, see
    `flightdeck.features.state_update`; here it is returned as one flat column.
    """
    n_keys = len(states)
    blank = np.zeros(layout.n_head, dtype=np.int64)
    blank[0] = NEVER_US
    nothing = blank.tobytes()
    parts = [state or nothing for state in states]
    flat = np.frombuffer(b"".join(parts), dtype=np.int64)
    sizes = np.fromiter(map(len, parts), dtype=np.int64, count=n_keys) // 8
    starts = np.cumsum(sizes) - sizes
    last_us = flat[starts] if n_keys else np.empty(0, dtype=np.int64)
    position = starts + layout.n_head
    tracks = []
    for place, track in enumerate(layout.tracks):
        n_rows = flat[starts + 1 + place] if n_keys else np.empty(0, dtype=np.int64)
        if track.kind == "last":
            length = np.where(n_rows > 0, track.n_columns + n_rows, 0)
            key, index = spread(position, length)
            tracks.append(Ragged(key, [flat[index]]))
        else:
            key, index = spread(position, n_rows)
            width = n_rows[key]
            tracks.append(Ragged(key, [flat[index + column * width] for column in range(track.n_columns)]))
            length = track.n_columns * n_rows
        position = position + length
    return last_us, tracks


def pack(layout: Layout, last_us: Ints, tracks: Sequence[Ragged]) -> list[bytes]:
    """Return the packed state of each key; the inverse of `unpack`."""
    n_keys = len(last_us)
    counts = [np.bincount(rows.key, minlength=n_keys).astype(np.int64) for rows in tracks]
    sizes = np.full(n_keys, layout.n_head, dtype=np.int64)
    for track, count in zip(layout.tracks, counts, strict=True):
        sizes += count if track.kind == "last" else count * track.n_columns
    starts = np.cumsum(sizes) - sizes
    flat = np.empty(int(sizes.sum()), dtype=np.int64)
    flat[starts] = last_us
    position = starts + layout.n_head
    for place, (track, count, rows) in enumerate(zip(layout.tracks, counts, tracks, strict=True)):
        is_last = track.kind == "last"
        flat[starts + 1 + place] = np.maximum(count - track.n_columns, 0) if is_last else count
        _, index = spread(position, count)
        width = count[rows.key]
        for number, column in enumerate(rows.columns):
            flat[index + number * width] = column
        position = position + (count if is_last else count * track.n_columns)
    data = flat.tobytes()
    edges = (starts * 8).tolist()
    return [data[start:end] for start, end in itertools.pairwise([*edges, len(data)])]


def spread(starts: Ints, lengths: Ints) -> tuple[Ints, Ints]:
    """Return for ranges `start, start + length` the place of each element's range, and the element.

    Examples
    --------
    >>> [part.tolist() for part in spread(np.array([10, 20]), np.array([2, 1]))]
    [[0, 0, 1], [10, 11, 20]]
    """
    place = np.repeat(np.arange(len(lengths)), lengths)
    before = np.cumsum(lengths) - lengths
    return place, np.arange(len(place)) + (starts - before)[place]


def entity_keys(parts: Sequence[Sequence[str] | npt.NDArray[np.object_]]) -> list[str]:
    r"""Return the entity key of each row: its parts joined by the unit separator.

    Where a part holds the separator itself, the lengths of the parts follow: different parts never make one key.

    Parameters
    ----------
    parts
        The entity's columns, at least one, each of shape `(n_rows,)`.

    Examples
    --------
    >>> entity_keys([["EWR", "JFK"], ["UA", "DL"]])
    ['EWR\x1fUA', 'JFK\x1fDL']
    >>> len(set(entity_keys([["x\x1fy", "x"], ["z", "y\x1fz"]])))
    2
    """
    if len(parts) == 1:
        return list(parts[0])
    keys = list(map(KEY_SEPARATOR.join, zip(*parts, strict=True)))
    n_inside = len(parts) - 1
    if "".join(keys).count(KEY_SEPARATOR) == len(keys) * n_inside:
        return keys
    return [
        key if key.count(KEY_SEPARATOR) == n_inside else KEY_SEPARATOR.join([key, *map(str, map(len, row))])
        for key, row in zip(keys, zip(*parts, strict=True), strict=True)
    ]


def split_key(key: str, n_parts: int) -> list[str] | None:
    r"""Return the parts of an entity key; None where no parts make this key. The inverse of `entity_keys`.

    Examples
    --------
    >>> (key,) = entity_keys([["x\x1fy"], ["z"]])
    >>> split_key(key, 2), split_key("EWR\x1fUA", 2), split_key("EWR", 2)
    (['x\x1fy', 'z'], ['EWR', 'UA'], None)
    """
    parts = key.split(KEY_SEPARATOR)
    if n_parts == 1:
        return [key]
    if len(parts) != n_parts:
        ends = [0, *itertools.accumulate(int(length) + 1 if length.isdecimal() else 0 for length in parts[-n_parts:])]
        parts = [key[start : end - 1] for start, end in itertools.pairwise(ends)]
    return parts if len(parts) == n_parts and entity_keys([[part] for part in parts]) == [key] else None


def as_bits(values: npt.NDArray[np.float64]) -> Ints:
    """Return the bits of floating values as int64."""
    return np.ascontiguousarray(values, dtype=np.float64).view(np.int64)


def as_floats(bits: Ints) -> npt.NDArray[np.float64]:
    """Return the floating values of their bits."""
    return np.ascontiguousarray(bits).view(np.float64)
