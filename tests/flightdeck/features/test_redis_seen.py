"""An event that is published twice within an hour counts once: by the server's time, whatever Arrow calls its text."""

import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from tests.event_streams import MINUTE_US, NOON_US
from tests.flightdeck.features.redis_feed import COUNTED, ITEMS, SOLD, RedisFeed, sold
from tests.redis_server import RedisServer, redis_server

LATER_US = NOON_US + MINUTE_US
N = len(ITEMS)
KINDS = (pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.large_string()))


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


@pytest.fixture(params=[1])
def feed(request: pytest.FixtureRequest, server: RedisServer, tmp_path: Path) -> RedisFeed:
    with server.client() as client:
        client.flushall()
    return RedisFeed(f"{server.url}?partitions={request.param}", tmp_path)


@pytest.mark.parametrize("feed", [1, 4], indirect=True)
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_an_event_counts_once_whatever_arrow_calls_its_text(feed: RedisFeed, kind: pa.DataType) -> None:
    told = sold("told", NOON_US + 1)
    texts = told["event_id"].dictionary_encode() if pa.types.is_dictionary(kind) else told["event_id"]
    again = told.set_column(told.column_names.index("event_id"), "event_id", texts.cast(kind))
    feed.log.append(SOLD, told)
    for events in (again, again, told):
        feed.publish(events, LATER_US, is_new=False)
        feed.follow()
    feed.require_log(LATER_US, COUNTED)


@pytest.mark.parametrize("shift_s", [-3700, 3700])
def test_a_consumer_whose_clock_is_wrong_counts_an_event_once(
    feed: RedisFeed, monkeypatch: pytest.MonkeyPatch, shift_s: int
) -> None:
    events, right = sold("told", NOON_US + 1), time.time
    feed.publish(events, LATER_US)
    assert feed.follow() == N
    monkeypatch.setattr(time, "time", lambda: right() + shift_s)
    feed.publish(events, LATER_US, is_new=False)
    assert feed.follow() == 0
    feed.require_log(LATER_US, COUNTED)
