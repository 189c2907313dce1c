"""Reading online states of several views of a kind with the same few array operations, however many views there are.

An array operation costs a microsecond before it does anything: twenty views of a request are read in one go, not in
twenty. Each group writes the rows of its features into one array of shape `(n_columns, n_rows)`.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from flightdeck.core.clock import SECOND_US
from flightdeck.features.aggregates import MAX_EVENTS, Aggregate
from flightdeck.features.measures import ADDED, require_few
from flightdeck.features.state_layout import NEVER_US, as_floats
from flightdeck.features.state_read_few import plan_of
from flightdeck.features.state_read_windows import rows_until
from flightdeck.features.view import FeatureView, Windowed

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Member = tuple[int, int, FeatureView]  # place among the views, place of its first column, declaration


class Group(Protocol):
    """Some of the views of a reader."""

    def write(self, flat: Ints, starts: Ints, at_us: Ints, values: Floats) -> None:
        """Write the features of these views.

        Parameters
        ----------
        flat
            All states, one after the other; zeros follow.
        starts
            Where each view's and row's state begins, shape `(n_views, n_rows)`, all views of the reader.
        at_us
            UTC microseconds, shape `(n_rows,)`, or `(1,)` for all rows.
        values
            Where to write, shape `(n_columns, n_rows)`, all columns of the reader.
        """


class PlainWindows:
    """Windows of nothing but counts, means and shares in whole units: one search for all tails."""

    def __init__(self, members: Sequence[Member]) -> None:
        views: list[int] = []
        windows_us, counts, ratios = [], [], []
        totals: dict[tuple[int, int], int] = {}  # window and column of the state
        for place, column, view in members:
            plan = plan_of(view)
            for window in plan.windows_us:
                for known, total in plan.pairs:
                    of_known = totals.setdefault((len(views), known), len(totals))
                    if total:
                        ratios.append((column, of_known, totals.setdefault((len(views), total), len(totals))))
                    else:
                        counts.append((column, of_known))
                    column += 1
                views.append(place)
                windows_us.append(window)
        self._views = np.array(views)
        self._window_us, self._tile_us = np.array(windows_us, dtype=np.int64).T[:, :, None]
        self._window_of, measure = np.array(list(totals), dtype=np.int64).T
        self._measure = measure[:, None]
        added = [next((a.column for a in _aggregates(view) if a.kind in ADDED), None) for _, _, view in members]
        of_window = [name for name, (_, _, view) in zip(added, members, strict=True) for _ in plan_of(view).windows_us]
        self._added = [(place, name) for place, name in enumerate(of_window) if name is not None]
        self._counts = np.array(counts, dtype=np.int64).reshape(-1, 2).T
        self._ratios = np.array(ratios, dtype=np.int64).reshape(-1, 3).T

    def write(self, flat: Ints, starts: Ints, at_us: Ints, values: Floats) -> None:
        """Write the features; see `Group`."""
        length = starts.take(self._views, axis=0) + 1  # where each state says how many rows it has; the first follows
        n_rows = flat.take(length)
        first = rows_until(flat, length + 1, n_rows, (at_us - self._window_us) // self._tile_us * self._tile_us)
        n_events = flat.take(length + 2 * n_rows)  # events are the first that is added up
        if n_events.max(initial=0) >= MAX_EVENTS:
            n_events = n_events - flat.take(length + n_rows + first) * (first > 0)
            for place, name in self._added:
                require_few(name, int(n_events[place].max(initial=0)))
        n_rows, first = n_rows.take(self._window_of, axis=0), first.take(self._window_of, axis=0)
        before = length.take(self._window_of, axis=0) + self._measure * n_rows
        totals = flat.take(before + n_rows)  # no rows: the number of rows, 0
        totals -= flat.take(before + first) * (first > 0)
        columns, of = self._counts
        values[columns] = totals.take(of, axis=0)
        columns, known, total = self._ratios
        with np.errstate(invalid="ignore", divide="ignore"):
            values[columns] = totals.take(total, axis=0) / totals.take(known, axis=0)


def _aggregates(view: FeatureView) -> tuple[Aggregate, ...]:
    return view.compute.aggregates if isinstance(view.compute, Windowed) else ()


class Latests:
    """Latest values and their age."""

    def __init__(self, members: Sequence[Member]) -> None:
        self._views = np.array([place for place, _, _ in members])
        self._ttl_s = np.array([[view.ttl_s] for _, _, view in members])
        self._ages = np.array([column + len(view.columns) - 1 for _, column, view in members])
        picked = [
            (column + n, number, n)
            for number, (_, column, view) in enumerate(members)
            for n in range(len(view.columns) - 1)
        ]
        self._columns, self._of, self._offset = np.array(picked, dtype=np.int64).T

    def write(self, flat: Ints, starts: Ints, at_us: Ints, values: Floats) -> None:
        """Write the features; see `Group`."""
        begin = starts[self._views] + 2
        there = flat[begin - 1] > 0
        age_s = (at_us - np.where(there, flat[begin], NEVER_US)) / SECOND_US
        is_usable = there & (age_s <= self._ttl_s)
        values[self._ages] = np.where(is_usable, age_s, np.nan)
        found = as_floats(flat[begin[self._of] + (self._offset + 1)[:, None]])
        values[self._columns] = np.where(is_usable[self._of], found, np.nan)


class OpenGauges:
    """Open items: one number each."""

    def __init__(self, members: Sequence[Member]) -> None:
        self._views = np.array([place for place, _, _ in members])
        self._columns = np.array([column for _, column, _ in members])

    def write(self, flat: Ints, starts: Ints, at_us: Ints, values: Floats) -> None:
        """Write the features; see `Group`."""
        begin = starts[self._views]
        values[self._columns] = np.where(flat[begin + 1] > 0, flat[begin + 2], 0)
