"""The online store in a real Redis Cluster of three nodes: the same answers, one transaction per partition."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from flightdeck.core.errors import ConfigError, StoreUnavailable
from flightdeck.features.materializer import Materializer
from flightdeck.features.online import OnlineReader
from flightdeck.features.redis_keys import stream_key
from flightdeck.features.redis_store import RedisStore
from flightdeck.features.redis_stream import RedisConsumer
from flightdeck.features.store import OnlineStore
from flightdeck.features.stores import open_store
from pipelines.features.views import VIEWS
from tests.event_streams import NOON_US, between, random_events, random_requests, write_log
from tests.flightdeck.features.test_redis_store import ALL, MIDDLE_US, START_US, equal
from tests.flightdeck.features.test_redis_stream import (
    declare,
    follow,
    publish_all,
    require_all_counted_once,
    some_events,
)
from tests.redis_server import redis_cluster_url


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    with redis_cluster_url() as url:
        yield url


@pytest.fixture
def url(cluster: str) -> str:
    store = RedisStore.open(cluster, read_only=False)
    for partition in range(200):
        store.nodes.of_partition(partition).flushall()
    store.close()
    return cluster + "?partitions=6"


def test_it_answers_as_the_embedded_store_does(url: str, tmp_path: Path) -> None:
    events = random_events(21, 150, first_us=START_US, last_us=NOON_US)
    log = write_log(tmp_path / "log", events)
    columns, _ = random_requests(21, 20, first_us=NOON_US, last_us=NOON_US + 1)
    embedded = OnlineStore.open(tmp_path / "store", read_only=False)
    cluster = open_store(url, read_only=False)
    for store in (embedded, cluster):
        materializer = Materializer(store, ALL)
        materializer.backfill(log, MIDDLE_US)
        materializer.apply(between(events, MIDDLE_US, NOON_US), NOON_US)
    readers = [OnlineReader(store, ALL) for store in (open_store(url, read_only=True), embedded)]
    equal(readers[0].read(columns, NOON_US + 5), readers[1].read(columns, NOON_US + 5))
    with cluster.writing() as moment:
        moment.forget(VIEWS[0])
    with pytest.raises(StoreUnavailable, match=f"holds nothing of feature view {VIEWS[0].name}"):
        readers[0].read(columns, NOON_US + 5)


def test_states_lie_on_every_node_and_consumers_share_them(url: str, tmp_path: Path) -> None:
    store = declare(url)
    events = some_events(22)
    publish_all(url, events)
    one, other = (RedisConsumer.open(url, lease_s=2.0) for _ in range(2))
    follow(one)
    follow(other) if other.acquire(0.0) else None
    one.close()
    follow(other)
    require_all_counted_once(url, tmp_path, events)
    clients = {id(client): client for client in (store.nodes.of_partition(p) for p in range(6))}
    assert len(clients) == 3
    assert all(client.keys("fd:{p*}:s:*") for client in clients.values())
    other.close()


def test_a_database_number_is_refused() -> None:
    with pytest.raises(ConfigError, match="database 2"):
        open_store("redis+cluster://127.0.0.1:7000/2", read_only=True)


def test_without_a_cluster_it_says_so() -> None:
    with redis_cluster_url() as url:
        declare(url)
        reader = OnlineReader(open_store(url, read_only=True), VIEWS[:1])
        writer = RedisStore.open(url, read_only=False)
    columns, _ = random_requests(1, 3, first_us=NOON_US, last_us=NOON_US + 1)
    with pytest.raises(StoreUnavailable, match="see that the server runs"):
        reader.read(columns, NOON_US)
    with pytest.raises(StoreUnavailable, match="see that the server runs"), writer.writing():
        pass
    with pytest.raises(StoreUnavailable, match="see that the server runs"):
        open_store(url, read_only=True)


def test_an_error_on_one_node_leaves_no_answer_behind_for_the_next_question(url: str) -> None:
    store = declare(url)
    nodes, wrong = store.nodes, 0
    for partition in range(6):
        nodes.of_partition(partition).execute_command("SET", stream_key(partition), str(partition))
    with pytest.raises(StoreUnavailable, match="WRONGTYPE"), nodes.asking("testing"):
        nodes.ask([(p, ("XLEN" if p == wrong else "GET", stream_key(p))) for p in range(6)])
    for _ in range(3):
        answers = nodes.ask([(p, ("GET", stream_key(p))) for p in (5, 0, 3, 1, 4, 2)])
        assert answers == [b"5", b"0", b"3", b"1", b"4", b"2"]
    store.close()
