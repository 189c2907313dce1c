"""What the HTTP interface takes and gives, with units, ranges and examples. Strict: nothing is coerced or ignored."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

import msgspec
from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

SURFACES = ("search", "itinerary", "alerts")
MAX_FLIGHTS, MAX_UNIT, MAX_NUMBER, MAX_MILES = 500, 128, 9999, 12_500
AIRLINE, AIRPORT, AIRCRAFT, UNIT = "[A-Z0-9]{2}", "[A-Z]{3}", "[A-Z0-9-]{1,8}", r"[^\x00-\x1f\x7f]+"
MAX_BLOCK = timedelta(hours=48)
EARLIEST, LATEST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
_TO_THE_MINUTE = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d)(Z|[+-]\d\d:?\d\d)", re.ASCII)


def _instant(value: object) -> datetime:
    """Read RFC 3339 text as the hot path does, seconds optional; what a number counts would be a guess."""
    if isinstance(value, datetime):
        return value
    short = _TO_THE_MINUTE.fullmatch(value) if isinstance(value, str) else None
    try:
        instant: datetime = msgspec.convert(
            f"{short[1]}:00{short[2]}" if short else value, Annotated[datetime, msgspec.Meta(tz=True)]
        )
    except msgspec.ValidationError:
        raise ValueError("a timestamp is ISO 8601 text with a UTC offset, such as 2013-09-12T17:05:00-04:00") from None
    return instant


Instant = Annotated[AwareDatetime, BeforeValidator(_instant), Field(strict=False, ge=EARLIEST, lt=LATEST)]
Airport = Annotated[str, Field(pattern=f"^{AIRPORT}$")]


class Refusing(BaseModel):
    """Strict and frozen; an unknown field is a mistake."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Flight(Refusing):
    """A scheduled flight. Airports, airlines and aircraft that training never saw are answered and flagged."""

    carrier: Annotated[str, Field(pattern=f"^{AIRLINE}$", description="IATA code of the airline", examples=["UA"])]
    flight_number: Annotated[int, Field(ge=1, le=MAX_NUMBER, examples=[1545])]
    origin: Annotated[Airport, Field(description="IATA code of the airport of departure", examples=["EWR"])]
    dest: Annotated[Airport, Field(description="IATA code of the airport of arrival", examples=["IAH"])]
    scheduled_departure: Annotated[
        Instant,
        Field(description="ISO 8601 with UTC offset, years 2000 to 2099", examples=["2013-09-12T17:05:00-04:00"]),
    ]
    scheduled_arrival: Annotated[
        Instant,
        Field(
            description="ISO 8601 with UTC offset; after the departure, at most 48 h",
            examples=["2013-09-12T20:13:00-05:00"],
        ),
    ]
    distance_miles: Annotated[
        int, Field(ge=1, le=MAX_MILES, description="Great-circle distance, miles", examples=[1400])
    ]
    tailnum: Annotated[
        str | None,
        Field(pattern=f"^{AIRCRAFT}$", description="Registration of the aircraft, if known", examples=["N14228"]),
    ] = None

    @model_validator(mode="after")
    def _check_flight(self) -> "Flight":
        if not timedelta() < self.scheduled_arrival - self.scheduled_departure <= MAX_BLOCK:
            raise ValueError("scheduled_arrival lies after scheduled_departure, by at most 48 h")
        if self.origin == self.dest:
            raise ValueError("origin and dest differ")
        return self


class PredictionRequest(Refusing):
    """A question about one to 500 flights, on behalf of one unit. Of a repeated JSON key the last value counts."""

    surface: Annotated[
        Literal["search", "itinerary", "alerts"],
        Field(description="Where the answer is shown; decides which thresholds apply", examples=["search"]),
    ]
    unit_id: Annotated[
        str,
        Field(
            min_length=1,
            max_length=MAX_UNIT,
            pattern=f"^{UNIT}$",
            description="What is assigned to an arm, such as a traveller: the same id always meets the same arm. "
            "Its UTF-8 bytes count, nothing is normalised.",
            examples=["traveller-4711"],
        ),
    ]
    flights: Annotated[list[Flight], Field(min_length=1, max_length=MAX_FLIGHTS)]
    request_timestamp: Annotated[
        Instant | None,
        Field(
            description="Time of the question in event time. Required where the service runs on event time "
            "(FLIGHTDECK_CLOCK=event), refused elsewhere.",
        ),
    ] = None


Mode = Literal["model", "fallback", "rules", "refused"]


class Prediction(BaseModel):
    """The answer for one flight, in the order of the request."""

    flight_id: Annotated[str, Field(description="<local date>:<carrier>:<number>:<origin>")]
    probability: Annotated[
        float | None,
        Field(ge=0, le=1, description="Probability of arriving 15 minutes late or more, or not at all"),
    ]
    decision: Annotated[str | None, Field(description="What the surface's thresholds make of it")]
    mode: Annotated[Mode, Field(description="Which rung of the ladder answered")]
    reason: Annotated[
        str | None,
        Field(description="Why it is not the best possible answer, as who:why parts joined by '; '; null if it is"),
    ]
    arm: Annotated[
        str,
        Field(
            description="Arm of the unit: `champion`, `canary` or `<experiment>:<arm>`, after `<segment>/` "
            "inside a segment",
            examples=["champion"],
        ),
    ]
    model_version: Annotated[int | None, Field(description="Version whose bundle answered; null when refused")]
    feature_ages_s: Annotated[
        dict[str, float | None],
        Field(description="Seconds since the last event behind each feature view; null: none seen, empty: none read"),
    ]
    features_known_until: Annotated[
        str | None,
        Field(description="Watermark: the features reflect every event known until then and no later one (ISO 8601)"),
    ]
    feature_offset: Annotated[
        str | None,
        Field(description="The part of the event streams that the features reflect", examples=["arrived@2 departed@3"]),
    ]


class PredictionAnswer(BaseModel):
    """All answers of a request. Each is in the prediction log before it is sent."""

    request_id: Annotated[
        str, Field(description="X-Request-ID as sent (8 to 64 letters, digits, hyphens), else a new one")
    ]
    surface: str
    predictions: list[Prediction]


class Violation(BaseModel):
    """One broken rule; what was sent is never repeated, and neither is the name of an unknown field."""

    where: Annotated[str, Field(examples=["flights.0.carrier"])]
    rule: Annotated[str, Field(examples=["Input should be a valid integer"])]


class Problem(BaseModel):
    """Why there is no answer, and what to do."""

    code: Annotated[str, Field(examples=["invalid_request"])]
    message: str
    next_step: str
    violations: list[Violation]


class ErrorAnswer(BaseModel):
    """Every error has this form."""

    error: Problem
