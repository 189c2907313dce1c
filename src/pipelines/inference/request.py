"""From requested flights to request columns: the arrays that training calls its entity frame."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from flightdeck.core.clock import MINUTE_US, from_us, to_us

NEW_YORK = ZoneInfo("America/New_York")
ORIGIN_ZONES: Mapping[str, ZoneInfo] = {"EWR": NEW_YORK, "JFK": NEW_YORK, "LGA": NEW_YORK}
_MINUTE = timedelta(minutes=1)


class RequestedFlight(Protocol):
    """A validated flight of a request."""

    @property
    def carrier(self) -> str:
        """Two-letter code of the airline."""
        ...

    @property
    def flight_number(self) -> int:
        """Number of the flight."""
        ...

    @property
    def origin(self) -> str:
        """Three-letter code of the airport of departure."""
        ...

    @property
    def dest(self) -> str:
        """Three-letter code of the airport of arrival."""
        ...

    @property
    def scheduled_departure(self) -> datetime:
        """Timezone-aware scheduled departure."""
        ...

    @property
    def scheduled_arrival(self) -> datetime:
        """Timezone-aware scheduled arrival."""
        ...

    @property
    def distance_miles(self) -> int:
        """Distance in miles."""
        ...

    @property
    def tailnum(self) -> str | None:
        """Registration of the aircraft, if it is known."""
        ...


def request_columns(flights: Sequence[RequestedFlight], request_us: int) -> dict[str, npt.NDArray[Any]]:
    """Return the request columns of `flights`, each of shape `(n_flights,)`, in their order.

    Parameters
    ----------
    flights
        Validated flights.
    request_us
        Time of the question, UTC microseconds.

    Notes
    -----
    The origin's UTC offset comes from its time zone at departure. For an origin that is not in `ORIGIN_ZONES` it is
    the offset that the client wrote the departure with: `has_unknown_origin` tells which rows that concerns.
    """
    texts = {
        "carrier": [flight.carrier for flight in flights],
        "origin": [flight.origin for flight in flights],
        "dest": [flight.dest for flight in flights],
        "tailnum": [flight.tailnum or "" for flight in flights],
    }
    numbers = {
        "flight_number": [flight.flight_number for flight in flights],
        "scheduled_departure_us": [to_us(flight.scheduled_departure) for flight in flights],
        "scheduled_arrival_us": [to_us(flight.scheduled_arrival) for flight in flights],
        "request_us": [request_us] * len(flights),
        "origin_utc_offset_min": [_offset_min(flight) for flight in flights],
        "distance_miles": [flight.distance_miles for flight in flights],
    }
    columns: dict[str, npt.NDArray[Any]] = {name: np.array(values, dtype=object) for name, values in texts.items()}
    return columns | {name: np.array(values, dtype=np.int64) for name, values in numbers.items()}


def has_unknown_origin(columns: Mapping[str, npt.NDArray[Any]]) -> list[bool]:
    """Tell for each row whether its origin's time zone is unknown, so that the client's offset was taken."""
    return [origin not in ORIGIN_ZONES for origin in columns["origin"]]


def flight_ids(columns: Mapping[str, npt.NDArray[Any]]) -> list[str]:
    """Return `<local date>:<carrier>:<flight number>:<origin>` of each row, as the event streams call the flight."""
    local_us = columns["scheduled_departure_us"] + columns["origin_utc_offset_min"] * MINUTE_US
    days = [from_us(us).date().isoformat() for us in local_us.tolist()]
    parts = zip(days, columns["carrier"], columns["flight_number"].tolist(), columns["origin"], strict=True)
    return [f"{day}:{carrier}:{number}:{origin}" for day, carrier, number, origin in parts]


def _offset_min(flight: RequestedFlight) -> int:
    zone = ORIGIN_ZONES.get(flight.origin)
    departure = flight.scheduled_departure if zone is None else flight.scheduled_departure.astimezone(zone)
    return (departure.utcoffset() or timedelta()) // _MINUTE
