"""Engines against each other: what agrees is said to agree, and every planted error is met."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from flightdeck.core.errors import ConfigError
from flightdeck.events.log import EventLog
from flightdeck.events.stream import INSTANT, Stream
from flightdeck.features.aggregates import count
from flightdeck.features.materializer import Materializer
from flightdeck.features.store import OnlineStore
from flightdeck.features.stores import open_store
from flightdeck.features.verification import (
    NEVER_SEEN,
    chosen_engines,
    sample_entities,
    verify_offline,
    verify_online,
)
from flightdeck.features.view import FeatureView, OpenItems, windowed
from pipelines.features.views import VIEWS
from tests.event_streams import MINUTE_US, NOON_US, random_events, write_log
from tests.flightdeck.features.declarations import CLICKS, CLOSED, random_table
from tests.redis_server import RedisServer, redis_server


@pytest.fixture
def log(tmp_path: Path) -> EventLog:
    return write_log(tmp_path / "log", random_events(2, 300, first_us=NOON_US - 300 * MINUTE_US, last_us=NOON_US))


@pytest.fixture(scope="module")
def running() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture
def redis(running: RedisServer) -> str:
    with running.client() as client:
        client.flushall()
    return running.url


@pytest.fixture
def store(tmp_path: Path) -> Iterator[OnlineStore]:
    opened = OnlineStore.open(tmp_path / "store", read_only=False)
    yield opened
    opened.close()


def test_the_sample_holds_known_unknown_and_never_seen_entities(log: EventLog, store: OnlineStore) -> None:
    Materializer(store, VIEWS).backfill(log, NOON_US)
    entities = sample_entities(store, VIEWS, log, NOON_US, 40)
    assert set(entities) == {"origin", "carrier", "dest", "tailnum"}
    assert {NEVER_SEEN, "", "EWR"} <= set(entities["origin"])
    assert len({len(values) for values in entities.values()}) == 1
    assert sample_entities(store, VIEWS, log, NOON_US, 40)["origin"].tolist() == entities["origin"].tolist()
    few = sample_entities(store, VIEWS, log, NOON_US, 1)["tailnum"].tolist()
    assert len([name for name in few if name not in ("", NEVER_SEEN)]) == 1


PLANTED = ["none", "a gauge of long ago", "a lost gauge", "an invented state", "an invented key of two parts"]


@pytest.mark.parametrize("planted", PLANTED)
@pytest.mark.parametrize("kind", ["embedded", "redis", "redis in partitions"])
def test_every_planted_error_is_met(tmp_path: Path, planted: str, kind: str, redis: str) -> None:
    """Among 300 keys of today one is wrong that no event of today names."""
    day_us = 24 * 60 * MINUTE_US
    created_us = [NOON_US - 3 * day_us, *(NOON_US - 2000 + place for place in range(2000))]
    users = ["old", *(f"user {place % 300}" for place in range(2000))]
    events = table_of(CLICKS, created_us, users)
    log = EventLog(tmp_path / "log")
    log.append(CLICKS, events)
    log.append(CLOSED, table_of(CLOSED, [NOON_US - 3 * day_us], ["user 1"]))
    gauge = FeatureView("open", ("user",), "clicks", OpenItems(("closed",)), "tests")
    counts = FeatureView("counts", ("user",), "clicks", windowed(count(), over="1h"), "tests")
    pairs = FeatureView("pairs", ("user", "item"), "clicks", windowed(count(), over="1h"), "tests")
    views = [gauge, counts, pairs]
    addresses = {"embedded": str(tmp_path / "store"), "redis": redis, "redis in partitions": f"{redis}?partitions=3"}
    store = open_store(addresses[kind], read_only=False)
    Materializer(store, views).backfill(log, NOON_US)
    with store.writing() as moment:
        if planted == PLANTED[1]:
            (state,) = moment.states(gauge, ["old"])
            assert state is not None
            moment.put(gauge, ["old"], [state[:-8] + b"\x08" + bytes(7)])
        elif planted == PLANTED[2]:
            mark = moment.mark(gauge)
            kept = moment.keys(gauge)
            states = moment.states(gauge, kept)
            moment.clear(gauge)
            lasting = {key: state for key, state in zip(kept, states, strict=True) if key != "old" and state}
            moment.put(gauge, list(lasting), list(lasting.values()))
            moment.set_mark(gauge, mark)
        elif planted in PLANTED[3:]:
            view, key, like = (
                (counts, "ghost", "user 1") if planted == PLANTED[3] else (pairs, "ghost\x1fx", "user 1\x1fx")
            )
            (state,) = moment.states(view, [like])
            assert state is not None
            moment.put(view, [key], [state])
    found = verify_online(store, views, log, sample_entities(store, views, log, NOON_US, 1000))
    wrong = [one.view.partition("@")[0] for one in found if one.mismatches]
    assert wrong == {0: [], 1: ["open"], 2: ["open"], 3: ["counts"], 4: ["pairs"]}[PLANTED.index(planted)]
    store.close()


def table_of(stream: Stream, created_us: list[int], users: list[str]) -> pa.Table:
    """Return events of some users, all of item x."""
    n = len(users)
    table = random_table(np.random.default_rng(0), stream, n, 10)
    columns = {
        "event_id": [f"{stream.name} {place}" for place in range(n)],
        "event_timestamp": pa.array(created_us).cast(INSTANT),
        "created_timestamp": pa.array(created_us).cast(INSTANT),
        "user": users,
        "item": ["x"] * n,
    }
    return stream.cast(pa.table({name: columns.get(name, table[name]) for name in table.column_names}))


@pytest.mark.parametrize("views", [VIEWS, [view for view in VIEWS if not view.entity]], ids=["all", "everything"])
def test_a_fed_store_equals_the_log_and_a_wrong_one_is_found(log: EventLog, store: OnlineStore, views: list) -> None:  # type: ignore[type-arg]
    Materializer(store, views).backfill(log, NOON_US)
    entities = sample_entities(store, views, log, NOON_US, 50)
    found = verify_online(store, views, log, entities)
    assert [dict(one.mismatches) for one in found] == [{}] * len(views)
    assert sum(one.n_known or 0 for one in found) > 0
    with store.writing() as moment:
        keys = ["EWR"] if views[0].entity else [""]
        (state,) = moment.states(views[0], keys)
        (other,) = moment.states(views[0], ["JFK"] if views[0].entity else [""])
        assert state is not None and other is not None
        if views[0].entity:
            moment.put(views[0], keys, [other])
        else:
            moment.clear(views[0])
            moment.set_mark(views[0], moment.mark(views[1]))
    wrong = verify_online(store, views, log, entities)
    assert [one.view for one in wrong if one.mismatches] == [f"{views[0].name}@{views[0].version}"]


def test_another_offline_engine_agrees(log: EventLog) -> None:
    pytest.importorskip("duckdb")
    found = verify_offline("duckdb", VIEWS[:2], log, 50)
    assert [dict(one.mismatches) for one in found] == [{}, {}] and found[0].n_compared == 50 * len(VIEWS[0].columns)


def test_engines_are_named() -> None:
    assert chosen_engines(" numpy, online,online ") == ("online",)
    for text in ("numpy", "numpi,online", ""):
        with pytest.raises(ConfigError):
            chosen_engines(text)
