"""A view that was just declared, on real events: what a notebook cell or `kedro features preview` shows in a moment.

Only recent events and the columns that the view reads are loaded (an open-items view counts from the beginning, so its
streams are read whole, two or three columns of them).
"""

import numpy as np
import pandas as pd
import pyarrow as pa

from flightdeck.core.clock import SECOND_US
from flightdeck.core.errors import ConfigError, nearest, some
from flightdeck.events.log import EventLog
from flightdeck.features.join import EntityFrame, point_in_time_joins
from flightdeck.features.view import DAY_S, FeatureView, OpenItems

FALLBACK_US = 2**62


def preview(view: FeatureView, log: EventLog, n_rows: int = 10) -> pd.DataFrame:
    """Return a view's features at moments and for entities of the newest events.

    Parameters
    ----------
    view
        Declaration to look at.
    log
        Event log.
    n_rows
        Most rows to show; they are spread over the last day of the source, or the view's look-back if shorter.

    Returns
    -------
    DataFrame
        One row a moment, oldest first: the entity columns, `at` (UTC), and the features under their short names.

    Raises
    ------
    ConfigError
        If a stream lacks a column that the view reads, or `n_rows` is not positive.
    NotFoundError
        If the log lacks a stream.

    Examples
    --------
    In a notebook::

        preview(FeatureView("tried", ("origin",), "departed", windowed(count(), over="1h"), owner="me"), log)
    """
    if n_rows < 1:
        raise ConfigError(f"previewing {view.name}: n_rows is {n_rows}; it is at least 1")
    require_columns(view, log)
    period_s = min(DAY_S, view.look_back_s)
    after_us = (
        None if isinstance(view.compute, OpenItems) else _newest_us(log, view.source) - 2 * view.look_back_s * SECOND_US
    )
    events = {
        stream: log.read(
            stream,
            columns=[*(view.event_columns if stream == view.source else view.entity), "created_timestamp", "event_id"],
            created_after_us=after_us,
        )
        for stream in view.sources
    }
    source = events[view.source]
    created_us = source["created_timestamp"].cast(pa.int64()).to_numpy()
    rows = np.arange(len(created_us))
    if len(rows):
        rows = rows[created_us > created_us[-1] - period_s * SECOND_US]
    for name in view.entity:
        is_known = source[name].cast(pa.string()).fill_null("").to_numpy(zero_copy_only=False) != ""
        rows = rows[is_known[rows]]
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(n_rows, len(rows))).astype(np.int64))]
    at_us = created_us[rows]
    picked = source.take(pa.array(rows))
    columns = {name: picked[name].cast(pa.string()).to_numpy(zero_copy_only=False) for name in view.entity}
    joined = point_in_time_joins([view], events, EntityFrame(columns, at_us))
    features = {name.removeprefix(f"{view.name}__"): values for name, values in joined.items()}
    return pd.DataFrame({**columns, "at": pd.to_datetime(at_us, unit="us", utc=True), **features})


def require_columns(view: FeatureView, log: EventLog) -> None:
    """Check that the streams have every column that a view reads.

    Raises
    ------
    ConfigError
        If one is missing; the message names the nearest.
    NotFoundError
        If the log lacks a stream.
    """
    missing = []
    for stream in view.sources:
        there = log.columns(stream)
        wanted = view.event_columns if stream == view.source else view.entity
        missing += [f"{stream} has no column {name!r}{nearest(name, there)}" for name in wanted if name not in there]
    if missing:
        raise ConfigError(
            f"reading the events of {view.name}: {some(missing)}",
            next_step=f"correct the declaration; {view.source} has {some(log.columns(view.source), 30)}",
        )


def _newest_us(log: EventLog, stream: str) -> int:
    """Return when the last commit's newest event was known, from the commit's statistics where it has them."""
    newest_us = log.commit(stream, log.version(stream).version).newest_us
    if newest_us is None:
        created = log.read(stream, columns=["created_timestamp"])["created_timestamp"].cast(pa.int64())
        return int(created[-1].as_py()) if len(created) else FALLBACK_US
    return newest_us
