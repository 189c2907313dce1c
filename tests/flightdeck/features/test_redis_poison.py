"""Whatever lies in a Redis stream, the feed goes on: what is wrong becomes a dead letter, its neighbours count."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flightdeck.core.clock import from_us
from flightdeck.events.dead_letters import DeadLetters
from flightdeck.events.delivery import Reception
from flightdeck.events.incoming import Rules, check_events
from flightdeck.events.schema_history import SchemaHistory
from flightdeck.events.stream import INSTANT
from flightdeck.features.aggregates import count, mean
from flightdeck.features.follower import Follower, Pace
from flightdeck.features.online import OnlineReader
from flightdeck.features.redis_entry import decode, encode
from flightdeck.features.redis_keys import stream_key
from flightdeck.features.redis_store import RedisStore
from flightdeck.features.redis_stream import RedisConsumer
from flightdeck.features.stores import Mark
from flightdeck.features.view import FeatureView, windowed
from tests.flightdeck.features.declarations import NOON_US, SECOND_US
from tests.flightdeck.features.test_follow_log import BEGUN, table_of
from tests.redis_server import RedisServer, redis_server

VIEWS = (
    FeatureView("added", ("key",), "begun", windowed(count(), mean("size"), over="1h"), "tests"),
    FeatureView("counted", (), "begun", windowed(count(), over="1h"), "tests"),
)
GOOD = table_of(BEGUN, [NOON_US + 5], 0, key=["a"], number=[1], size=[1.0])
DAMAGED = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(bytes(4) + b"\1\0\0\0"), pa.py_buffer(b"\xff")])
HOUR_US = 3600 * SECOND_US


def instants(us: int, kind: pa.DataType = INSTANT) -> pa.Array:
    return pa.array([us], pa.int64()).cast(kind)


def with_column(name: str, values: pa.Array) -> pa.Table:
    """Return the good event, with one column of other values and an id of its own."""
    table = GOOD.set_column(0, "event_id", pa.array(["odd"]))
    return table.set_column(table.column_names.index(name), name, values)


def row(**changed: Any) -> list[Any]:
    """Return the good event as JSON has it, with some changes."""
    plain = {**GOOD.to_pylist()[0], "event_timestamp": NOON_US + 5, "created_timestamp": NOON_US + 5, "event_id": "odd"}
    return encode("begun", [{**plain, **changed}], None)


def arrow(table: pa.Table) -> list[Any]:
    return encode("begun", table, None)


def deep(n: int) -> bytes:
    return b"[" * n + b"]" * n


DEAD = {
    "event time beyond the calendar": arrow(with_column("event_timestamp", instants(2**62))),
    "known beyond the calendar": arrow(with_column("created_timestamp", instants(2**62))),
    "known before all time": arrow(with_column("created_timestamp", instants(-(2**63) + 1))),
    "seconds that overflow": arrow(with_column("created_timestamp", instants(2**60, pa.timestamp("s", tz="UTC")))),
    "a column twice": arrow(pa.Table.from_arrays([*GOOD.columns, GOOD["key"]], [*GOOD.column_names, "key"])),
    "the id twice": arrow(pa.Table.from_arrays([*GOOD.columns, GOOD["event_id"]], [*GOOD.column_names, "event_id"])),
    "text that is none": arrow(with_column("key", DAMAGED)),
    "bytes as key": arrow(with_column("key", pa.array([b"\xff"]))),
    "lists as key": arrow(with_column("key", pa.array([["a"]]))),
    "views of lists": arrow(with_column("key", pa.array([["a"]], pa.list_view(pa.string())))),
    "run ends": arrow(with_column("key", pa.RunEndEncodedArray.from_arrays([1], ["a"]))),
    "no time zone": arrow(with_column("created_timestamp", instants(NOON_US, pa.timestamp("us")))),
    "a number of 70 bits": row(number=2**70),
    "time of 100 bits": encode("begun", [{"event_id": "j", "created_timestamp": 10**15}], None),
    "scalars": encode("begun", [1, None, "x", [1], {}], None),
    "lone surrogate": ["s", "begun", "f", b"json", "d", b'[{"event_id": "\\ud800", "key": "\\udfff"}]'],
    "nested deeply": ["s", "begun", "f", b"json", "d", deep(100_000)],
    "nested less deeply": ["s", "begun", "f", b"json", "d", b'[{"key": ' + deep(700) + b"}]"],
    "no rows": ["s", "begun", "f", b"arrow", "d", b"\xff\xff\xff\xff\x10\0\0\0rubbish of sixteen"],
}
COUNTED = {
    "a fraction where whole numbers are added up": row(size=1.5),
    "too large to be added up": row(size=2.0**60),
    "infinite": arrow(with_column("size", pa.array([float("inf")]))),
    "text in views": arrow(with_column("key", pa.array(["a"], pa.string_view()))),
    "nanoseconds": arrow(with_column("created_timestamp", instants(NOON_US * 1000, pa.timestamp("ns", tz="UTC")))),
    "another time zone": arrow(
        with_column("created_timestamp", instants(NOON_US, pa.timestamp("us", tz="Europe/Rome")))
    ),
    "time as a number, newer than the watermark": [
        *encode("begun", with_column("created_timestamp", pa.array([NOON_US + 9])), 1)
    ],
    "absurd counts": ["s", "begun", "f", b"json", "d", row()[5], "n", b"9" * 30, "w", b"9" * 30],
    "a watermark in the far future": ["s", "begun", "f", b"json", "d", row()[5], "n", 2**62, "w", 2**62],
}


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as running:
        yield running


class At:
    """A clock that stands still."""

    def __init__(self, us: int) -> None:
        self.us = us

    def now(self) -> datetime:
        """Return what it shows."""
        return from_us(self.us)


def started(server: RedisServer, watermark_us: int = NOON_US) -> RedisStore:
    """Return an empty store that feeds the views."""
    with server.client() as client:
        client.flushall()
    store = RedisStore.open(server.url, read_only=False)
    with store.writing() as moment:
        for view in VIEWS:
            moment.declare(view)
            moment.set_mark(view, Mark(watermark_us))
    return store


def feed(server: RedisServer, folder: Path, now_us: int) -> tuple[int, int]:
    """Feed all that waits; return how many events were applied and how many became dead letters."""
    consumer = RedisConsumer.open(server.url)
    reception = Reception(DeadLetters(folder / "dead"), SchemaHistory(folder))
    pace = Pace(max_events=100, max_wait_s=0.05)
    totals = Follower(consumer, consumer.store, [BEGUN], reception, pace=pace, clock=At(now_us)).run(until_idle=True)
    assert totals.n_retries == 0
    return totals.n_applied, totals.n_dead


def publish(server: RedisServer, entry: list[Any]) -> None:
    """Add an entry between two good events."""
    with server.client() as client:
        for number, fields in enumerate((arrow(GOOD), entry, arrow(GOOD.set_column(0, "event_id", pa.array(["z"]))))):
            assert client.execute_command("XADD", stream_key(0), "*", *fields), number


@pytest.mark.parametrize("name", DEAD)
def test_a_poison_entry_is_a_dead_letter_and_its_neighbours_count(
    server: RedisServer, tmp_path: Path, name: str
) -> None:
    store = started(server)
    publish(server, DEAD[name])
    n_applied, n_dead = feed(server, tmp_path, NOON_US + SECOND_US)
    assert n_applied == 2 and n_dead >= 1
    letters = DeadLetters(tmp_path / "dead").waiting("begun")
    assert len(letters) == n_dead and all(letter.reason and letter.row for letter in letters)
    read = OnlineReader(store, VIEWS).read({"key": ["a"]}, NOON_US + SECOND_US)
    assert read.columns["counted__count_60m"].tolist() == [2]
    assert feed(server, tmp_path, NOON_US + SECOND_US) == (0, 0)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (encode("begin", GOOD, None), "no stream 'begin' is declared (did you mean 'begun'?)"),
        (encode("../begun", [{"event_id": "a"}], None), "no stream '../begun' is declared"),
        (["f", b"json", "d", b"[{}]"], "no stream '' is declared"),
    ],
)
def test_events_of_a_stream_that_nobody_declares_are_kept(
    server: RedisServer, tmp_path: Path, entry: list[Any], said: str
) -> None:
    started(server)
    publish(server, entry)
    assert feed(server, tmp_path, NOON_US + SECOND_US) == (2, 1)
    letters = DeadLetters(tmp_path / "dead")
    assert letters.streams() == ["undeclared"]
    (letter,) = letters.waiting("undeclared")
    assert letter.reason.startswith(said) and letter.row.startswith("{") and letter.offset
    assert repr(letter.named) in said


@pytest.mark.parametrize("name", COUNTED)
def test_an_odd_event_counts(server: RedisServer, tmp_path: Path, name: str) -> None:
    store = started(server)
    publish(server, COUNTED[name])
    assert feed(server, tmp_path, NOON_US + SECOND_US) == (3, 0)
    read = OnlineReader(store, VIEWS).read({"key": ["a"]}, NOON_US + SECOND_US)
    assert read.columns["counted__count_60m"].tolist() == [3]
    assert read.columns["added__count_60m"].tolist() == [3]
    assert read.columns["added__mean_size_60m"].tolist() == [1]
    assert read.watermark_us <= NOON_US + SECOND_US


def test_a_clock_that_is_behind_makes_no_event_a_dead_letter(server: RedisServer, tmp_path: Path) -> None:
    store = started(server, watermark_us=NOON_US + HOUR_US)
    times = [NOON_US + minute * 60 * SECOND_US for minute in (10, 59, 60)]
    with server.client() as client:
        client.execute_command("XADD", stream_key(0), "*", *arrow(table_of(BEGUN, times, 0, key=["a"] * 3)))
    assert feed(server, tmp_path, NOON_US) == (3, 0)
    later = table_of(BEGUN, [NOON_US + 2 * HOUR_US], 9, key=["a"])  # ahead of the store and of the clock
    with server.client() as client:
        client.execute_command("XADD", stream_key(0), "*", *arrow(later))
    assert feed(server, tmp_path, NOON_US) == (0, 1)
    read = OnlineReader(store, VIEWS).read({"key": ["a"]}, NOON_US + HOUR_US)
    assert read.columns["counted__count_60m"].tolist() == [3]


CELLS = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(), st.text(max_size=4)),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
NAMES = st.one_of(st.sampled_from(BEGUN.schema.names), st.text(max_size=3))
ARROWS = st.one_of(
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=1).flatmap(
        lambda values: st.sampled_from(
            [pa.timestamp(unit, tz=tz) for unit in ("s", "ms", "us", "ns") for tz in (None, "UTC", "Mars/Dome")]
            + [pa.int64(), pa.date64(), pa.time64("us"), pa.duration("us"), pa.duration("s")]
        ).map(lambda kind: pa.array(values, pa.int64()).cast(kind))
    ),
    CELLS.map(lambda cell: pa.array([cell if isinstance(cell, str | float | bool) else None])),
    st.binary(max_size=4).map(lambda content: pa.array([content])),
)


def require_balanced(fields: list[Any]) -> None:
    """Decode and check an entry: each of its rows is accepted or dead, nothing is raised."""
    plain = {
        str(name).encode(): value if isinstance(value, bytes) else str(value).encode()
        for name, value in zip(fields[::2], fields[1::2], strict=True)
    }
    entry = decode(b"1-0", plain)
    incoming = check_events(BEGUN, entry.rows, rules=Rules(now_us=NOON_US))
    assert incoming.accepted.num_rows + len(incoming.dead) == len(entry.rows)
    assert all(letter.key for letter in incoming.dead)


@given(rows=st.lists(st.one_of(CELLS, st.dictionaries(NAMES, CELLS, max_size=9)), max_size=4))
def test_whatever_json_holds_is_accepted_or_dead(rows: list[Any]) -> None:
    require_balanced(["s", "begun", "f", b"json", "d", msgspec.json.encode(rows)])


@given(content=st.binary(max_size=200), kind=st.sampled_from([b"json", b"arrow", b"?"]), number=st.binary(max_size=22))
def test_whatever_bytes_lie_in_an_entry_are_accepted_or_dead(content: bytes, kind: bytes, number: bytes) -> None:
    require_balanced(["s", "begun", "f", kind, "d", content, "n", number, "w", number])


@given(changed=st.dictionaries(NAMES, ARROWS, max_size=4))
def test_whatever_types_a_table_has_it_is_accepted_or_dead(changed: dict[str, pa.Array]) -> None:
    columns = dict(zip(GOOD.column_names, GOOD.columns, strict=True))
    require_balanced(arrow(pa.table({**columns, **changed})))
