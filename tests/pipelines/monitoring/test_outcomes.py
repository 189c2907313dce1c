"""The streams in the words of the label join."""

import pyarrow as pa

from flightdeck.core.clock import MINUTE_US
from pipelines.monitoring.outcomes import expected_flights, late_or_cancelled, on_time_arrivals
from tests.pipelines.monitoring.day import day_events

EVENTS = day_events()


def test_every_on_time_arrival_is_known_when_it_is_due() -> None:
    names = EVENTS["scheduled"]["flight_id"].to_pylist()
    expected = expected_flights(EVENTS["scheduled"], names)
    assert len(expected) == len(names)
    arrivals = EVENTS["scheduled"]["scheduled_arrival"].cast(pa.int64()).to_numpy()
    assert (expected["due_us"].to_numpy() == arrivals + 17 * MINUTE_US).all()
    known = on_time_arrivals(EVENTS["arrived"], names).merge(expected, on="flight_id")
    assert len(known) and (known["known_us_x"] <= known["due_us"]).all()
    late = late_or_cancelled(EVENTS["arrived"], EVENTS["cancelled"], names).merge(expected, on="flight_id")
    assert len(late) and (late["known_us_x"] >= late["due_us"]).all()


def test_only_the_flights_that_were_asked_about() -> None:
    name = EVENTS["scheduled"]["flight_id"][5].as_py()
    cancelled = EVENTS["cancelled"]["flight_id"][0].as_py()
    assert expected_flights(EVENTS["scheduled"], [name, name])["flight_id"].tolist() == [name]
    found = late_or_cancelled(EVENTS["arrived"], EVENTS["cancelled"], [cancelled, "none"])
    assert found["flight_id"].tolist() == [cancelled]
    assert on_time_arrivals(EVENTS["arrived"], []).empty
