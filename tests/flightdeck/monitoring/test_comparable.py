"""Only what was asked as training asks is compared with it, once an item and lead."""

from flightdeck.core.clock import MINUTE_US
from flightdeck.monitoring.comparable import select_comparable
from tests.event_streams import NOON_US
from tests.flightdeck.monitoring.samples import prediction_rows


def test_last_prediction_of_each_item_and_lead() -> None:
    leads = [300, 134, 121, 119, 30, 29, 15, 14, 120]
    rows = prediction_rows(
        9,
        flight_id=["a"] * 8 + ["b"],
        scheduled_departure_us=NOON_US,
        request_us=[NOON_US - lead * MINUTE_US for lead in leads],
    )
    chosen = select_comparable(rows, "scheduled_departure_us", [120, 15], 15, key="flight_id")
    assert chosen.index.tolist() == [2, 6, 8] and chosen["lead_min"].tolist() == [120, 15, 120]


def test_nothing_to_choose_from() -> None:
    rows = prediction_rows(0)
    assert select_comparable(rows, "scheduled_departure_us", [120], 15, key="flight_id").empty
