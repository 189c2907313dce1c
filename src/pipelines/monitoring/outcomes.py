"""What a flight's outcome is, and when it is known: the streams in the words of the label join. Pure."""

from collections.abc import Iterable

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from flightdeck.core.clock import MINUTE_US

KEY = "flight_id"
LATE_US = 15 * MINUTE_US
REPORT_LAG_US = 2 * MINUTE_US  # an arrival becomes known 2 minutes after it happens (flights.md, conventions)


def expected_flights(scheduled: pa.Table, flights: Iterable[str]) -> pd.DataFrame:
    """Return when each of `flights` became known and when silence about it means late, cancelled or diverted.

    An arrival less than 15 minutes late is known 17 minutes after the scheduled arrival at the latest.
    """
    rows = _of(scheduled, flights)
    due_us = rows["scheduled_arrival"].cast(pa.int64()).to_numpy() + LATE_US + REPORT_LAG_US
    return pd.DataFrame({KEY: rows[KEY].to_numpy(zero_copy_only=False), "known_us": _known_us(rows), "due_us": due_us})


def on_time_arrivals(arrived: pa.Table, flights: Iterable[str]) -> pd.DataFrame:
    """Return when each on-time arrival among `flights` became known."""
    return _outcomes(_of(arrived.filter(pc.equal(arrived["is_late"], 0)), flights))


def late_or_cancelled(arrived: pa.Table, cancelled: pa.Table, flights: Iterable[str]) -> pd.DataFrame:
    """Return when each late arrival and each cancellation among `flights` became known."""
    late = _of(arrived.filter(pc.equal(arrived["is_late"], 1)), flights)
    return pd.concat([_outcomes(late), _outcomes(_of(cancelled, flights))], ignore_index=True)


def _outcomes(rows: pa.Table) -> pd.DataFrame:
    return pd.DataFrame({KEY: rows[KEY].to_numpy(zero_copy_only=False), "known_us": _known_us(rows)})


def _of(events: pa.Table, flights: Iterable[str]) -> pa.Table:
    return events.filter(pc.is_in(events[KEY], value_set=pa.array(sorted(set(flights)), pa.string())))


def _known_us(rows: pa.Table) -> "pd.Series[int]":
    return pd.Series(rows["created_timestamp"].cast(pa.int64()).to_numpy(), dtype="int64")
