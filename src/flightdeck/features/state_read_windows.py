"""Reading online states of one windowed view of any aggregates: all keys and windows at once."""

import numpy as np
import numpy.typing as npt

from flightdeck.core.clock import SECOND_US
from flightdeck.features.measures import finish
from flightdeck.features.state_layout import NEVER_US, Layout, as_floats, layout_of
from flightdeck.features.view import FeatureView, Windowed

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Windows:
    """One windowed view; a `state_read_together.Group`.

    Parameters
    ----------
    place
        Its place among the views of the reader.
    column
        The place of its first column.
    view, compute
        Declaration and what it computes.
    """

    def __init__(self, place: int, column: int, view: FeatureView, compute: Windowed) -> None:
        self._place = place
        self._columns = slice(column, column + len(view.columns))
        self._view = view
        self._compute = compute

    def write(self, flat: Ints, starts: Ints, at_us: Ints, values: Floats) -> None:
        """Write the features; see `Group`."""
        found = _windows(self._view, self._compute, flat, starts[self._place], at_us)
        values[self._columns] = found.reshape(found.shape[0], self._columns.stop - self._columns.start).T


def rows_until(flat: Ints, begin: Ints, n_rows: Ints, tails_us: Ints) -> Ints:
    """Return how many of the `n_rows` ascending numbers from `begin` on are at most `tails_us`; shapes broadcast."""
    before = begin - 1
    found = np.zeros(np.broadcast(begin, tails_us).shape, dtype=np.int64)
    for bit in reversed(range(int(n_rows.max(initial=0)).bit_length())):
        probe = np.minimum(found + (1 << bit), n_rows)
        found = np.where(flat.take(before + probe) <= tails_us, probe, found)
    return found


def _windows(view: FeatureView, compute: Windowed, flat: Ints, starts: Ints, at_us: Ints) -> Floats:
    """Return float64 of shape `(n_keys, n_windows, n_aggregates)`."""
    layout = layout_of(view)
    windows_us = np.array(compute.windows_s) * SECOND_US
    tiles_us = np.array([view.tiles_us[window_s] for window_s in compute.windows_s])
    tails_us = (at_us[:, None] - windows_us) // tiles_us * tiles_us
    result = np.empty((len(starts), len(windows_us), len(compute.aggregates)), dtype=np.float64)
    track_starts, lengths = _tracks(layout, flat, starts)
    totals = {}
    begin, n_rows = track_starts[0], lengths[0]
    first = rows_until(flat, begin[:, None], n_rows[:, None], tails_us)
    for place, measure in enumerate(layout.measures, start=1):
        column = begin + place * n_rows
        head = np.where(n_rows > 0, flat[np.where(n_rows > 0, column + n_rows - 1, 0)], 0)
        tail = np.where(first > 0, flat[np.where(first > 0, column[:, None] + first - 1, 0)], 0)
        totals[measure] = head[:, None] - tail
    for number, aggregate in enumerate(compute.aggregates):
        if aggregate.kind in ("count", "sum", "mean", "share", "std"):
            result[:, :, number] = finish(aggregate, totals)
        elif aggregate.kind == "since_last":
            inside = (n_rows[:, None] - first) > 0
            result[:, :, number] = np.where(inside, ((at_us - flat[starts]) / SECOND_US)[:, None], np.nan)
        else:
            place = layout.place(aggregate.kind, aggregate.column)
            begin_of, n_of = track_starts[place], lengths[place]
            result[:, :, number] = _one(aggregate.kind, aggregate.at_most, flat, begin_of, n_of, tails_us, view)
    return result


def _one(kind: str, at_most: int, flat: Ints, begin: Ints, n_rows: Ints, tails_us: Ints, view: FeatureView) -> Floats:
    """Return min, max, distinct or last of every key and window."""
    if kind == "last":
        there = n_rows > 0
        created_us = np.where(there, flat[np.where(there, begin, 0)], NEVER_US)
        value = as_floats(flat[np.where(there, begin + 1, 0)])
        finest_us = min(view.tiles_us.values())
        inside = (-(-created_us // finest_us) * finest_us)[:, None] > tails_us
        return np.where(inside, value[:, None], np.nan)
    first = rows_until(flat, begin[:, None], n_rows[:, None], tails_us)
    n_inside = n_rows[:, None] - first
    if kind == "distinct":
        counted: Floats = np.minimum(n_inside, at_most).astype(np.float64)
        return counted
    inside = n_inside > 0
    place = np.where(inside, (begin + n_rows)[:, None] + first, 0)
    found: Floats = np.where(inside, as_floats(flat[place]), np.nan)
    return found


def _tracks(layout: Layout, flat: Ints, starts: Ints) -> tuple[list[Ints], list[Ints]]:
    """Return where each track begins and how many rows it has, for each key."""
    begins, lengths = [], []
    position = starts + layout.n_head
    for place, track in enumerate(layout.tracks):
        n_rows = flat[starts + 1 + place]
        begins.append(position)
        lengths.append(n_rows)
        if track.kind == "last":
            position = position + np.where(n_rows > 0, track.n_columns + n_rows, 0)
        else:
            position = position + track.n_columns * n_rows
    return begins, lengths
