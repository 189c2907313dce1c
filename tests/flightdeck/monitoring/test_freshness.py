"""Ages at a moment: streams, views, and the features that were served."""

from pathlib import Path

import numpy as np
import pytest

from flightdeck.core.clock import MINUTE_US
from flightdeck.core.errors import NotFoundError
from flightdeck.events.log import EventLog
from flightdeck.monitoring.freshness import SERVED, TABLE_TYPES, measure_freshness, no_freshness
from pipelines.features.views import VIEWS
from pipelines.ingestion.streams import STREAMS
from tests.event_streams import NOON_US, random_events, write_log
from tests.flightdeck.monitoring.samples import prediction_rows

MARKS = {view.name: NOON_US for view in VIEWS}


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> EventLog:
    events = random_events(2, 200, first_us=NOON_US - 60 * MINUTE_US, last_us=NOON_US)
    return write_log(tmp_path_factory.mktemp("freshness"), events)


def test_all_fresh(log: EventLog) -> None:
    found = measure_freshness(log, STREAMS, VIEWS, MARKS, prediction_rows(3), NOON_US)
    assert found["name"].tolist() == [*(s.name for s in STREAMS), *(v.name for v in VIEWS), SERVED]
    assert not found["breached"].any() and (found["age_s"] >= 0).all()


def test_a_lagging_view_a_silent_stream_and_stale_answers_breach(log: EventLog) -> None:
    view = VIEWS[0]
    marks = {**MARKS, view.name: NOON_US - 10 * MINUTE_US}
    del marks[VIEWS[1].name]
    stale = prediction_rows(3, feature_us=NOON_US + 6 * MINUTE_US, watermark_us=[NOON_US, NOON_US, NOON_US - 1])
    later_us = NOON_US + 150 * MINUTE_US
    found = measure_freshness(log, STREAMS, VIEWS, marks, stale, later_us).set_index("name")
    assert found["age_s"][view.name] == 160 * 60 and np.isinf(found["age_s"][VIEWS[1].name])
    assert found["breached"]["weather_observed"] and not found["breached"]["departed"]
    assert found["breached"][SERVED] and found["age_s"][SERVED] == pytest.approx(360.000001)


def test_future_events_are_not_fresh(log: EventLog) -> None:
    found = measure_freshness(log, STREAMS, VIEWS, MARKS, prediction_rows(0), NOON_US - 61 * MINUTE_US)
    streams = found[found["name"].isin([stream.name for stream in STREAMS])]
    assert np.isinf(streams["age_s"]).all() and streams["last_event_at"].isna().all()


def test_types_and_missing_log(log: EventLog, tmp_path: Path) -> None:
    full = measure_freshness(log, STREAMS, VIEWS, MARKS, prediction_rows(1), NOON_US)
    assert full.dtypes.equals(no_freshness().dtypes) and list(full.columns) == list(TABLE_TYPES)
    with pytest.raises(NotFoundError, match="event log"):
        measure_freshness(EventLog(tmp_path), STREAMS, VIEWS, MARKS, prediction_rows(0), NOON_US)


def test_a_store_that_is_no_longer_fed_ages_against_the_newest_request(log: EventLog) -> None:
    later_us = NOON_US + 10 * MINUTE_US
    found = measure_freshness(log, STREAMS, VIEWS, MARKS, prediction_rows(0), NOON_US, judged_us=later_us)
    assert found.loc[found["breached"], "name"].tolist() == [view.name for view in VIEWS if view.freshness_slo_s < 600]
    assert found["breached"].any()
