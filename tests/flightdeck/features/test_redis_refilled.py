"""Filling from the log while entries wait on the streams: what both hold counts once, and nothing is missed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from flightdeck.core.errors import StoreUnavailable
from flightdeck.features.redis_moment import RedisMoment
from flightdeck.features.redis_publish import RedisPublisher
from flightdeck.features.redis_store import RedisStore
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


class InterruptedStore(RedisStore):
    """The store of a producer; something happens right after it has looked at the declarations for the first time."""

    happens: Callable[[], object] | None = None

    @contextmanager
    def reading(self) -> Iterator[RedisMoment]:
        with super().reading() as moment:
            yield moment
        if self.happens is not None:
            happens, self.happens = self.happens, None
            happens()


@pytest.mark.parametrize("feed", [4], indirect=True)
def test_a_producer_looks_again_whether_a_version_was_added_while_it_published(feed: RedisFeed) -> None:
    """The filling saw nothing wait, and the producer did not see the version: its partitions would never get these."""
    events = sold("between", NOON_US + MINUTE_US)
    feed.log.append(SOLD, events)
    reached_us: list[int] = []
    store = InterruptedStore.open(feed.url, read_only=False)
    assert isinstance(store, InterruptedStore)
    store.happens = lambda: reached_us.append(feed.fill(ADDED, NOON_US))
    RedisPublisher(store).publish("sold", events, LATER_US)
    store.close()
    assert reached_us == [NOON_US]
    feed.follow()
    feed.require_log(LATER_US, COUNTED, ADDED)
