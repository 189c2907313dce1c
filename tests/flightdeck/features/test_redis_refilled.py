"""Filling from the log while entries wait on the streams: what both hold counts once, and nothing is missed."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from flightdeck.core.errors import StoreUnavailable
from tests.event_streams import MINUTE_US, NOON_US
from tests.flightdeck.features.redis_feed import ADDED, COUNTED, SHOPS, SOLD, RedisFeed, sold
from tests.redis_server import RedisServer, redis_server

LATER_US = NOON_US + 2 * MINUTE_US


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


@pytest.fixture(params=[1, 4])
def feed(request: pytest.FixtureRequest, server: RedisServer, tmp_path: Path) -> RedisFeed:
    with server.client() as client:
        client.flushall()
    return RedisFeed(f"{server.url}?partitions={request.param}", tmp_path)


def test_a_version_is_added_while_entries_wait(feed: RedisFeed) -> None:
    feed.publish(sold("waiting", NOON_US + MINUTE_US), LATER_US)
    feed.fill(ADDED, NOON_US)
    feed.follow()
    feed.require_log(LATER_US, COUNTED, ADDED)


@pytest.mark.parametrize("feed", [4], indirect=True)
def test_a_version_is_added_while_a_partition_is_behind(feed: RedisFeed) -> None:
    feed.publish(sold("waiting", NOON_US + MINUTE_US), LATER_US)
    feed.follow(partitions=(1, 2))
    assert feed.fill(ADDED, NOON_US) == LATER_US
    feed.follow()
    feed.require_log(LATER_US, COUNTED, ADDED)


@pytest.mark.parametrize("until_us", [NOON_US + MINUTE_US + 9, LATER_US + MINUTE_US])
def test_what_is_fed_is_filled_past_entries_that_wait(feed: RedisFeed, until_us: int) -> None:
    feed.publish(sold("waiting", NOON_US + MINUTE_US))
    feed.fill(COUNTED, until_us)
    feed.publish(sold("none", LATER_US, []), LATER_US + 2 * MINUTE_US)
    feed.follow()
    feed.require_log(LATER_US + 2 * MINUTE_US, COUNTED)


def test_one_late_event_waits_while_a_version_is_added(feed: RedisFeed) -> None:
    feed.publish(sold("late", NOON_US - 2 * MINUTE_US, SHOPS[:1]))
    feed.fill(ADDED, NOON_US)
    feed.publish(sold("none", LATER_US, []), LATER_US)
    feed.follow()
    feed.require_log(LATER_US, COUNTED, ADDED)


def test_an_emptied_database_is_filled_and_goes_on(feed: RedisFeed, server: RedisServer) -> None:
    """A consumer that has lived on still holds entries which the filling counted."""
    for number in range(2):
        feed.publish(sold(f"before {number}", NOON_US + number * MINUTE_US))
    follower = feed.follower(max_events=1)
    assert follower.step()
    with server.client() as client:
        client.flushall()
    between = sold("between", LATER_US)
    feed.log.append(SOLD, between)
    assert feed.fill(COUNTED, LATER_US + 9) == LATER_US + 9
    feed.publish(between, LATER_US + MINUTE_US, is_new=False)
    feed.publish(sold("none", LATER_US, []), LATER_US + MINUTE_US)
    for _ in range(30):
        with suppress(StoreUnavailable):  # its group is gone: it looks again
            follower.step()
    follower.stop()
    follower.run()
    feed.follow()
    feed.require_log(LATER_US + MINUTE_US, COUNTED)
