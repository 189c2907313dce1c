from collections import Counter
from datetime import date, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flightdeck.core.clock import MINUTE_US
from flightdeck.events.stream import INSTANT
from pipelines.inference.traffic import (
    ALERT_LEADS_MIN,
    MOST_FLIGHTS_PER_SEARCH,
    PlannedRequest,
    day_bounds_us,
    plan_requests,
)

DAY = date(2013, 9, 12)
START_US, END_US = day_bounds_us(DAY)
MILES = np.array([187, 229, 502, 544, 733, 762, 944, 1069, 1096, 1400, 1598, 2248, 2475])


def flights(n: int, seed: int = 0) -> pa.Table:
    random = np.random.default_rng(seed)
    minutes = np.sort(random.integers(5 * 60, 24 * 60, n))
    departures_us = START_US + minutes * MINUTE_US
    route = random.integers(0, len(MILES), n)
    return pa.table(
        {
            "flight_id": [f"2013-09-12:UA:{i}:EWR" for i in range(n)],
            "carrier": ["UA"] * n,
            "flight": np.arange(1, n + 1),
            "origin": ["EWR"] * n,
            "dest": [f"D{chr(65 + r)}X" for r in route],
            "tailnum": [f"N{i}" if i % 7 else None for i in range(n)],
            "scheduled_departure": pa.array(departures_us).cast(INSTANT),
            "scheduled_arrival": pa.array(departures_us + 120 * MINUTE_US).cast(INSTANT),
            "origin_utc_offset_min": np.full(n, -240),
            "distance_miles": MILES[route],
        }
    )


@pytest.fixture(scope="module")
def day() -> pa.Table:
    return flights(923)


@pytest.fixture(scope="module")
def plan(day: pa.Table) -> list[PlannedRequest]:
    return plan_requests(day, START_US, seed=7)


def test_a_typical_day_causes_the_documented_number_of_questions(plan: list[PlannedRequest]) -> None:
    questions = Counter({surface: sum(len(r.flights) for r in plan if r.surface == surface) for surface in SURFACES})
    assert 26_000 <= questions.total() <= 28_000
    assert questions["alerts"] == 923 * 15
    assert questions["search"] / questions["itinerary"] == pytest.approx(1.5, rel=0.1)


def test_searches_of_a_route_are_one_request_about_several_flights(plan: list[PlannedRequest]) -> None:
    searches = [request for request in plan if request.surface == "search"]
    sizes = [len(request.flights) for request in searches]
    assert max(sizes) > 1
    assert max(sizes) <= MOST_FLIGHTS_PER_SEARCH
    for request in searches:
        assert len({(flight["origin"], flight["dest"]) for flight in request.flights}) == 1
        assert len({str(flight["flight_number"]) for flight in request.flights}) == len(request.flights)


def test_requests_come_in_order_and_never_after_a_departure_or_before_midnight(plan: list[PlannedRequest]) -> None:
    times = [request.at_us for request in plan]
    assert times == sorted(times)
    assert times[0] >= START_US
    for request in plan:
        for flight in request.flights:
            assert request.at_us <= departure_us(flight)


def test_every_flight_is_watched_and_scored_at_both_horizons(plan: list[PlannedRequest], day: pa.Table) -> None:
    leads = Counter(
        (departure_us(request.flights[0]) - request.at_us) // MINUTE_US
        for request in plan
        if request.surface == "alerts"
    )
    assert set(leads) == set(ALERT_LEADS_MIN)
    assert leads[120] == leads[15] == 2 * day.num_rows
    assert leads[180] == leads[0] == day.num_rows


def test_leads_of_searches_are_hours_and_of_looks_about_two_hours(plan: list[PlannedRequest]) -> None:
    leads_min = {
        surface: [(departure_us(r.flights[0]) - r.at_us) / MINUTE_US for r in plan if r.surface == surface]
        for surface in ("search", "itinerary")
    }
    assert 3.5 * 60 < np.median(leads_min["search"]) < 6.5 * 60
    assert max(leads_min["search"]) <= 24 * 60
    assert 90 < np.mean(leads_min["itinerary"]) < 130


def test_the_seed_decides(day: pa.Table, plan: list[PlannedRequest]) -> None:
    assert plan_requests(day, START_US, seed=7) == plan
    assert plan_requests(day, START_US, seed=8) != plan
    shuffled = day.take(np.random.default_rng(1).permutation(day.num_rows))
    assert plan_requests(shuffled, START_US, seed=7) == plan


def test_a_flight_is_named_as_the_service_takes_it(plan: list[PlannedRequest]) -> None:
    bodies = {str(flight["flight_number"]): flight for request in plan for flight in request.flights}
    assert all(
        datetime.fromisoformat(str(b["scheduled_departure"])).utcoffset() == timedelta(hours=-4)
        for b in bodies.values()
    )
    assert "tailnum" not in bodies["1"]
    assert bodies["2"]["tailnum"] == "N1"


def test_units_ask_again(plan: list[PlannedRequest]) -> None:
    units = Counter(request.unit_id for request in plan if request.surface != "search")
    assert max(units.values()) == len(ALERT_LEADS_MIN)
    assert all(0 < len(unit) <= 128 for unit in units)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 40), st.integers(0, 2**31))
def test_any_number_of_flights(n: int, seed: int) -> None:
    planned = plan_requests(flights(n, seed % 97), START_US, seed)
    assert all(START_US <= request.at_us <= END_US for request in planned)
    assert bool(planned) == bool(n)


def test_a_flight_just_after_midnight_is_asked_about_between_midnight_and_departure() -> None:
    early = flights(1).set_column(6, "scheduled_departure", pa.array([START_US + 5 * MINUTE_US]).cast(INSTANT))
    assert all(START_US <= r.at_us <= START_US + 5 * MINUTE_US for r in plan_requests(early, START_US, 3))


@pytest.mark.parametrize(("day", "hours"), [("2013-09-12", 24), ("2013-03-10", 23), ("2013-11-03", 25)])
def test_days_are_local(day: str, hours: int) -> None:
    start_us, end_us = day_bounds_us(date.fromisoformat(day))
    assert (end_us - start_us) // (60 * MINUTE_US) == hours


SURFACES = ("search", "itinerary", "alerts")


def departure_us(flight: object) -> int:
    assert isinstance(flight, dict)
    return int(datetime.fromisoformat(flight["scheduled_departure"]).timestamp() * 1e6)
