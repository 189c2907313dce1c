"""Two decoders of one body: what msgspec takes pydantic takes, with equal values, and nobody is left without answer."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from flightdeck.core.clock import to_us
from pipelines.inference.request import request_columns
from serving.schemas import PredictionRequest
from serving.wire import Ask, decode, first_broken, from_model
from tests.serving.worker import Asked, application
from tests.serving.world import FLIGHT, World, ask

REFUSALS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def hot(body: bytes) -> Ask | None:
    """Return what the hot path makes of a body, its column rules included; None if it hands it on."""
    try:
        asked = decode(body)
    except REFUSALS:
        return None
    columns = request_columns(asked.flights, 0)
    return None if first_broken(columns).any() else asked


def declared(body: bytes) -> Ask | None:
    """Return what the declared route makes of a body; None if it refuses it."""
    try:
        return from_model(PredictionRequest.model_validate_json(body))
    except ValidationError:
        return None


DATES = st.sampled_from(
    ["2013-09-12", "2000-01-01", "1999-12-31", "2099-12-31", "2100-01-01", "2012-02-29", "2013-02-29", "0001-01-01",
     "9999-12-31", "2013-9-1", "2013-13-01", "20130912"]
)  # fmt: skip
TIMES = st.sampled_from(
    ["00:00", "10:05", "23:59", "10:05:00", "23:59:59", "23:59:60", "24:00:00", "10:05:00.5", "10:05:00.123456",
     "10:05:00.1234567", "10:05:00,5", "10", "1005", "10:05:00."]
)  # fmt: skip
ZONES = st.sampled_from(
    ["Z", "z", "+00:00", "-04:00", "-0400", "+14:00", "-23:59", "+23:59", "+24:00", "-04", "", " Z"]
)
STAMPS = st.builds(lambda d, sep, t, z: d + sep + t + z, DATES, st.sampled_from("Tt_ "), TIMES, ZONES)
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 20_000),
    st.sampled_from(
        [1.0, 1e2, 1.5, -0.0, 10**30, "", "UA", "ua", "EWR", "EWR\n", "ÄÖÜ", "N1-", "N1\u0000", "١٢", "search"]
    ),
    STAMPS,
    st.lists(st.just(FLIGHT), max_size=2),
)
FIELDS = ("carrier", "flight_number", "origin", "dest", "scheduled_departure", "scheduled_arrival", "distance_miles",
          "tailnum", "more")  # fmt: skip


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Return a valid body with up to three fields replaced, left out or added, written in one of several ways."""
    body: dict[str, Any] = ask(draw(st.integers(0, 3)))
    for _ in range(draw(st.integers(0, 3))):
        value = draw(ODD)
        if body["flights"] and draw(st.booleans()):
            flight = draw(st.sampled_from(body["flights"]))
            name = draw(st.sampled_from(FIELDS))
        else:
            flight, name = body, draw(st.sampled_from(["surface", "unit_id", "request_timestamp", "more"]))
        if draw(st.integers(0, 9)) == 0:
            flight.pop(name, None)
        else:
            flight[name] = value
    text = json.dumps(
        body, ensure_ascii=draw(st.booleans()), separators=draw(st.sampled_from([(",", ":"), (" , ", " : ")]))
    )
    return draw(st.sampled_from([b"", b" \n", b"\xef\xbb\xbf"])) + text.encode("utf-8", "surrogatepass")


@settings(max_examples=400, deadline=None)
@given(bodies())
def test_what_the_hot_path_takes_the_declared_route_takes_with_equal_values(body: bytes) -> None:
    fast = hot(body)
    if fast is not None:
        assert declared(body) == fast


@settings(max_examples=300, deadline=None)
@given(STAMPS)
def test_a_timestamp_means_the_same_on_both_roads(stamp: str) -> None:
    body = json.dumps(ask(scheduled_departure=stamp)).encode()
    late = json.dumps(ask(at=stamp)).encode()
    for content in (body, late):
        fast, slow = hot(content), declared(content)
        assert fast is None or fast == slow


@pytest.mark.parametrize(
    ("stamp", "utc"),
    [
        ("2013-09-12T12:00:00Z", datetime(2013, 9, 12, 12, tzinfo=UTC)),
        ("2013-09-12T12:00Z", datetime(2013, 9, 12, 12, tzinfo=UTC)),
        ("2013-09-12T08:00-04:00", datetime(2013, 9, 12, 12, tzinfo=UTC)),
        ("2013-09-12T08:00-0400", datetime(2013, 9, 12, 12, tzinfo=UTC)),
        ("2013-09-12T12:00:00.25+00:00", datetime(2013, 9, 12, 12, 0, 0, 250_000, tzinfo=UTC)),
        ("2000-01-01T00:00:00Z", datetime(2000, 1, 1, tzinfo=UTC)),
        ("2099-12-31T23:59:59.999999Z", datetime(2099, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)),
        ("1999-12-31T23:59:59.999999Z", None),
        ("2100-01-01T00:00:00Z", None),
        ("0001-01-01T00:00:00+23:59", None),
        ("9999-12-31T23:59:59-23:59", None),
        ("2013-09-12T12:00:00", None),
        ("2013-09-12", None),
        ("1379000000", None),
    ],
)
def test_timestamps_in_all_forms(stamp: str, utc: datetime | None) -> None:
    body = json.dumps(ask(at=stamp)).encode()
    found = declared(body)
    assert (None if found is None else found.request_timestamp) == utc
    assert hot(body) in (None, found)


@pytest.mark.parametrize("year", [1, 1969, 1999, 2000, 2050, 2099, 2100, 2255, 9999])
def test_flights_of_edge_years_are_judged_alike(year: int) -> None:
    day = f"{year:04d}-06-01"
    body = json.dumps(
        ask(scheduled_departure=f"{day}T10:00:00-04:00", scheduled_arrival=f"{day}T12:00:00.000001-05:00")
    ).encode()
    fast, slow = hot(body), declared(body)
    assert fast == slow
    assert (slow is not None) == (2000 <= year < 2100)


@pytest.mark.parametrize(("minutes", "is_fine"), [(0, False), (1, True), (48 * 60, True), (48 * 60 + 1, False)])
def test_the_longest_flight_is_the_same_on_both_roads(minutes: int, is_fine: bool) -> None:
    day, minute = divmod(minutes, 24 * 60)
    arrival = f"2013-09-{12 + day:02d}T{minute // 60:02d}:{minute % 60:02d}:00Z"
    body = json.dumps(ask(scheduled_departure="2013-09-12T00:00:00Z", scheduled_arrival=arrival)).encode()
    assert (hot(body) is not None, declared(body) is not None) == (is_fine, is_fine)


def test_columns_keep_the_microseconds_of_both_ends_of_the_range() -> None:
    for text in ("2000-01-01T00:00:00.000001Z", "2099-12-31T23:59:59.999999Z"):
        asked = decode(json.dumps(ask(scheduled_departure=text, scheduled_arrival=text)).encode())
        columns = request_columns(asked.flights, 0)
        np.testing.assert_array_equal(columns["scheduled_departure_us"], [to_us(datetime.fromisoformat(text))])


@pytest.fixture(scope="module")
def served(live_world: World) -> Iterator[Asked]:
    with application(live_world) as asked:
        yield asked


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=bodies())
def test_the_service_answers_what_the_declaration_allows_and_refuses_the_rest(served: Asked, body: bytes) -> None:
    reply = served.predict(body)
    slow = declared(body)
    if slow is None:
        assert reply.status in (400, 422), reply.content
        return
    assume(slow.request_timestamp is not None)
    assert reply.status == 200, reply.content
    assert len(reply.json()["predictions"]) == len(slow.flights)
