"""The event streams of the use case.

`created_timestamp` is when an event becomes known (flights.md, conventions): a departure and an arrival 2 minutes after
they happen; a cancellation 2 minutes after the scheduled departure (an assumption: the source has no cancellation
time); a weather row of hour H at H + 60 min, because its values are maxima over the whole hour. A `scheduled` event
enters the log when the departure falls due (ADR 0005). Diverted flights never emit `arrived`.
"""

import pyarrow as pa

from flightdeck.events.stream import INSTANT, Stream
from pipelines.features.views import WEATHER_MEASURES

FLIGHT = {"flight_id": pa.string(), "carrier": pa.string(), "origin": pa.string(), "dest": pa.string()}
NIGHT_S = 8 * 3600  # no departures between 24:00 and 05:00 local, and a quiet hour on either side

SCHEDULED = Stream(
    "scheduled",
    {
        **FLIGHT,
        "flight": pa.int64(),
        "tailnum": pa.string(),
        "scheduled_departure": INSTANT,
        "scheduled_arrival": INSTANT,
        "origin_utc_offset_min": pa.int64(),
        "distance_miles": pa.int64(),
    },
    slo_s=NIGHT_S,
)
DEPARTED = Stream(
    "departed",
    {**FLIGHT, "tailnum": pa.string(), "dep_delay_min": pa.int64(), "is_late": pa.int64()},
    slo_s=NIGHT_S,
)
ARRIVED = Stream(
    "arrived",
    {**FLIGHT, "tailnum": pa.string(), "arr_delay_min": pa.int64(), "is_late": pa.int64()},
    slo_s=NIGHT_S,
)
CANCELLED = Stream("cancelled", FLIGHT, slo_s=7 * 86_400)
WEATHER_OBSERVED = Stream(
    "weather_observed",
    {"origin": pa.string(), **dict.fromkeys(WEATHER_MEASURES, pa.float64())},
    slo_s=2 * 3600,
)
STREAMS = (SCHEDULED, DEPARTED, ARRIVED, CANCELLED, WEATHER_OBSERVED)
