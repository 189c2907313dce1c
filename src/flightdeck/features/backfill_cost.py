"""What filling views from the log would cost: counted in the log, timed and sized by stated rates."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from flightdeck.core.clock import SECOND_US
from flightdeck.events.log import EventLog
from flightdeck.features.view import FeatureView, Latest, OpenItems

EVENTS_A_SECOND = 1_000_000  # read and applied to one view; a year of flights: 1.9 million in 2.8 s, 20 views
SECONDS_A_VIEW = 0.05  # opening its streams
ROWS_A_WINDOW = 62
STATE_BYTES = 64  # of a key without rows: key, header


@dataclass(frozen=True)
class BackfillCost:
    """Cost of filling one view.

    Parameters
    ----------
    n_events
        Events to read.
    n_keys
        Entities that get a state.
    seconds
        Estimated time on one core.
    n_bytes
        Estimated size of the states, an upper bound.
    """

    n_events: int
    n_keys: int
    seconds: float
    n_bytes: int


def backfill_cost(log: EventLog, view: FeatureView, until_us: int) -> BackfillCost:
    """Return what filling a view with the log's events until a time would cost.

    Takes as long as reading the key columns of the events that matter.

    Raises
    ------
    NotFoundError
        If the log lacks a stream.
    """
    is_gauge = isinstance(view.compute, OpenItems)
    after_us = None if is_gauge else until_us - view.look_back_s * SECOND_US - 1
    columns = list(view.entity) or ["event_id"]
    parts = [
        log.read(stream, columns=columns, created_after_us=after_us, created_until_us=until_us)
        for stream in view.sources
    ]
    n_events = sum(part.num_rows for part in parts)
    sizes = _events_by_key(pa.concat_tables(parts), view.entity)
    rows = sizes.clip(max=ROWS_A_WINDOW * len(view.tiles_us)) if view.tiles_us else np.ones(len(sizes))
    n_bytes = int(STATE_BYTES * len(sizes) + 8 * _row_width(view) * rows.sum())
    return BackfillCost(n_events, len(sizes), n_events / EVENTS_A_SECOND + SECONDS_A_VIEW, n_bytes)


def total_cost(costs: Sequence[BackfillCost]) -> BackfillCost:
    """Return the sum of some costs."""
    return BackfillCost(
        sum(cost.n_events for cost in costs),
        sum(cost.n_keys for cost in costs),
        sum(cost.seconds for cost in costs),
        sum(cost.n_bytes for cost in costs),
    )


def _events_by_key(events: pa.Table, entity: tuple[str, ...]) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    if not entity:
        return np.array([events.num_rows] if events.num_rows else [], dtype=np.int64)
    counted = events.group_by(list(entity)).aggregate([([], "count_all")])
    return np.asarray(counted["count_all"].to_numpy(), dtype=np.int64)


def _row_width(view: FeatureView) -> int:
    """Return about how many numbers a row of the state has."""
    if isinstance(view.compute, OpenItems):
        return 1
    if isinstance(view.compute, Latest):
        return 1 + len(view.compute.columns)
    return 1 + 2 * len(view.compute.aggregates)
