"""Versions are added while consumers run and events flow: every value is the one that the log says.

A producer appends to the log and publishes a moment later, in small pieces; some events come late, some are published
twice. Two consumers follow all the time. Whenever versions are added, nothing waits for anything to be quiet.
"""

import random
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import numpy as np
import pyarrow as pa
import pytest

from flightdeck.core.clock import VirtualClock, from_us
from flightdeck.events.dead_letters import DeadLetters
from flightdeck.events.delivery import Reception
from flightdeck.events.log import EventLog
from flightdeck.events.schema_history import SchemaHistory
from flightdeck.features.audit import recompute
from flightdeck.features.follower import Follower, Pace
from flightdeck.features.materializer import Materializer
from flightdeck.features.online import OnlineReader
from flightdeck.features.redis_keys import filled_key, stream_key
from flightdeck.features.redis_publish import RedisPublisher
from flightdeck.features.redis_store import RedisStore
from flightdeck.features.redis_stream import RedisConsumer
from pipelines.features.views import VIEWS
from pipelines.ingestion.streams import STREAMS
from tests.event_streams import MINUTE_US, NOON_US, between, random_events, random_requests
from tests.redis_server import redis_cluster_url, redis_url, wait_for

START_US = NOON_US - 120 * MINUTE_US
STEP_US = 4 * MINUTE_US
LAST_US = NOON_US - 6 * STEP_US
FIRST, *ADDED = (
    next(view for view in VIEWS if view.name == name)
    for name in ("origin_departures", "carrier_overdue", "aircraft_arrived", "route_departures", "origin_weather")
)
LEASE_S = 0.5


@pytest.fixture(params=["one partition", "five partitions", "cluster"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    with redis_cluster_url() if request.param == "cluster" else redis_url() as address:
        yield f"{address}?partitions={1 if request.param == 'one partition' else 5}"


class Producer:
    """Appends pieces of the day to the log and publishes each a moment later; the last ones when it `may_finish`."""

    def __init__(self, log: EventLog, events: dict[str, pa.Table], url: str, seed: int) -> None:
        self._log, self._events, self._url = log, events, url
        self._chance = random.Random(seed)
        self.may_finish = Event()
        self.n_pieces = 0

    def run(self) -> None:
        """Deliver everything from `START_US` to noon."""
        publisher = RedisPublisher.open(self._url)
        late: dict[str, pa.Table] = {}
        for low_us in range(START_US, NOON_US, STEP_US):
            if low_us >= LAST_US:
                self.may_finish.wait()
            for stream in self._chance.sample(list(STREAMS), len(STREAMS)):
                piece = between(self._events, low_us, low_us + STEP_US)[stream.name]
                n_late = self._chance.choice([0, 0, piece.num_rows // 2])
                held, piece = piece.slice(0, n_late), piece.slice(n_late)
                piece = pa.concat_tables([piece, late.pop(stream.name, piece.slice(0, 0))])
                late[stream.name] = held
                self._deliver(publisher, stream.name, piece)
            publisher.publish("departed", self._events["departed"].slice(0, 0), low_us + STEP_US, 20.0)
            self.n_pieces += 1
        for name, piece in late.items():
            self._deliver(publisher, name, piece)
        publisher.publish("departed", self._events["departed"].slice(0, 0), NOON_US, 20.0)
        publisher.close()

    def _deliver(self, publisher: RedisPublisher, name: str, piece: pa.Table) -> None:
        if not piece.num_rows:
            return
        self._log.append(next(stream for stream in STREAMS if stream.name == name), piece)
        time.sleep(self._chance.choice([0, 0, 0.01, 0.03]))
        for _ in range(self._chance.choice([1, 1, 2])):
            publisher.publish(name, piece, timeout_s=20.0)


@contextmanager
def consumers(url: str, folder: Path) -> Iterator[None]:
    """Two consumers that follow until the block ends."""
    followers = []
    for number in range(2):
        consumer = RedisConsumer.open(url, lease_s=LEASE_S)
        taking = Reception(DeadLetters(folder / f"letters{number}"), SchemaHistory(folder / f"schemas{number}"))
        pace = Pace(max_wait_s=0.02, retry_s=0.01, longest_retry_s=0.05)
        clock = VirtualClock(from_us(NOON_US))
        followers.append(Follower(consumer, consumer.store, STREAMS, taking, pace=pace, clock=clock))
    with ThreadPoolExecutor(2) as pool:
        running: list[Future[object]] = [pool.submit(follower.run) for follower in followers]
        try:
            yield
        finally:
            for follower in followers:
                follower.stop()
            totals = [future.result() for future in running]
    assert all(totals)


def n_waiting(store: RedisStore) -> int:
    return sum(store.nodes.ask([(p, ("XLEN", stream_key(p))) for p in range(store.n_partitions)]))


@pytest.mark.parametrize("seed", [1, 2])
def test_a_version_that_is_added_while_events_flow_counts_each_of_them_once(
    url: str, tmp_path: Path, seed: int
) -> None:
    events = random_events(seed, 400, first_us=START_US - 60 * MINUTE_US, last_us=NOON_US)
    log = EventLog(tmp_path / "log")
    for stream in STREAMS:
        log.append(stream, between(events, 0, START_US)[stream.name])
    store = RedisStore.open(url, read_only=False)
    Materializer(store, [FIRST]).backfill(log, START_US)
    chance, reached = random.Random(seed), []
    with consumers(url, tmp_path), ThreadPoolExecutor(1) as pool:
        producer = Producer(log, events, url, seed)
        producing = pool.submit(producer.run)
        for number, view in enumerate(ADDED, start=1):
            wait_for(lambda enough=4 * number: producer.n_pieces >= enough, "the producer", pause_s=0.002)
            time.sleep(chance.uniform(0.0, 0.05))
            reached.append(Materializer(store, [view]).backfill(log, START_US).watermark_us)
        producer.may_finish.set()
        producing.result()
        wait_for(lambda: n_waiting(store) == 0, "the consumers")
    assert min(reached) > START_US and max(reached) < NOON_US
    views = [FIRST, *ADDED]
    columns, _ = random_requests(seed, 40, first_us=NOON_US, last_us=NOON_US + 1)
    for at_us in (NOON_US, NOON_US + 7 * MINUTE_US):
        served = OnlineReader(store, views).read(columns, at_us)
        assert served.watermark_us == NOON_US
        expected = recompute(views, log, columns, np.full(40, at_us), np.full(40, NOON_US))
        for name, values in expected.items():
            np.testing.assert_array_equal(served.columns[name], values, err_msg=name)
    store.close()


def test_events_that_wait_in_partitions_of_other_versions_are_not_missed(tmp_path: Path) -> None:
    """They were published before the version was declared, so they never come to its own partitions."""
    events = random_events(4, 100, first_us=START_US, last_us=NOON_US)
    middle_us = NOON_US - 60 * MINUTE_US
    log, added = EventLog(tmp_path / "log"), ADDED[2]
    with redis_url() as url:
        store = RedisStore.open(f"{url}?partitions=5", read_only=False)
        for stream in STREAMS:
            log.append(stream, between(events, 0, middle_us)[stream.name])
        Materializer(store, [FIRST]).backfill(log, middle_us)
        later = between(events, middle_us, NOON_US)["departed"]
        log.append(next(stream for stream in STREAMS if stream.name == "departed"), later)
        publisher = RedisPublisher.open(url)
        publisher.publish("departed", later)
        Materializer(store, [added]).backfill(log, middle_us)
        publisher.publish("departed", later.slice(0, 0), NOON_US)
        with consumers(url, tmp_path):
            wait_for(lambda: n_waiting(store) == 0, "the consumers")
        columns, _ = random_requests(4, 40, first_us=NOON_US, last_us=NOON_US + 1)
        served = OnlineReader(store, [FIRST, added]).read(columns, NOON_US)
        expected = recompute([FIRST, added], log, columns, np.full(40, NOON_US), np.full(40, NOON_US))
        for name, values in expected.items():
            np.testing.assert_array_equal(served.columns[name], values, err_msg=name)
        publisher.close()
        store.close()


def test_what_a_filling_noted_is_dropped_when_nothing_can_come_any_more(tmp_path: Path) -> None:
    events = random_events(3, 100, first_us=START_US, last_us=NOON_US)
    log = EventLog(tmp_path / "log")
    for stream in STREAMS:
        log.append(stream, events[stream.name])
    with redis_url() as url:
        store, publisher = RedisStore.open(url, read_only=False), RedisPublisher.open(url)
        Materializer(store, [FIRST]).backfill(log, NOON_US)
        consumer = RedisConsumer.open(url, remember_s=1)
        key = filled_key(0, FIRST.digest)
        for wait_s, is_there in ((0.0, 1), (2.1, 0)):
            time.sleep(wait_s)
            publisher.publish("departed", events["departed"], NOON_US)
            assert consumer.acquire(1.0)
            batch = consumer.poll(1000, 1.0)
            assert batch is not None
            with consumer.applying(batch) as moment:
                Materializer(consumer.store).apply_within(moment, {}, NOON_US, batch.offset)
            assert store.nodes.ask([(0, ("EXISTS", key))]) == [is_there]
        for one in (publisher, consumer, store):
            one.close()
