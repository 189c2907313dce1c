"""Reading online states at a time: all keys and windows of a view at once, by one binary search for the tails.

A few keys are read number by number instead (`state_read_few.py`), which is faster for them.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from flightdeck.core.clock import SECOND_US
from flightdeck.features.measures import finish
from flightdeck.features.state_layout import NEVER_US, Layout, as_floats, layout_of
from flightdeck.features.state_read_few import FEW, evaluate_few
from flightdeck.features.view import FeatureView, Latest, Windowed

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def evaluate(view: FeatureView, states: Sequence[bytes | None], at_us: int) -> tuple[Floats, Floats]:
    """Return the features of some keys at a time.

    Parameters
    ----------
    view
        Declaration.
    states
        Packed state of each key, None where there is none.
    at_us
        UTC microseconds; the caller guarantees that no applied event is newer.

    Returns
    -------
    values
        float64 of shape `(n_keys, n_features)` in the order of `view.columns`.
    ages_s
        Seconds since the key's last event, shape `(n_keys,)`, NaN where there was none.
    """
    if len(states) <= FEW:
        values, ages = evaluate_few(view, states, at_us)
        return np.array(values, dtype=np.float64).reshape(len(states), -1), np.array(ages, dtype=np.float64)
    return evaluate_many(view, states, at_us)


def evaluate_many(view: FeatureView, states: Sequence[bytes | None], at_us: int) -> tuple[Floats, Floats]:
    """Do what `evaluate` does, for all keys at once."""
    layout = layout_of(view)
    flat, starts = _flat(layout, states)
    last_us = flat[starts]
    ages_s = np.where(last_us == NEVER_US, np.nan, (at_us - last_us) / SECOND_US)
    if isinstance(view.compute, Windowed):
        return _windows(view, view.compute, layout, flat, starts, at_us), ages_s
    if isinstance(view.compute, Latest):
        return _latest(view, layout, flat, starts, at_us), ages_s
    there = flat[starts + 1] > 0
    totals = np.where(there, flat[np.where(there, starts + layout.n_head, 0)], 0)
    return totals.astype(np.float64)[:, None], ages_s


def _flat(layout: Layout, states: Sequence[bytes | None]) -> tuple[Ints, Ints]:
    """Return all states as one array and where each begins; a missing one is an empty one."""
    blank = _blank(layout)
    parts = [state or blank for state in states]
    sizes = np.array([len(part) for part in parts], dtype=np.int64) // 8
    return np.frombuffer(b"".join(parts), dtype=np.int64), np.cumsum(sizes) - sizes


def _blank(layout: Layout) -> bytes:
    return np.array([NEVER_US, *[0] * len(layout.tracks)], dtype=np.int64).tobytes()


def _windows(view: FeatureView, compute: Windowed, layout: Layout, flat: Ints, starts: Ints, at_us: int) -> Floats:
    tails_us = np.array(
        [
            (at_us - window_s * SECOND_US) // view.tiles_us[window_s] * view.tiles_us[window_s]
            for window_s in compute.windows_s
        ]
    )
    n_keys, n_windows = len(starts), len(tails_us)
    result = np.empty((n_keys, n_windows, len(compute.aggregates)), dtype=np.float64)
    track_starts, lengths = _tracks(layout, flat, starts)
    totals = {}
    begin, first, n_rows = track_starts[0], None, lengths[0]
    first = _rows_until(flat, begin, n_rows, tails_us)
    if layout.tracks[0].kind == "totals":
        for place, measure in enumerate(layout.measures, start=1):
            column = begin + place * n_rows
            head = np.where(n_rows > 0, flat[np.where(n_rows > 0, column + n_rows - 1, 0)], 0)
            tail = np.where(first > 0, flat[np.where(first > 0, column[:, None] + first - 1, 0)], 0)
            totals[measure] = head[:, None] - tail
    for number, aggregate in enumerate(compute.aggregates):
        if aggregate.kind in ("count", "sum", "mean", "share", "std"):
            result[:, :, number] = finish(aggregate, totals)
        elif aggregate.kind == "since_last":
            last_us = flat[starts]
            inside = (n_rows[:, None] - first) > 0
            result[:, :, number] = np.where(inside, ((at_us - last_us) / SECOND_US)[:, None], np.nan)
        else:
            place = layout.place(aggregate.kind, aggregate.column)
            begin_of, n_of = track_starts[place], lengths[place]
            result[:, :, number] = _one(aggregate.kind, aggregate.at_most, flat, begin_of, n_of, tails_us, view)
    return result.reshape(n_keys, n_windows * len(compute.aggregates))


def _one(kind: str, at_most: int, flat: Ints, begin: Ints, n_rows: Ints, tails_us: Ints, view: FeatureView) -> Floats:
    """Return min, max, distinct or last of every key and window."""
    if kind == "last":
        there = n_rows > 0
        created_us = np.where(there, flat[np.where(there, begin, 0)], NEVER_US)
        value = as_floats(flat[np.where(there, begin + 1, 0)])
        finest_us = min(view.tiles_us.values())
        inside = (-(-created_us // finest_us) * finest_us)[:, None] > tails_us
        return np.where(inside, value[:, None], np.nan)
    first = _rows_until(flat, begin, n_rows, tails_us)
    n_inside = n_rows[:, None] - first
    if kind == "distinct":
        counted: Floats = np.minimum(n_inside, at_most).astype(np.float64)
        return counted
    inside = n_inside > 0
    place = np.where(inside, (begin + n_rows)[:, None] + first, 0)
    found: Floats = np.where(inside, as_floats(flat[place]), np.nan)
    return found


def _latest(view: FeatureView, layout: Layout, flat: Ints, starts: Ints, at_us: int) -> Floats:
    n_columns = layout.tracks[0].n_columns
    there = flat[starts + 1] > 0
    begin = np.where(there, starts + layout.n_head, 0)
    created_us = np.where(there, flat[begin], NEVER_US)
    age_s = (at_us - created_us) / SECOND_US
    usable = there & (age_s <= view.ttl_s)
    picked = [as_floats(flat[np.where(there, begin + number, 0)]) for number in range(1, n_columns)]
    return np.stack([np.where(usable, values, np.nan) for values in (*picked, age_s)], axis=1)


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


def _rows_until(flat: Ints, begin: Ints, n_rows: Ints, tails_us: Ints) -> Ints:
    """Return how many rows of each key end at each tail or before, shape `(n_keys, n_windows)`."""
    low = np.zeros((len(begin), len(tails_us)), dtype=np.int64)
    high = np.broadcast_to(n_rows[:, None], low.shape).copy()
    base = begin[:, None]
    for _ in range(int(n_rows.max(initial=0)).bit_length()):
        middle = (low + high) >> 1
        is_open = low < high
        is_before = flat[np.where(is_open, base + middle, 0)] <= tails_us
        low = np.where(is_open & is_before, middle + 1, low)
        high = np.where(is_open & ~is_before, middle, high)
    return low
