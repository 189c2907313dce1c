"""Following Redis streams: an event counts once, whatever is killed, paused, published twice or restarted when."""

import multiprocessing
import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from flightdeck.core.errors import StoreUnavailable
from flightdeck.features.materializer import Applied, Materializer
from flightdeck.features.online import OnlineReader
from flightdeck.features.redis_keys import seen_key, stream_key
from flightdeck.features.redis_publish import RedisPublisher
from flightdeck.features.redis_store import RedisStore
from flightdeck.features.redis_stream import GROUP, RedisConsumer
from flightdeck.features.store import OnlineStore
from flightdeck.features.stores import Mark, open_store
from flightdeck.features.streaming import Batch, BatchOutdated, StreamUnavailable
from flightdeck.features.view import FeatureView
from pipelines.features.views import VIEWS
from tests.event_streams import MINUTE_US, NOON_US, random_events, random_requests
from tests.redis_server import RedisServer, redis_server, wait_for

START_US = NOON_US - 4 * 60 * MINUTE_US
BEFORE_US = START_US - MINUTE_US
FEW = tuple(view for view in VIEWS if view.name in ("origin_departures", "carrier_overdue", "aircraft_departed"))
SHORT_S = 0.3


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


@pytest.fixture
def url(server: RedisServer) -> str:
    with server.client() as client:
        client.flushall()
    return server.url


def declare(url: str, views: tuple[FeatureView, ...] = FEW) -> RedisStore:
    """Make a store that feeds some views from the beginning."""
    store = RedisStore.open(url, read_only=False)
    with store.writing() as moment:
        for view in views:
            moment.declare(view)
            moment.set_mark(view, Mark(BEFORE_US))
    return store


def publish_all(url: str, events: dict[str, pa.Table], n_rows: int = 5) -> None:
    """Publish events in small entries, the streams in turn, the last entry with the watermark."""
    publisher = RedisPublisher.open(url)
    longest = max(table.num_rows for table in events.values())
    for start in range(0, longest, n_rows):
        for stream, table in events.items():
            publisher.publish(stream, table.slice(start, n_rows))
    publisher.publish("departed", events["departed"].slice(0, 0), NOON_US)
    publisher.close()


def newest_us(events: dict[str, pa.Table]) -> int:
    return max(int(table["created_timestamp"].cast(pa.int64()).to_numpy().max()) for table in events.values())


def apply(consumer: RedisConsumer, batch: Batch) -> Applied:
    """Apply a batch as the follower does, every event accepted."""
    events = {name: rows for name, rows in batch.events.items() if isinstance(rows, pa.Table)}
    watermark_us = batch.watermark_us or (newest_us(events) if events else 0)
    with consumer.applying(batch) as moment:
        return Materializer(consumer.store).apply_within(moment, events, watermark_us, batch.offset)


def follow(consumer: RedisConsumer, max_events: int = 1000) -> int:
    """Apply all that waits; return how many events that were."""
    n_events = 0
    assert consumer.acquire(20.0)
    while (batch := consumer.poll(max_events, 0.05)) is not None:
        n_events += apply(consumer, batch).n_events
    return n_events


def follow_for_ever(url: str) -> None:
    """Be a consumer process, to be killed."""
    consumer = RedisConsumer.open(url, lease_s=SHORT_S)
    while True:
        if consumer.acquire(1.0) and (batch := consumer.poll(7, 0.1)) is not None:
            try:
                apply(consumer, batch)
            except BatchOutdated:
                continue


def require_all_counted_once(url: str, folder: Path, events: dict[str, pa.Table]) -> None:
    """Compare with an embedded store that got the events at once."""
    columns, _ = random_requests(3, 20, first_us=NOON_US, last_us=NOON_US + 1)
    embedded = OnlineStore.open(folder / "embedded", read_only=False)
    with embedded.writing() as moment:
        for view in FEW:
            moment.declare(view)
            moment.set_mark(view, Mark(BEFORE_US))
    Materializer(embedded).apply(events, NOON_US)
    expected = OnlineReader(embedded, FEW).read(columns, NOON_US)
    served = OnlineReader(open_store(url, read_only=True), FEW).read(columns, NOON_US)
    for name, values in expected.columns.items():
        np.testing.assert_array_equal(served.columns[name], values, err_msg=name)
    assert served.watermark_us == NOON_US


def some_events(seed: int, n_events: int = 200) -> dict[str, pa.Table]:
    events = random_events(seed, n_events, first_us=START_US, last_us=NOON_US)
    return {stream: events[stream] for stream in ("scheduled", "departed", "cancelled")}


@pytest.mark.parametrize("options", ["?partitions=1", "?partitions=3"])
def test_killed_ten_times_every_event_counts_once(url: str, server: RedisServer, tmp_path: Path, options: str) -> None:
    chance = random.Random(5)
    declare(url + options).close()
    events = some_events(5)
    publish_all(url, events)
    publish_all(url, {name: table.slice(20, 60) for name, table in events.items()})  # once more
    partitions = RedisStore.open(url, read_only=True).n_partitions
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(["tests.flightdeck.features.test_redis_stream"])
    with server.client() as client:

        def n_waiting() -> int:
            return sum(client.xlen(stream_key(partition)) for partition in range(partitions))

        full = n_waiting()
        for number in range(10):
            until = full * (10 - number) // 11 + chance.randrange(-3, 4)
            worker = processes.Process(target=follow_for_ever, args=(url,), daemon=True)
            worker.start()
            wait_for(lambda until=until: n_waiting() <= until, "the consumer's progress", pause_s=0.001)
            worker.kill()
            worker.join()
    consumer = RedisConsumer.open(url, lease_s=SHORT_S)
    follow(consumer)
    wait_for(
        lambda: (follow(consumer), consumer.lag().n_events == 0)[1] and n_waiting_of(server, partitions) == 0, "all"
    )
    require_all_counted_once(url, tmp_path, events)


def n_waiting_of(server: RedisServer, n_partitions: int) -> int:
    with server.client() as client:
        return sum(client.xlen(stream_key(partition)) for partition in range(n_partitions))


def test_what_a_dead_consumer_had_read_is_taken_over(url: str, server: RedisServer, tmp_path: Path) -> None:
    declare(url)
    events = some_events(6, 40)
    publish_all(url, events)
    dead, heir = (RedisConsumer.open(url, lease_s=SHORT_S) for _ in range(2))
    assert dead.acquire(1.0)
    batch = dead.poll(50, 1.0)
    assert batch is not None
    assert not heir.acquire(0.0)
    assert heir.acquire(20.0)  # the lease ends by itself
    assert follow(heir) == sum(table.num_rows for table in events.values())
    with server.client() as client:
        assert client.xpending(stream_key(0), GROUP)["pending"] == 0
        assert client.xlen(stream_key(0)) == 0
    require_all_counted_once(url, tmp_path, events)


@pytest.mark.parametrize("moment_of_takeover", ["before the transaction", "within the transaction"])
def test_an_owner_that_was_paused_writes_nothing_any_more(url: str, tmp_path: Path, moment_of_takeover: str) -> None:
    declare(url)
    events = some_events(7, 40)
    publish_all(url, events)
    paused, heir = (RedisConsumer.open(url, lease_s=SHORT_S) for _ in range(2))
    assert paused.acquire(1.0)
    batch = paused.poll(50, 1.0)
    assert batch is not None
    if moment_of_takeover == "before the transaction":
        follow(heir)
    with pytest.raises(BatchOutdated), paused.applying(batch) as moment:
        Materializer(paused.store).apply_within(
            moment, {n: r for n, r in batch.events.items() if isinstance(r, pa.Table)}, NOON_US, batch.offset
        )
        if moment_of_takeover == "within the transaction":
            follow(heir)
    require_all_counted_once(url, tmp_path, events)
    assert not paused.acquire(0.0)
    heir.close()
    assert paused.acquire(5.0)
    assert follow(paused) == 0


def test_consumers_share_the_partitions(url: str, tmp_path: Path) -> None:
    declare(url + "?partitions=4")
    one, other = (RedisConsumer.open(url, lease_s=SHORT_S) for _ in range(2))
    assert one.acquire(1.0)
    assert one.partitions == (0, 1, 2, 3)

    def is_fair() -> bool:
        return [one.acquire(0.0), other.acquire(0.0)] == [True, True] and len(one.partitions) == 2

    wait_for(is_fair, "a fair share")
    events = some_events(8)
    publish_all(url, events)
    wait_for(lambda: (follow(one) + follow(other), one.lag().n_events + other.lag().n_events == 0)[1], "all events")
    one.close()
    assert other.acquire(20.0)
    wait_for(lambda: other.acquire(0.0) and len(other.partitions) == 4, "the rest of the partitions")
    require_all_counted_once(url, tmp_path, events)


def test_an_event_that_is_published_twice_counts_once(url: str, server: RedisServer, tmp_path: Path) -> None:
    declare(url)
    events = some_events(9, 60)
    consumer = RedisConsumer.open(url)
    publish_all(url, events)
    assert follow(consumer) == sum(table.num_rows for table in events.values())
    publish_all(url, events)
    assert follow(consumer) == 0
    require_all_counted_once(url, tmp_path, events)
    with server.client() as client:
        (kept,) = client.keys("fd:{p0}:e:*")
        assert 7200 < client.ttl(kept) <= 24 * 3600
        assert kept.startswith(seen_key(0, 0)[:-1])


def test_a_rejected_event_may_come_again_mended(url: str) -> None:
    declare(url)
    events = some_events(10, 10)
    consumer = RedisConsumer.open(url)
    publisher = RedisPublisher.open(url)
    for n_accepted in (4, 6):
        publisher.publish("departed", events["departed"])
        assert consumer.acquire(1.0)
        batch = consumer.poll(100, 1.0)
        assert batch is not None
        rows = batch.events["departed"]
        assert isinstance(rows, pa.Table)
        accepted = {"departed": rows.slice(0, n_accepted)}
        with consumer.applying(batch) as moment:
            consumer.remember(moment, accepted)
            done = Materializer(consumer.store).apply_within(moment, accepted, NOON_US, batch.offset)
        assert done.n_events == n_accepted


def test_a_restarted_server_goes_on_where_it_was(tmp_path: Path) -> None:
    events = some_events(12, 60)
    with redis_server() as server:
        declare(server.url)
        publish_all(server.url, events)
        consumer = RedisConsumer.open(server.url, lease_s=SHORT_S)
        assert consumer.acquire(1.0)
        batch = consumer.poll(30, 1.0)
        assert batch is not None
        apply(consumer, batch)
        lost = consumer.poll(30, 1.0)
        assert lost is not None
        server.kill()
        with pytest.raises(StoreUnavailable, match="see that the server runs"):
            apply(consumer, lost)
        with pytest.raises(StoreUnavailable):
            consumer.lag()
        server.start()
        wait_for(lambda: (follow(consumer), consumer.lag().n_events == 0)[1], "all events")
        require_all_counted_once(server.url, tmp_path, events)
        consumer.close()


def test_a_full_stream_refuses_more(url: str) -> None:
    declare(url)
    events = some_events(13, 20)
    publisher = RedisPublisher.open(url, max_backlog=2)
    for _ in range(2):
        publisher.publish("departed", events["departed"])
    with pytest.raises(StreamUnavailable, match="2 entries wait in partition 0, the limit is 2; nothing was published"):
        publisher.publish("departed", events["departed"], timeout_s=0.05)
    consumer = RedisConsumer.open(url)
    assert consumer.acquire(1.0)
    assert consumer.lag().n_events == 40
    follow(consumer)
    assert consumer.lag().n_events == 0
    assert publisher.publish("departed", events["departed"]) == 1


def test_rows_of_other_producers_and_rubbish_are_delivered_for_the_contract(url: str, server: RedisServer) -> None:
    declare(url)
    key = stream_key(0)
    with server.client() as client:
        client.xadd(key, {"s": "departed", "f": "json", "d": b'[{"event_id": "a"}, 7]'})
        client.xadd(key, {"s": "departed", "f": "arrow", "d": b"no arrow"})
        client.xadd(key, {"s": "departed", "f": "xml", "d": b"<a/>"})
        client.xadd(key, {"s": "departed", "f": "json", "d": b"{"})
        client.xadd(key, {"what": "is this"})
    consumer = RedisConsumer.open(url)
    assert consumer.acquire(1.0)
    batch = consumer.poll(100, 1.0)
    assert batch is not None
    rows = batch.events["departed"]
    assert isinstance(rows, list)
    assert rows[:2] == [{"event_id": "a"}, 7]
    assert [type(row) for row in rows[2:]] == [str, str, str]
    assert [place.partition("#")[2] for place in batch.offsets["departed"]] == ["0", "1", "0", "0", "0"]
    assert batch.watermark_us is None
    apply(consumer, batch)
    assert consumer.poll(100, 0.0) is None


def test_a_batch_that_was_not_committed_comes_again(url: str) -> None:
    declare(url)
    publish_all(url, some_events(14, 10))
    consumer = RedisConsumer.open(url)
    assert consumer.acquire(1.0)
    first, again = consumer.poll(10, 1.0), consumer.poll(10, 1.0)
    assert first is not None
    assert again is not None
    assert first.offset == again.offset
    with pytest.raises(KeyError), consumer.applying(first):
        raise KeyError
    third = consumer.poll(10, 1.0)
    assert third is not None
    assert third.offset == first.offset


def test_consumers_pause_as_long_as_a_writer_of_everything_works(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flightdeck.features.redis_store._PAUSE_S", SHORT_S)
    declare(url, FEW[:1])
    consumer = RedisConsumer.open(url, lease_s=SHORT_S)
    assert consumer.acquire(1.0)
    store, until = RedisStore.open(url, read_only=False), time.monotonic() + 4 * SHORT_S
    with ThreadPoolExecutor(1) as other:

        def try_on() -> list[bool]:
            return [consumer.acquire(SHORT_S / 10) for _ in range(1000) if time.monotonic() < until]

        with store.writing() as moment:
            tried = other.submit(try_on)
            moment.set_mark(FEW[0], Mark(NOON_US))
            took = tried.result()
    assert len(took) > 3 and not any(took)
    assert consumer.acquire(5.0)
    with store.reading() as moment:
        assert moment.mark(FEW[0]) == Mark(NOON_US)


def test_a_new_version_is_filled_while_consumers_pause(url: str) -> None:
    declare(url, FEW[:1])
    consumer = RedisConsumer.open(url, lease_s=SHORT_S)
    assert consumer.acquire(1.0)
    declare(url, FEW[1:])  # returns when the lease has ended or was given back
    publish_all(url, some_events(15, 10))
    assert follow(consumer) > 0
    with consumer.store.reading() as moment:
        assert {moment.mark(view).watermark_us for view in FEW} == {NOON_US}
