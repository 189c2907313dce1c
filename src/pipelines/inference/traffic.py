"""Which requests a day's flights cause: the traffic model of a replay (flights.md section 8 has its figures).

Three surfaces ask. People *search* a route, travellers look at their *itinerary*, and *alerts* watch every flight.
A flight draws interest in proportion to its distance. Whoever would have asked before local midnight asks later that
day, so that a day's flights cause all their requests within the day; nobody asks after the scheduled departure.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from flightdeck.core.clock import MINUTE_US, to_us

ZONE = ZoneInfo("America/New_York")  # all three origins
SEARCHES_PER_FLIGHT, LOOKS_PER_FLIGHT = 6.0, 4.0
TYPICAL_MILES, LEAST_INTEREST, MOST_INTEREST = 800.0, 0.5, 3.0
SEARCH_LEAD_MIN, SEARCH_LEAD_SPREAD, LONGEST_LEAD_MIN = 6 * 60.0, 0.8, 24 * 60.0
LOOK_LEAD_SHAPE, LOOK_LEAD_SCALE_MIN = 2.0, 60.0
ALERT_LEADS_MIN = tuple(range(180, -1, -15))
SCORING_LEADS_MIN = (120, 15)
LOOKS_PER_TRAVELLER = 2
DAY_PART_MIN = 6 * 60
SEARCH_SESSION_US = 30 * MINUTE_US
MOST_FLIGHTS_PER_SEARCH = 20
N_REDRAWS = 200

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PlannedRequest:
    """One request to the service.

    Parameters
    ----------
    at_us
        When it is asked, UTC microseconds.
    surface
        `search`, `itinerary` or `alerts`.
    unit_id
        Who asks: what is assigned to an arm.
    flights
        The flights asked about, as the service's request body names them.
    """

    at_us: int
    surface: str
    unit_id: str
    flights: tuple[Mapping[str, object], ...]


def day_bounds_us(day: date) -> tuple[int, int]:
    """Return local midnight of `day` and of the day after, UTC microseconds (23 to 25 hours apart).

    Examples
    --------
    >>> start_us, end_us = day_bounds_us(date(2013, 11, 3))
    >>> (end_us - start_us) // (60 * MINUTE_US)
    25
    """
    midnight = datetime(day.year, day.month, day.day, tzinfo=ZONE)
    following = date.fromordinal(day.toordinal() + 1)
    return to_us(midnight), to_us(datetime(following.year, following.month, following.day, tzinfo=ZONE))


def plan_requests(scheduled: pa.Table, start_us: int, seed: int) -> list[PlannedRequest]:
    """Return the requests that the flights of one day cause, in the order in which they are asked.

    Parameters
    ----------
    scheduled
        `scheduled` events of the day, shape `(n_flights, ...)`.
    start_us
        Local midnight before them, UTC microseconds: nothing is asked earlier.
    seed
        The same seed and flights give the same requests.

    Returns
    -------
    list of PlannedRequest
        About 28 questions a flight; searches of one route and part of the day that fall into one session are one
        request about several flights.
    """
    flights = scheduled.sort_by("flight_id")
    generator = np.random.default_rng([seed, start_us // MINUTE_US])
    departures_us = flights["scheduled_departure"].cast(pa.int64()).to_numpy()
    room_min = (departures_us - start_us) / MINUTE_US
    interest = np.clip(flights["distance_miles"].to_numpy() / TYPICAL_MILES, LEAST_INTEREST, MOST_INTEREST)
    bodies = [_body(row) for row in flights.to_pylist()]
    searched = _repeat(generator, SEARCHES_PER_FLIGHT * interest)
    searched_us = _asked_us(departures_us[searched], _search_leads(generator, room_min[searched]))
    looked = _repeat(generator, LOOKS_PER_FLIGHT * interest)
    looked_us = _asked_us(departures_us[looked], _look_leads(generator, room_min[looked]))
    names = flights["flight_id"].to_pylist()
    planned = [
        *_searches(bodies, searched, searched_us, (room_min // DAY_PART_MIN).astype(np.int64)),
        *_looks(bodies, names, looked, looked_us),
        *_alerts(bodies, names, departures_us, start_us),
    ]
    return sorted(planned, key=lambda request: (request.at_us, request.surface, request.unit_id))


def _body(flight: Mapping[str, object]) -> Mapping[str, object]:
    """Return a flight as the service's request body names it; times carry the origin's offset."""
    local = timezone(timedelta(minutes=int(str(flight["origin_utc_offset_min"]))))
    body = {name: flight[name] for name in ("carrier", "origin", "dest", "distance_miles")}
    body["flight_number"] = flight["flight"]
    for name in ("scheduled_departure", "scheduled_arrival"):
        at = flight[name]
        if isinstance(at, datetime):
            body[name] = at.astimezone(local).isoformat()
    if flight["tailnum"]:
        body["tailnum"] = flight["tailnum"]
    return body


def _repeat(generator: np.random.Generator, expected: Floats) -> Ints:
    """Return the row of each flight as often as it is asked for, Poisson with the expected counts `(n_flights,)`."""
    return np.repeat(np.arange(len(expected), dtype=np.int64), generator.poisson(expected))


def _search_leads(generator: np.random.Generator, room_min: Floats) -> Floats:
    """Return log-normal leads in minutes, at most a day and at most what there is since midnight, shape `(n,)`."""
    longest = np.minimum(room_min, LONGEST_LEAD_MIN)
    return _within(lambda n: generator.lognormal(np.log(SEARCH_LEAD_MIN), SEARCH_LEAD_SPREAD, n), longest)


def _look_leads(generator: np.random.Generator, room_min: Floats) -> Floats:
    """Return gamma leads in minutes, at most what there is since midnight, shape `(n,)`."""
    return _within(lambda n: generator.gamma(LOOK_LEAD_SHAPE, LOOK_LEAD_SCALE_MIN, n), room_min)


def _within(draw: Callable[[int], Floats], longest: Floats) -> Floats:
    """Draw leads until each fits below its `longest`, shape `(n,)`: the distribution, truncated."""
    leads = draw(len(longest))
    for _ in range(N_REDRAWS):
        beyond = leads > longest
        if not beyond.any():
            return leads
        leads[beyond] = draw(int(beyond.sum()))
    return np.minimum(leads, longest)


def _asked_us(departures_us: Ints, leads_min: Floats) -> Ints:
    """Return when somebody asks, to the microsecond, `leads_min` before the departures, shape `(n,)`."""
    return departures_us - (leads_min * MINUTE_US).astype(np.int64)


def _searches(
    bodies: Sequence[Mapping[str, object]], rows: Ints, asked_us: Ints, part_of_day: Ints
) -> Iterator[PlannedRequest]:
    """Yield searches: questions about one route and part of the day within one session are one person's request.

    A request asks about a flight once, at the time of its earliest question.
    """
    sessions: dict[tuple[object, ...], list[tuple[int, int]]] = defaultdict(list)
    asked_before: dict[tuple[object, ...], int] = defaultdict(int)
    for place in np.argsort(asked_us, kind="stable"):
        row, at_us = int(rows[place]), int(asked_us[place])
        route = bodies[row]["origin"], bodies[row]["dest"], int(part_of_day[row])
        session = (*route, at_us // SEARCH_SESSION_US)
        nth = asked_before[(row, *session)]  # the second question about a flight is another person's
        asked_before[(row, *session)] += 1
        sessions[(*session, nth)].append((at_us, row))
    for number, questions in enumerate(sessions.values()):
        for first in range(0, len(questions), MOST_FLIGHTS_PER_SEARCH):
            part = questions[first : first + MOST_FLIGHTS_PER_SEARCH]
            yield PlannedRequest(part[0][0], "search", f"searcher-{number}", tuple(bodies[row] for _, row in part))


def _looks(
    bodies: Sequence[Mapping[str, object]], names: Sequence[str], rows: Ints, asked_us: Ints
) -> Iterator[PlannedRequest]:
    """Yield looks at an itinerary; every traveller looks a few times."""
    seen: dict[int, int] = defaultdict(int)
    for place in np.argsort(asked_us, kind="stable"):
        row = int(rows[place])
        traveller = f"traveller-{names[row]}-{seen[row] // LOOKS_PER_TRAVELLER}"
        seen[row] += 1
        yield PlannedRequest(int(asked_us[place]), "itinerary", traveller, (bodies[row],))


def _alerts(
    bodies: Sequence[Mapping[str, object]], names: Sequence[str], departures_us: Ints, start_us: int
) -> Iterator[PlannedRequest]:
    """Yield the checks of every flight that end in alerts, and its scoring at the two horizons of the model."""
    leads = [("watcher", lead) for lead in ALERT_LEADS_MIN] + [("scoring", lead) for lead in SCORING_LEADS_MIN]
    for row, departure_us in enumerate(departures_us.tolist()):
        for unit, lead_min in leads:
            at_us = departure_us - lead_min * MINUTE_US
            if at_us >= start_us:
                yield PlannedRequest(at_us, "alerts", f"{unit}-{names[row]}", (bodies[row],))
