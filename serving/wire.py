"""What a request body is on the hot path: the rules of `serving.schemas`, decoded by msgspec in two microseconds.

A body that this decoder refuses is not refused yet: it is read again by the declared route, whose pydantic model names
every broken rule. So this may be stricter than `serving.schemas`, never laxer; a property test holds it to that. Rules
between two fields (arrival after departure) are checked on whole columns, by `first_broken`.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt
from msgspec import Meta

from flightdeck.core.clock import to_us
from serving.schemas import (
    AIRCRAFT,
    AIRLINE,
    AIRPORT,
    EARLIEST,
    LATEST,
    MAX_BLOCK,
    MAX_FLIGHTS,
    MAX_MILES,
    MAX_NUMBER,
    MAX_UNIT,
    UNIT,
    PredictionRequest,
)

Instant = Annotated[datetime, Meta(tz=True)]
Airport = Annotated[str, Meta(pattern=rf"^{AIRPORT}\Z")]
EARLIEST_US, LATEST_US = to_us(EARLIEST), to_us(LATEST)
MAX_BLOCK_US = int(MAX_BLOCK.total_seconds() * 1e6)


class Flight(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """A scheduled flight, as `serving.schemas.Flight` describes it."""

    carrier: Annotated[str, Meta(pattern=rf"^{AIRLINE}\Z")]
    flight_number: Annotated[int, Meta(ge=1, le=MAX_NUMBER)]
    origin: Airport
    dest: Airport
    scheduled_departure: Instant
    scheduled_arrival: Instant
    distance_miles: Annotated[int, Meta(ge=1, le=MAX_MILES)]
    tailnum: Annotated[str, Meta(pattern=rf"^{AIRCRAFT}\Z")] | None = None


class Ask(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """A question about some flights, as `serving.schemas.PredictionRequest` describes it."""

    surface: Literal["search", "itinerary", "alerts"]
    unit_id: Annotated[str, Meta(min_length=1, max_length=MAX_UNIT, pattern=rf"^{UNIT}\Z")]
    flights: Annotated[list[Flight], Meta(min_length=1, max_length=MAX_FLIGHTS)]
    request_timestamp: Instant | None = None


_decoder = msgspec.json.Decoder(Ask)


def decode(body: bytes | bytearray) -> Ask:
    """Return the question that a body asks.

    Raises
    ------
    msgspec.DecodeError, UnicodeDecodeError, RecursionError
        If it breaks a rule; the declared route says which.
    """
    ask = _decoder.decode(body)
    asked = ask.request_timestamp
    if asked is not None and not EARLIEST <= asked < LATEST:
        raise msgspec.ValidationError("request_timestamp is out of range")
    for flight in ask.flights:
        if flight.origin == flight.dest:
            raise msgspec.ValidationError("origin and dest differ")
    return ask


def first_broken(columns: dict[str, npt.NDArray[Any]]) -> npt.NDArray[np.bool_]:
    """Tell for each row whether its times break a rule: out of the years 2000 to 2099, or no or too long a flight.

    Parameters
    ----------
    columns
        `scheduled_departure_us` and `scheduled_arrival_us`, int64 of shape `(n_rows,)`.
    """
    departure_us, arrival_us = columns["scheduled_departure_us"], columns["scheduled_arrival_us"]
    block_us = arrival_us - departure_us
    broken = (block_us <= 0) | (block_us > MAX_BLOCK_US)
    broken |= (departure_us < EARLIEST_US) | (arrival_us >= LATEST_US)
    return np.asarray(broken | (departure_us >= LATEST_US) | (arrival_us < EARLIEST_US))


def items_of(asks: Sequence[Ask]) -> list[Flight]:
    """Return the flights of all questions, in order."""
    return [flight for ask in asks for flight in ask.flights]


def from_model(request: PredictionRequest) -> Ask:
    """Return what the declared route has validated as the hot path knows it."""
    return Ask(
        request.surface,
        request.unit_id,
        [Flight(**dict(flight)) for flight in request.flights],
        request.request_timestamp,
    )
