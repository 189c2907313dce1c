"""Events at the door: accepted or dead with a reason, none lost; good ones unchanged."""

import json
import math
import re
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flightdeck.events.incoming import Rules, check_events
from pipelines.ingestion.streams import DEPARTED, SCHEDULED, WEATHER_OBSERVED
from tests.event_streams import MINUTE_US, NOON_US, random_events

TABLES = random_events(1, 50, first_us=NOON_US - 60 * MINUTE_US, last_us=NOON_US)
DEPARTURES = TABLES["departed"]
RULES = Rules(now_us=NOON_US)


def decoded(table: pa.Table) -> list[dict[str, Any]]:
    """Return rows as JSON gives them."""
    rows: list[dict[str, Any]] = json.loads(json.dumps(table.to_pylist(), default=lambda value: value.isoformat()))
    return rows


@pytest.mark.parametrize("form", [lambda table: table, pa.Table.to_pylist, decoded], ids=["table", "rows", "json"])
@pytest.mark.parametrize("stream", [DEPARTED, SCHEDULED, WEATHER_OBSERVED], ids=lambda stream: stream.name)
def test_good_events_pass_as_they_are(form: Callable[[pa.Table], Any], stream: Any) -> None:
    table = TABLES[stream.name]
    incoming = check_events(stream, form(table), rules=RULES)
    assert (incoming.dead, incoming.changes) == ([], [])
    assert incoming.accepted.schema == stream.schema
    assert incoming.accepted.to_pylist() == table.to_pylist()


BAD = [
    ("dep_delay_min", "1.5", "is str '1.5', int64 is promised"),
    ("dep_delay_min", 1.5, "is float 1.5, int64 is promised"),
    ("dep_delay_min", True, "is bool True, int64 is promised"),
    ("dep_delay_min", 2**70, "is no int64"),
    ("dep_delay_min", [1], r"is list \[1\], int64 is promised"),
    ("event_id", None, "event_id is null"),
    ("event_id", "", "event_id is empty"),
    ("event_id", 7, "is int 7, string is promised"),
    ("origin", "A\x1fB", "holds the separator"),
    ("origin", "x" * 513, "longer than 512"),
    ("origin", "\ud800", "is no string"),
    ("created_timestamp", "2013-09-12T10:00:00", "is no timestamp"),
    ("created_timestamp", "yesterday", "is no timestamp"),
    ("created_timestamp", "1969-12-31T23:59:59Z", "absurdly early"),
    ("created_timestamp", NOON_US // 1_000_000, "absurdly early"),
    ("created_timestamp", NOON_US + 2 * MINUTE_US, "lies in the future"),
    ("created_timestamp", 10**30, "is no timestamp"),
    ("event_timestamp", "2015-01-01T00:00:00Z", "lies long after created_timestamp"),
    ("event_timestamp", None, "event_timestamp is null"),
]


@pytest.mark.parametrize(("name", "value", "reason"), BAD)
def test_a_bad_event_is_a_dead_letter_and_the_others_pass(name: str, value: object, reason: str) -> None:
    rows = decoded(DEPARTURES)
    rows[4][name] = value
    incoming = check_events(DEPARTED, rows, rules=RULES)
    (letter,) = incoming.dead
    assert re.search(reason, letter.reason)
    assert letter.offset == str(rows[4]["source_offset"])
    assert json.loads(letter.row) == rows[4]
    assert incoming.accepted.equals(pa.concat_tables([DEPARTURES.slice(0, 4), DEPARTURES.slice(5)]))
    assert incoming.changes == []


def test_a_missing_column_of_one_row_is_that_row_alone() -> None:
    rows = decoded(DEPARTURES)
    del rows[0]["tailnum"]
    incoming = check_events(DEPARTED, [*rows, "no json", None], offsets=[f"1-{i}" for i in range(52)])
    assert [(letter.offset, letter.reason) for letter in incoming.dead] == [
        ("1-0", "tailnum is missing"),
        ("1-50", "is no JSON object"),
        ("1-51", "is no JSON object"),
    ]
    assert incoming.changes == []


def test_nan_and_infinity_are_no_value_and_the_event_passes() -> None:
    table = TABLES["weather_observed"]
    place = table.column_names.index("temp_f")
    values = [math.nan, math.inf, -math.inf, *table["temp_f"].to_pylist()[3:]]
    given = table.set_column(place, "temp_f", pa.array(values))
    incoming = check_events(WEATHER_OBSERVED, given)
    assert incoming.dead == []
    assert incoming.accepted["temp_f"].to_pylist()[1:] == values[1:]


@pytest.mark.parametrize(("name", "value", "reason"), [bad for bad in BAD if isinstance(bad[1], str | int)])
def test_what_lies_in_the_log_counts_whatever_its_values(name: str, value: object, reason: str) -> None:
    column = DEPARTURES[name]
    try:
        one = pa.array([value], pa.int64() if isinstance(value, int) else column.type).cast(column.type)
    except (pa.ArrowException, OverflowError, UnicodeError):
        return  # a log cannot hold it
    given = DEPARTURES.set_column(
        DEPARTURES.column_names.index(name), name, pa.concat_arrays([one, column.combine_chunks()[1:]])
    )
    logged = check_events(DEPARTED, given, rules=Rules(now_us=NOON_US, is_logged=True))
    assert logged.dead == []
    assert logged.accepted.equals(given)


def test_further_columns_are_left_out_and_told() -> None:
    rows = [{**row, "gate": "B4"} for row in decoded(DEPARTURES)]
    incoming = check_events(DEPARTED, rows)
    assert incoming.accepted.equals(DEPARTURES)
    assert [(change.kind, change.what) for change in incoming.changes] == [("additive", "new column gate")]


def test_a_column_that_is_gone_or_another_takes_the_whole_batch() -> None:
    renamed = DEPARTURES.rename_columns(
        [name.replace("dep_delay_min", "delay_min") for name in DEPARTURES.column_names]
    )
    incoming = check_events(DEPARTED, renamed)
    assert (incoming.accepted.num_rows, len(incoming.dead)) == (0, 50)
    breaking = [change.what for change in incoming.changes if change.kind == "breaking"]
    assert breaking == ["column dep_delay_min is missing (did you mean 'delay_min'?)"]
    texts = DEPARTURES.set_column(10, "dep_delay_min", DEPARTURES["dep_delay_min"].cast(pa.string()))
    for rows in (texts, texts.to_pylist()):
        incoming = check_events(DEPARTED, rows)
        assert len(incoming.dead) == 50
        assert incoming.changes[0].what.startswith("column dep_delay_min has become str")


def test_narrower_types_are_widened() -> None:
    narrow = DEPARTURES.set_column(10, "dep_delay_min", DEPARTURES["dep_delay_min"].cast(pa.int32()))
    narrow = narrow.set_column(0, "event_id", narrow["event_id"].cast(pa.dictionary(pa.int32(), pa.string())))
    assert check_events(DEPARTED, narrow).accepted.equals(DEPARTURES)


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.binary(max_size=3),
    st.lists(st.none()),
)
ROWS = st.one_of(
    SCALARS,
    st.fixed_dictionaries({}, optional=dict.fromkeys(DEPARTED.schema.names, SCALARS)),
    st.sampled_from(decoded(DEPARTURES)),
)


@settings(max_examples=150, deadline=None)
@given(rows=st.lists(ROWS, max_size=8))
def test_whatever_comes_nothing_is_lost(rows: list[Any]) -> None:
    incoming = check_events(DEPARTED, rows, rules=RULES)
    assert incoming.accepted.num_rows + len(incoming.dead) == len(rows)
    assert incoming.accepted.schema == DEPARTED.schema
