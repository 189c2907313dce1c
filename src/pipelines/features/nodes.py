"""Request-time features: pure column functions, arrays in, arrays out, array API operations only.

Training and the server call these very functions; nobody holds a second copy. Shapes are `(n_rows,)` throughout; times
are int64 UTC microseconds; results are float64.
"""

from typing import Any

from flightdeck.core.clock import MINUTE_US
from flightdeck.core.columns import Output, column_function

Array = Any  # an array of any library that follows the array API standard
DAY_MIN = 1440
EPOCH_WEEKDAY = 3  # 1 January 1970 was a Thursday; Monday is 0


@column_function(
    Output("departure_minute_of_day", "minutes after local midnight at the origin", 0, DAY_MIN - 1),
    Output("departure_day_of_week", "0 Monday to 6 Sunday, local at the origin", 0, 6),
)
def local_departure(scheduled_departure_us: Array, origin_utc_offset_min: Array) -> tuple[Array, Array]:
    """Return minute of day and day of week of the scheduled departure on the origin's clock."""
    xp = scheduled_departure_us.__array_namespace__()
    local_min = xp.floor_divide(scheduled_departure_us, MINUTE_US) + origin_utc_offset_min
    weekday = xp.remainder(xp.floor_divide(local_min, DAY_MIN) + EPOCH_WEEKDAY, 7)
    return xp.astype(xp.remainder(local_min, DAY_MIN), xp.float64), xp.astype(weekday, xp.float64)


@column_function(Output("horizon_min", "minutes from request to scheduled departure", -1e6, 1e6))
def lead_time(scheduled_departure_us: Array, request_us: Array) -> tuple[Array]:
    """Return how long before the scheduled departure the question is asked."""
    xp = scheduled_departure_us.__array_namespace__()
    return (xp.astype(scheduled_departure_us - request_us, xp.float64) / MINUTE_US,)


@column_function(Output("block_min", "scheduled minutes from gate to gate", -1e6, 1e6))
def block_time(scheduled_departure_us: Array, scheduled_arrival_us: Array) -> tuple[Array]:
    """Return the scheduled block time."""
    xp = scheduled_departure_us.__array_namespace__()
    return (xp.astype(scheduled_arrival_us - scheduled_departure_us, xp.float64) / MINUTE_US,)


@column_function(Output("scheduled_speed_mph", "distance over scheduled block time", 0, 1e9))
def scheduled_speed(distance_miles: Array, block_min: Array) -> tuple[Array]:
    """Return how fast the schedule wants the flight to be: a padded schedule forgives a late departure."""
    xp = block_min.__array_namespace__()
    hours = xp.where(block_min >= 1.0, block_min, xp.ones_like(block_min)) / 60.0
    return (xp.astype(distance_miles, xp.float64) / hours,)


@column_function(
    Output("aircraft_turnaround_min", "minutes from the aircraft's last known arrival to the departure", -1e6, 1e6),
    Output("aircraft_in_air", "1 if the aircraft's last known departure has no known arrival yet, else 0", 0, 1),
)
def aircraft_rotation(
    horizon_min: Array, aircraft_departed__age_s: Array, aircraft_arrived__age_s: Array
) -> tuple[Array, Array]:
    """Return the aircraft's slack and whether it is still under way; NaN where nothing is known of it."""
    xp = horizon_min.__array_namespace__()
    turnaround = aircraft_arrived__age_s / 60.0 + horizon_min
    no_arrival = xp.isnan(aircraft_arrived__age_s)
    in_air = (aircraft_departed__age_s < aircraft_arrived__age_s) | no_arrival
    nan = xp.full_like(horizon_min, float("nan"))
    return turnaround, xp.where(xp.isnan(aircraft_departed__age_s), nan, xp.astype(in_air, xp.float64))


@column_function(Output("origin_overdue_ratio", "overdue departures per departure of the last hour", -1e6, 1e6))
def origin_backlog(origin_overdue__open: Array, origin_departures__count_60m: Array) -> tuple[Array]:
    """Return how many departures wait for each one that left in the last hour."""
    return (origin_overdue__open / (origin_departures__count_60m + 1.0),)
