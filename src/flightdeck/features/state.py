"""The online state of one entity key: how it is packed, advanced by events and read at a time.

Windowed state is one row a non-empty tile: end of the tile, count, sums (all int64). Latest state is the last event's
time and values. Open-items state is a running total. Every state begins with the time of the last event, so that its
age can be told.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from flightdeck.core.clock import SECOND_US
from flightdeck.features.view import FeatureView, Latest, Windowed

NAN = float("nan")
KEY_SEPARATOR = "\x1f"  # the unit separator: no code, name or number holds one
Row = tuple[int, tuple[float, ...]]


def advance(view: FeatureView, state: bytes | None, events: Sequence[Row]) -> bytes:
    """Return the state after `events`.

    Parameters
    ----------
    view
        Declaration.
    state
        Packed state before, None for a new key.
    events
        (`created_us`, measures) in order of knowledge: whole numbers for sums, floats for `Latest`, (+1,) or (-1,) for
        open items.
    """
    last_us = events[-1][0]
    if isinstance(view.compute, Latest):
        return np.int64(last_us).tobytes() + np.asarray(events[-1][1], dtype=np.float64).tobytes()
    if isinstance(view.compute, Windowed):
        return np.int64(last_us).tobytes() + _with_tiles(view, state, events).tobytes()
    total = (int(np.frombuffer(state, dtype=np.int64)[1]) if state else 0) + sum(int(row[1][0]) for row in events)
    before_us = int(np.frombuffer(state, dtype=np.int64)[0]) if state else 0
    return np.array([max(last_us, before_us), total], dtype=np.int64).tobytes()


def evaluate(view: FeatureView, state: bytes | None, at_us: int) -> tuple[list[float], float]:
    """Return the view's features at `at_us`, in the order of `view.columns`, and the last event's age in seconds.

    The caller guarantees that no applied event is newer than `at_us`.
    """
    last_us = int(np.frombuffer(state, dtype=np.int64, count=1)[0]) if state else None
    age_s = (at_us - last_us) / SECOND_US if last_us is not None else NAN
    if isinstance(view.compute, Windowed):
        return _windows(view, view.compute, state, at_us), age_s
    if isinstance(view.compute, Latest):
        if state is None or not age_s <= view.ttl_s:
            return [NAN] * len(view.columns), age_s
        return [*np.frombuffer(state, dtype=np.float64, offset=8).tolist(), age_s], age_s
    return [float(np.frombuffer(state, dtype=np.int64)[1]) if state else 0.0], age_s


def _with_tiles(view: FeatureView, state: bytes | None, events: Sequence[Row]) -> npt.NDArray[np.int64]:
    """Add events to their tiles and drop the tiles that no window can reach any more."""
    tile_us = view.tile_us
    tiles = {row[0]: row[1:] for row in _rows(view, state).tolist()} if state else {}
    for created_us, measures in events:
        end_us = -(-created_us // tile_us) * tile_us
        before = tiles.get(end_us)
        step = [1, *(int(value) for value in measures)]
        tiles[end_us] = step if before is None else [a + b for a, b in zip(before, step, strict=True)]
    oldest_us = events[-1][0] - view.look_back_s * SECOND_US
    rows = [[end_us, *sums] for end_us, sums in sorted(tiles.items()) if end_us > oldest_us]
    return np.array(rows, dtype=np.int64)


def _windows(view: FeatureView, compute: Windowed, state: bytes | None, at_us: int) -> list[float]:
    rows = _rows(view, state)
    result: list[float] = []
    for window_s in compute.windows_s:
        tail_us = (at_us - window_s * SECOND_US) // view.tile_us * view.tile_us
        first = int(np.searchsorted(rows[:, 0], tail_us, side="right"))
        sums = rows[first:, 1:].sum(axis=0)
        count = float(sums[0])
        result.append(count)
        result += [float(total) / count if count else NAN for total in sums[1:].tolist()]
    return result


def _rows(view: FeatureView, state: bytes | None) -> npt.NDArray[np.int64]:
    means = view.compute.means if isinstance(view.compute, Windowed) else ()
    width = 2 + len(means)
    return (
        np.frombuffer(state, dtype=np.int64, offset=8).reshape(-1, width) if state else np.empty((0, width), np.int64)
    )
