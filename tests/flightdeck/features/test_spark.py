"""The Ibis engine on a real Spark equals the NumPy engine: random declarations, and all views on real flights."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from flightdeck.events.log import EventLog
from flightdeck.features import aggregates as agg
from flightdeck.features.engines import SPARK, join_features
from flightdeck.features.entity_frame import EntityFrame
from flightdeck.features.ibis_sessions import why_no_spark
from flightdeck.features.view import FeatureView, Latest, OpenItems, windowed
from pipelines.features.views import VIEW_COLUMNS, VIEWS
from pipelines.inference.traffic import SCORING_LEADS_MIN, day_bounds_us
from tests.e2e.house import House
from tests.event_streams import MINUTE_US, NOON_US, random_events, random_requests, write_log
from tests.flightdeck.features.declarations import CLICKS, CLOSED, SECOND_US, random_table
from tests.flightdeck.features.parity import assert_equal

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(why_no_spark()), reason=why_no_spark() or "there is a Spark")]
REAL_DAYS = (date(2013, 9, 11), date(2013, 9, 12), date(2013, 9, 13))  # a storm stops the airports on the second one
LOCAL: dict[str, str | int] = {"master": "local[2]", "memory": "1g", "partitions": 2}
EVERY_KIND = (
    agg.count(),
    agg.total("price", resolution=0.01),
    agg.mean("score"),
    agg.std("amount"),
    agg.share("item", "!=", "x"),
    agg.share("price", "<", 0.5),
    agg.mean("is_new"),
    agg.lowest("price"),
    agg.highest("score"),
    agg.last("price"),
    agg.since_last(),
    agg.distinct("item"),
    agg.distinct("price", at_most=2),
)


def test_every_aggregate_equals_numpy_on_spark() -> None:
    random = np.random.default_rng(11)
    events = {stream.name: random_table(random, stream, 200, 20_000) for stream in (CLICKS, CLOSED)}
    events = {name: pa.concat_tables([table, table.slice(0, 50)]) for name, table in events.items()}
    views = [
        FeatureView("one", ("user",), "clicks", windowed(*EVERY_KIND, over="90s 30m"), "tests"),
        FeatureView("all", (), "clicks", windowed(*EVERY_KIND[7:], over="2h"), "tests"),
        FeatureView("late", ("user", "item"), "clicks", Latest(("price", "amount")), "tests", ttl_s=3600),
        FeatureView("open", ("item",), "clicks", OpenItems(("closed",)), "tests"),
    ]
    at_us = NOON_US + random.integers(-10, 25_000, 300) * SECOND_US
    columns = {
        "user": random.choice(np.array(["ann", "bob", "cem", "", None], dtype=object), 300),
        "item": random.choice(np.array(["x", "y", "never"], dtype=object), 300),
    }
    compare(views, events, EntityFrame(columns, at_us, at_us - random.choice([0, 60], 300) * SECOND_US))


@pytest.fixture
def flights(tmp_path: Path) -> Iterator[EventLog]:
    yield write_log(tmp_path, random_events(4, 400, first_us=NOON_US - 2000 * MINUTE_US, last_us=NOON_US))


def test_all_views_of_the_flights_equal_numpy_on_spark(flights: EventLog) -> None:
    columns, at_us = random_requests(5, 300, first_us=NOON_US - 2000 * MINUTE_US, last_us=NOON_US + 60 * MINUTE_US)
    events = {stream: flights.read(stream) for stream in {s for view in VIEWS for s in view.sources}}
    compare(list(VIEWS), events, EntityFrame(columns, at_us))


@pytest.fixture(scope="module")
def real_events(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pa.Table]:
    """Return what became known on some days, as the project's ingestion writes it from the source files."""
    house = House(tmp_path_factory.mktemp("house"))
    house.kedro("run", "--pipelines", "ingestion")
    log = EventLog(house.layout.event_log)
    start_us, end_us = day_bounds_us(REAL_DAYS[0])[0], day_bounds_us(REAL_DAYS[-1])[1]
    streams = {stream for view in VIEWS for stream in view.sources}
    return {s: log.read(s, created_after_us=start_us, created_until_us=end_us) for s in streams}


def test_all_views_of_real_days_equal_numpy_on_spark(real_events: dict[str, pa.Table]) -> None:
    due_us = real_events["scheduled"]["created_timestamp"].cast(pa.int64()).to_numpy()
    flights = real_events["scheduled"].filter(pa.array(due_us >= day_bounds_us(REAL_DAYS[1])[0]))
    entities = {name: flights[name].to_numpy(zero_copy_only=False) for name in ("carrier", "origin", "dest", "tailnum")}
    due_us = flights["created_timestamp"].cast(pa.int64()).to_numpy()
    columns = {name: np.tile(values, len(SCORING_LEADS_MIN)) for name, values in entities.items()}
    at_us = np.concatenate([due_us - lead_min * MINUTE_US for lead_min in SCORING_LEADS_MIN])
    frame = EntityFrame(columns, at_us, at_us - MINUTE_US)
    expected = join_features(list(VIEWS), real_events, frame)
    known = np.column_stack([~np.isnan(expected[name]) for name in VIEW_COLUMNS])
    assert len(frame) > 3_000 and known.any(axis=0).all() and known.mean() > 0.8, (len(frame), known.mean())
    compare(list(VIEWS), real_events, frame)


def compare(views: list[FeatureView], events: dict[str, pa.Table], frame: EntityFrame) -> None:
    expected = join_features(views, events, frame)
    found = join_features(views, events, frame, SPARK, LOCAL)
    for view in views:
        assert_equal(view, found, np.column_stack([expected[name] for name in view.columns]).tolist())
