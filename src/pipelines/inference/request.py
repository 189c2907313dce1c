"""From requested flights to request columns: the arrays that training calls its entity frame."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Protocol
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from flightdeck.core.clock import MINUTE_US, SECOND_US

NEW_YORK = ZoneInfo("America/New_York")
ORIGIN_ZONES: Mapping[str, ZoneInfo] = {"EWR": NEW_YORK, "JFK": NEW_YORK, "LGA": NEW_YORK}
DAY_S = 86_400
DAY_US = DAY_S * SECOND_US
_FIRST_S, _LAST_S = (int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) for year in (1999, 2102))
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


def request_columns(
    flights: Sequence[RequestedFlight], request_us: int | npt.NDArray[np.int64]
) -> dict[str, npt.NDArray[Any]]:
    """Return the request columns of `flights`, each of shape `(n_flights,)`, in their order.

    Parameters
    ----------
    flights
        Validated flights, departing and arriving in the years 2000 to 2099.
    request_us
        Time of the question, UTC microseconds; one for all, or one for each flight, shape `(n_flights,)`.

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
    departures = [flight.scheduled_departure for flight in flights]
    departure_us = _as_us(departures)
    columns: dict[str, npt.NDArray[Any]] = {name: np.array(values, dtype=object) for name, values in texts.items()}
    return columns | {
        "flight_number": np.array([flight.flight_number for flight in flights], dtype=np.int64),
        "scheduled_departure_us": departure_us,
        "scheduled_arrival_us": _as_us([flight.scheduled_arrival for flight in flights]),
        "request_us": np.full(len(flights), request_us, dtype=np.int64),
        "origin_utc_offset_min": _offsets_min(texts["origin"], departures, departure_us),
        "distance_miles": np.array([flight.distance_miles for flight in flights], dtype=np.int64),
    }


def has_unknown_origin(columns: Mapping[str, npt.NDArray[Any]]) -> list[bool]:
    """Tell for each row whether its origin's time zone is unknown, so that the client's offset was taken."""
    return [origin not in ORIGIN_ZONES for origin in columns["origin"].tolist()]


def flight_ids(columns: Mapping[str, npt.NDArray[Any]]) -> list[str]:
    """Return `<local date>:<carrier>:<flight number>:<origin>` of each row, as the event streams call the flight."""
    local_us = columns["scheduled_departure_us"] + columns["origin_utc_offset_min"] * MINUTE_US
    parts = zip(
        (local_us // DAY_US).tolist(),
        columns["carrier"].tolist(),
        columns["flight_number"].tolist(),
        columns["origin"].tolist(),
        strict=True,
    )
    return [f"{_day(day)}:{carrier}:{number}:{origin}" for day, carrier, number, origin in parts]


@lru_cache(maxsize=1024)
def _day(number: int) -> str:
    """Return the date of a day since the epoch."""
    return str(np.datetime64(number, "D"))


def _as_us(instants: Sequence[datetime]) -> npt.NDArray[np.int64]:
    """Return microseconds since the epoch, exactly: until the year 2100 they fit into the 53 bits of a float."""
    seconds = np.array([instant.timestamp() for instant in instants], dtype=np.float64)
    return np.rint(seconds * SECOND_US).astype(np.int64)


def _offsets_min(
    origins: Sequence[str], departures: Sequence[datetime], departure_us: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Return the UTC offset of each origin at departure, in minutes."""
    zones = [ORIGIN_ZONES.get(origin) for origin in origins]
    offsets_min = np.empty(len(zones), dtype=np.int64)
    for zone in set(zones):
        rows = [row for row, other in enumerate(zones) if other is zone]
        if zone is None:
            offsets_min[rows] = [(departures[row].utcoffset() or timedelta()) // _MINUTE for row in rows]
        else:
            changes_us, each_min = _transitions(zone)
            offsets_min[rows] = each_min[np.searchsorted(changes_us, departure_us[rows], side="right")]
    return offsets_min


@lru_cache
def _transitions(zone: ZoneInfo) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return when a zone changes its offset, UTC microseconds, and the offsets before, between and after, minutes."""

    def offset_min(at_s: int) -> int:
        return (datetime.fromtimestamp(at_s, zone).utcoffset() or timedelta()) // _MINUTE

    changes_us, offsets_min = [], [offset_min(_FIRST_S)]
    for day_s in range(_FIRST_S, _LAST_S, DAY_S):
        before, after = offsets_min[-1], offset_min(day_s + DAY_S)
        if before != after:
            low_s, high_s = day_s, day_s + DAY_S
            while high_s - low_s > 1:
                middle_s = (low_s + high_s) // 2
                low_s, high_s = (middle_s, high_s) if offset_min(middle_s) == before else (low_s, middle_s)
            changes_us.append(high_s * SECOND_US)
            offsets_min.append(after)
    return np.array(changes_us, dtype=np.int64), np.array(offsets_min, dtype=np.int64)
