from datetime import UTC, datetime, timedelta, timezone

import pytest

from flightdeck.core.clock import to_us
from pipelines.features.model_input import REQUEST_COLUMNS
from pipelines.inference.request import flight_ids, has_unknown_origin, request_columns
from serving.schemas import Flight

AT_US = to_us(datetime(2013, 9, 12, 12, tzinfo=UTC))


def flight(departure: datetime, origin: str = "EWR", tailnum: str | None = None) -> Flight:
    return Flight(
        carrier="UA",
        flight_number=1545,
        origin=origin,
        dest="IAH",
        scheduled_departure=departure.isoformat(),  # type: ignore[arg-type]  # as a client writes it
        scheduled_arrival=(departure + timedelta(hours=3)).isoformat(),  # type: ignore[arg-type]
        distance_miles=1400,
        tailnum=tailnum,
    )


def test_gives_the_request_columns_of_training_in_the_order_of_the_flights() -> None:
    departure = datetime(2013, 9, 12, 14, 5, tzinfo=UTC)
    columns = request_columns([flight(departure, tailnum="N1"), flight(departure, "JFK")], AT_US)
    assert set(columns) == set(REQUEST_COLUMNS)
    assert columns["origin"].tolist() == ["EWR", "JFK"]
    assert columns["tailnum"].tolist() == ["N1", ""]
    assert columns["request_us"].tolist() == [AT_US, AT_US]
    assert columns["scheduled_departure_us"].tolist() == [to_us(departure)] * 2
    assert (columns["scheduled_arrival_us"] - columns["scheduled_departure_us"]).tolist() == [3 * 3_600_000_000] * 2


@pytest.mark.parametrize(
    ("departure", "offset_min"),
    [
        (datetime(2013, 7, 1, 12, tzinfo=UTC), -240),
        (datetime(2013, 1, 1, 12, tzinfo=UTC), -300),
        (datetime(2013, 3, 10, 6, 59, tzinfo=UTC), -300),
        (datetime(2013, 3, 10, 7, 0, tzinfo=UTC), -240),
        (datetime(2013, 11, 3, 5, 59, tzinfo=UTC), -240),
        (datetime(2013, 11, 3, 6, 0, tzinfo=UTC), -300),
    ],
)
@pytest.mark.parametrize("client", [0, -240, 330])
def test_the_offset_of_a_known_origin_is_its_own_whatever_the_client_writes(
    departure: datetime, offset_min: int, client: int
) -> None:
    written = departure.astimezone(timezone(timedelta(minutes=client)))
    assert request_columns([flight(written)], AT_US)["origin_utc_offset_min"].tolist() == [offset_min]


def test_an_unknown_origin_takes_the_offset_of_the_client_and_says_so() -> None:
    written = datetime(2013, 7, 1, 12, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    columns = request_columns([flight(written, "DEL"), flight(written)], AT_US)
    assert columns["origin_utc_offset_min"].tolist() == [330, -240]
    assert has_unknown_origin(columns) == [True, False]


def test_flights_are_named_by_the_local_date_of_departure() -> None:
    late_evening = datetime(2013, 9, 13, 2, 30, tzinfo=UTC)
    assert flight_ids(request_columns([flight(late_evening)], AT_US)) == ["2013-09-12:UA:1545:EWR"]
