"""An event that is published twice within an hour counts once: by the server's time, whatever Arrow calls its text."""

import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from flightdeck.features.redis_entry import encode
from flightdeck.features.redis_keys import stream_key
from tests.event_streams import MINUTE_US, NOON_US
from tests.flightdeck.features.redis_feed import COUNTED, SHOPS, SOLD, RedisFeed, sold
from tests.redis_server import RedisServer, redis_server

HOUR_MS = 3_600_000
HOURS_MS = 480_000 * HOUR_MS  # an hour begins
LATER_US = NOON_US + MINUTE_US
N = len(SHOPS)
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


def publish_at(server: RedisServer, events: pa.Table, published_ms: int) -> None:
    """Publish an entry at a moment of the server's clock."""
    with server.client() as client:
        client.execute_command("XADD", stream_key(0), f"{published_ms}-0", *encode("sold", events, LATER_US))


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


@pytest.mark.parametrize(("between_ms", "counts_again"), [(0, False), (HOUR_MS - 1, False), (2 * HOUR_MS, True)])
@pytest.mark.parametrize("into_hour_ms", [0, 1, HOUR_MS - 2])
def test_an_event_is_remembered_for_an_hour_of_publication(
    feed: RedisFeed, server: RedisServer, into_hour_ms: int, between_ms: int, counts_again: bool
) -> None:
    events, first_ms = sold("told", NOON_US + 1), HOURS_MS + into_hour_ms
    publish_at(server, events, first_ms)
    assert feed.follow() == N
    publish_at(server, events, first_ms + between_ms + 1)
    assert feed.follow() == (N if counts_again else 0)
    with server.client() as client:
        assert len(client.keys("fd:{p0}:e:*")) <= 2


def test_an_event_is_remembered_where_entries_of_several_hours_are_taken_together(
    feed: RedisFeed, server: RedisServer
) -> None:
    events = sold("told", NOON_US + 1)
    publish_at(server, events, HOURS_MS + HOUR_MS - 1)
    assert feed.follow() == N
    publish_at(server, events, HOURS_MS + HOUR_MS)
    publish_at(server, sold("other", NOON_US + 1), HOURS_MS + 2 * HOUR_MS)
    assert feed.follow() == N


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
