"""The online store in Redis: the same answers as the embedded one, whole transactions, refusals with advice."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flightdeck.core.errors import ConfigError, StoreUnavailable
from flightdeck.features import view as view_module
from flightdeck.features.aggregates import count, distinct, highest, last
from flightdeck.features.materializer import Materializer
from flightdeck.features.online import OnlineFeatures, OnlineReader
from flightdeck.features.redis_keys import owner_key, state_prefix
from flightdeck.features.redis_moment import EXPIRY_SLACK_S
from flightdeck.features.redis_nodes import LeaseLost, RedisAddress
from flightdeck.features.redis_store import RedisStore
from flightdeck.features.store import OnlineStore
from flightdeck.features.stores import FeatureStore, Mark, open_store
from flightdeck.features.view import FeatureView, OpenItems, windowed
from pipelines.features.views import VIEWS
from tests.event_streams import MINUTE_US, NOON_US, between, random_events, random_requests, write_log
from tests.redis_server import RedisServer, redis_server

START_US = NOON_US - 30 * 60 * MINUTE_US
MIDDLE_US = NOON_US - 3 * 60 * MINUTE_US
RICH = FeatureView(
    "carrier_rich",
    ("carrier",),
    "departed",
    windowed(count(), highest("dep_delay_min"), last("dep_delay_min"), distinct("tailnum", at_most=8), over="30m 3h"),
    owner="test",
)
ALL = (*VIEWS, RICH)


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


@pytest.fixture
def url(server: RedisServer) -> str:
    with server.client() as client:
        client.flushall()
    return server.url


def equal(one: OnlineFeatures, other: OnlineFeatures) -> None:
    assert list(one.columns) == list(other.columns)
    for name, values in one.columns.items():
        np.testing.assert_array_equal(values, other.columns[name], err_msg=name)
    for name, ages in one.ages_s.items():
        np.testing.assert_array_equal(ages, other.ages_s[name], err_msg=name)
    assert (one.at_us, one.watermark_us) == (other.at_us, other.watermark_us)
    np.testing.assert_array_equal(one.rows_us, other.rows_us)


@pytest.mark.parametrize("options", ["", "?partitions=3"])
def test_what_older_code_declared_is_not_fed_and_can_be_forgotten(
    url: str, options: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = replace(VIEWS[0])
    store = RedisStore.open(url + options, read_only=False)
    with store.writing() as moment:
        moment.declare(before)
        moment.put(before, ["EWR"], [b"state"])
        moment.set_mark(before, Mark(5, "departed@1"))
    monkeypatch.setattr(view_module, "SEMANTICS", view_module.SEMANTICS + 1)
    with store.writing() as moment:
        assert moment.declared() == {}
        (outdated,) = moment.outdated()
        assert outdated.digest == before.digest and moment.states(outdated, ["EWR"]) == [b"state"]
        moment.forget(outdated)
    with store.reading() as moment:
        assert moment.outdated() == () and moment.states(before, ["EWR"]) == [None]
    store.close()


@pytest.mark.parametrize("options", ["", "?partitions=5", "?expire=1"])
def test_it_answers_as_the_embedded_store_does(url: str, tmp_path: Path, options: str) -> None:
    events = random_events(11, 150, first_us=START_US, last_us=NOON_US)
    log = write_log(tmp_path / "log", events)
    columns, _ = random_requests(11, 20, first_us=NOON_US, last_us=NOON_US + 1)
    stores: list[FeatureStore] = [
        OnlineStore.open(tmp_path / "store", read_only=False),
        open_store(url + options, read_only=False),
    ]
    for store in stores:
        materializer = Materializer(store, ALL)
        materializer.backfill(log, MIDDLE_US)
        materializer.apply(between(events, MIDDLE_US, NOON_US), NOON_US, "departed@7")
    each_us = NOON_US + np.arange(-3, 17) * 11 * MINUTE_US
    for at_us in (NOON_US, NOON_US + 47 * MINUTE_US, NOON_US + 40 * 60 * MINUTE_US, each_us):
        embedded, redis = (OnlineReader(store, ALL).read(columns, at_us) for store in stores)
        equal(redis, embedded)
        assert redis.offset == "departed@7"
    with stores[0].reading() as one, stores[1].reading() as other:
        assert one.declared() == other.declared()
        assert one.mark(RICH) == other.mark(RICH) == Mark(NOON_US, "departed@7")
        assert one.states(RICH, ["UA", "no such"]) == other.states(RICH, ["UA", "no such"])


def test_clearing_forgets_what_is_not_written_anew(url: str) -> None:
    store = open_store(url + "?partitions=3", read_only=False)
    with store.writing() as moment:
        for view in (RICH, VIEWS[0]):
            moment.declare(view)
            moment.put(view, ["a", "b:c", "d"], [b"x" * 8] * 3)
            moment.set_mark(view, Mark(5))
    with store.writing() as moment:
        moment.clear(RICH)
        assert moment.states(RICH, ["a"]) == [None]
        with pytest.raises(StoreUnavailable, match="holds nothing of feature view carrier_rich"):
            moment.mark(RICH)
        moment.put(RICH, ["b:c"], [b"y" * 8])
        assert moment.states(RICH, ["a", "b:c"]) == [None, b"y" * 8]
        moment.set_mark(RICH, Mark(6))
    with store.reading() as moment:
        assert moment.states(RICH, ["a", "b:c", "d"]) == [None, b"y" * 8, None]
        assert moment.states(VIEWS[0], ["a", "b:c", "d"]) == [b"x" * 8] * 3
    with store.writing() as moment:
        moment.forget(RICH)
    with store.reading() as moment:
        assert list(moment.declared()) == [VIEWS[0].digest]
    with pytest.raises(StoreUnavailable, match="kedro features apply"):
        store.read([(RICH, ["a"])])


def test_an_error_within_a_transaction_writes_nothing(url: str) -> None:
    store = open_store(url, read_only=False)
    with pytest.raises(KeyError), store.writing() as moment:
        moment.put(RICH, ["a"], [b"x" * 8])
        moment.set_mark(RICH, Mark(5))
        raise KeyError
    with pytest.raises(StoreUnavailable, match="holds nothing"):
        store.read([(RICH, ["a"])])


def test_two_writers_at_once_do_not_mix(url: str) -> None:
    one, other = (open_store(url, read_only=False) for _ in range(2))
    with pytest.raises(LeaseLost, match="nothing was written"), one.writing() as moment:
        moment.put(RICH, ["a"], [b"1" * 8])
        moment.set_mark(RICH, Mark(5))
        with other.writing() as faster:
            faster.put(RICH, ["a"], [b"2" * 8])
            faster.set_mark(RICH, Mark(6))
    read = one.read([(RICH, ["a"])])
    assert read.states == [[b"2" * 8]]
    assert read.marks == [Mark(6)]


def test_a_writer_does_not_write_where_a_consumer_holds_the_lease(
    url: str, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flightdeck.features.redis_store._HAND_OVER_S", 0.1)
    store = open_store(url, read_only=False)
    with server.client() as client:
        client.set(owner_key(0), "somebody:1", px=60_000)
        with pytest.raises(LeaseLost, match="consumer somebody:1 feeds it"), store.writing() as moment:
            moment.set_mark(RICH, Mark(5))
        assert not client.exists("fd:pause")


def test_partitions_at_different_moments_say_so(url: str, server: RedisServer) -> None:
    store = RedisStore.open(url + "?partitions=4", read_only=False)
    with store.writing() as moment:
        moment.set_mark(RICH, Mark(100, "x@1"))
    keys = [f"key{number}" for number in range(40)]
    store.bind(2, 1, b"me", 10_000)
    with store.writing() as moment:
        moment.set_mark(RICH, Mark(200, "2:5-0"))
    read = store.read([(RICH, keys)])
    owned = store.owns(RICH, keys)
    assert 0 < owned.sum() < len(keys)
    assert read.marks[0].watermark_us == 100
    assert read.marks[0].offset.split() == ["2:5-0", "ahead/4:2+100"]
    assert read.watermarks_us == [[200 if is_owned else 100 for is_owned in owned]]


def test_idle_states_vanish_only_where_that_is_asked_for(url: str, server: RedisServer) -> None:
    gauge = FeatureView("gauge", (), "scheduled", OpenItems(("departed",)), owner="test")
    with server.client() as client:
        for options, longest_s in (("", -1), ("?expire=1", RICH.look_back_s + EXPIRY_SLACK_S)):
            store = open_store(url + options, read_only=False)
            with store.writing() as moment:
                for view in (RICH, gauge):
                    moment.put(view, ["a"], [b"x" * 8])
            assert client.ttl(state_prefix(0, gauge) + b"a") == -1
            left_s = client.ttl(state_prefix(0, RICH) + b"a")
            assert left_s == -1 if longest_s == -1 else 0 < left_s <= longest_s


def test_a_key_of_another_type_is_named(url: str, server: RedisServer) -> None:
    store = open_store(url, read_only=False)
    with store.writing() as moment:
        moment.set_mark(RICH, Mark(5))
    key = state_prefix(0, RICH) + b"UA"
    with server.client() as client:
        client.rpush(key, "something")
        named = re.escape(f"{key.decode()} holds a list")
        with pytest.raises(StoreUnavailable, match=named), store.writing() as moment:
            moment.states(RICH, ["UA", "DL"])
        client.delete(key)
        client.sadd("fd:{p0}:m:" + VIEWS[0].digest[:32], "something")
        with pytest.raises(StoreUnavailable, match="holds a set"):
            store.read([(VIEWS[0], ["UA"])])


def test_a_reader_finds_nothing_in_an_empty_database(url: str) -> None:
    with pytest.raises(StoreUnavailable, match="nothing in Redis at 127"):
        open_store(url, read_only=True)


def test_the_number_of_partitions_is_fixed_at_first(url: str) -> None:
    open_store(url + "?partitions=3", read_only=False).close()
    assert RedisStore.open(url, read_only=True).n_partitions == 3
    with pytest.raises(StoreUnavailable, match="it has 3 partitions, the address says 4"):
        open_store(url + "?partitions=4", read_only=False)


def test_without_a_server_it_says_so_and_does_not_hang() -> None:
    with redis_server() as server:
        store = open_store(server.url, read_only=False)
        with store.writing() as moment:
            moment.set_mark(RICH, Mark(5))
        reader = open_store(server.url, read_only=True)
        server.kill()
        for attempt in (
            lambda: reader.read([(RICH, ["UA"])]),
            lambda: open_store(server.url, read_only=True),
            lambda: Materializer(store, [RICH]).apply({}, 6),
        ):
            with pytest.raises(StoreUnavailable, match="see that the server runs"):
                attempt()
        server.start()
        assert reader.read([(RICH, ["UA"])]).marks == [Mark(5)]


def test_a_server_that_does_not_answer_in_time_is_given_up(url: str, server: RedisServer) -> None:
    open_store(url, read_only=False).close()
    reader = open_store(url + "?read_ms=20", read_only=True)
    with server.client() as client:
        client.execute_command("CLIENT", "PAUSE", 300, "ALL")
    with pytest.raises(StoreUnavailable, match="Timeout"):
        reader.read([(RICH, ["UA"])])


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("redis://host/0?partition=3", "did you mean 'partitions'"),
        ("redis://host:port/0", "reading the address"),
        ("redis://host/0?expire=yes", "reading the address"),
        ("redis+cluster://host:1/3", "database 3"),
        ("redis://host/0?partitions=100000", "100000 partitions"),
    ],
)
def test_a_wrong_address_is_refused(address: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RedisAddress.parse(address)


def test_a_password_is_not_told() -> None:
    address = RedisAddress.parse("rediss://me:secret@host:7000/2")
    assert str(address) == "host:7000"
    assert dict(address.login) == {"db": 2, "ssl": True, "username": "me", "password": "secret"}
