"""From airport wall clocks to exact UTC (flights.md, section 1: the verified recipe).

A departure is the scheduled hour in UTC plus minutes plus delay. An arrival is read on the destination's clock, maybe
of another day: of the three candidate days the one whose elapsed time is nearest to the usual block time is right
(largest residual over the year: 98 minutes, so the day is never ambiguous).
"""

import numpy as np
import numpy.typing as npt
import pandas as pd

from flightdeck.core.clock import MINUTE_US

Micros = npt.NDArray[np.int64]
DAY_MIN = 1440
GROUND_MIN = 50.0
MILES_PER_MIN = 7.6


def clock_minutes(hhmm: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return minutes after local midnight of `hhmm` clock readings, shape `(n,)`; 2400 gives 1440, NaN stays.

    Examples
    --------
    >>> clock_minutes(np.array([0.0, 517.0, 2400.0])).tolist()
    [0.0, 317.0, 1440.0]
    """
    return hhmm // 100 * 60 + hhmm % 100


def utc_offset_min(at_us: Micros, zone: str) -> npt.NDArray[np.int64]:
    """Return the offset of local time from UTC in minutes at each instant, shape `(n,)`; negative west of Greenwich."""
    local = pd.DatetimeIndex(at_us.astype("datetime64[us]")).tz_localize("UTC").tz_convert(zone).tz_localize(None)
    local_us = local.to_numpy().astype("datetime64[us]").astype(np.int64)
    return np.asarray((local_us - at_us) // MINUTE_US, dtype=np.int64)


def arrival_us(
    departure_us: Micros,
    arrival_hhmm: npt.NDArray[np.float64],
    distance_miles: npt.NDArray[np.float64],
    zones: npt.NDArray[np.object_],
) -> Micros:
    """Return the scheduled arrival in UTC microseconds, shape `(n,)`.

    Parameters
    ----------
    departure_us
        Scheduled departure, UTC microseconds, shape `(n,)`.
    arrival_hhmm
        Scheduled arrival on the destination's clock, shape `(n,)`.
    distance_miles
        Great-circle distance, shape `(n,)`.
    zones
        IANA time zone of each destination, shape `(n,)`.
    """
    usual_min = GROUND_MIN + distance_miles / MILES_PER_MIN
    result = np.zeros(len(departure_us), dtype=np.int64)
    for zone in pd.unique(zones):
        rows = np.flatnonzero(zones == zone)
        candidates = np.stack([_on_day(departure_us[rows], arrival_hhmm[rows], str(zone), d) for d in (-1, 0, 1)])
        elapsed_min = (candidates - departure_us[rows]) / MINUTE_US
        best = np.abs(elapsed_min - usual_min[rows]).argmin(axis=0)
        result[rows] = np.take_along_axis(candidates, best[None, :], axis=0)[0]
    return result


def _on_day(departure_us: Micros, hhmm: npt.NDArray[np.float64], zone: str, days: int) -> Micros:
    """Return the instant of a clock reading on the destination's date of departure plus `days`."""
    departed = pd.DatetimeIndex(departure_us.astype("datetime64[us]")).tz_localize("UTC").tz_convert(zone)
    minutes = clock_minutes(hhmm) + days * DAY_MIN
    naive = departed.tz_localize(None).normalize() + pd.to_timedelta(minutes, unit="m")
    aware = naive.tz_localize(zone, ambiguous=np.zeros(len(naive), dtype=bool), nonexistent="shift_forward")
    return np.asarray(aware.tz_convert("UTC").tz_localize(None).to_numpy().astype("datetime64[us]").astype(np.int64))
