"""Entity keys of several columns: different parts never make one key, however many values and whatever they hold."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flightdeck.core.errors import ContractViolation
from flightdeck.events.log import EventLog
from flightdeck.events.stream import INSTANT, Stream
from flightdeck.features.aggregates import count
from flightdeck.features.audit import recompute
from flightdeck.features.materializer import Materializer
from flightdeck.features.online import OnlineReader
from flightdeck.features.state_layout import entity_keys
from flightdeck.features.state_update import key_events
from flightdeck.features.store import OnlineStore
from flightdeck.features.view import FeatureView, windowed
from tests.flightdeck.features.declarations import NOON_US


def view_of(columns: str) -> FeatureView:
    return FeatureView("v", tuple(columns), "s", windowed(count(), over="1h"), "tests")


def table_of(columns: dict[str, list[str]]) -> pa.Table:
    """Return an event known at noon for each row of some columns."""
    n = len(next(iter(columns.values())))
    stream = Stream("s", {name: pa.string() for name in columns}, slo_s=60)
    at = pa.array([NOON_US] * n).cast(INSTANT)
    common = {"event_id": [f"e{i:06d}" for i in range(n)], "event_timestamp": at, "created_timestamp": at}
    return stream.cast(pa.table({**common, "source": ["test"] * n, "source_offset": range(n), **columns}))


@pytest.mark.parametrize(("columns", "n"), [("abcd", 66_000), ("abcde", 20_000)])
def test_every_key_is_kept_apart_where_the_combinations_do_not_fit_int64(columns: str, n: int) -> None:
    clash = [2**64 // n**power % n for power in reversed(range(len(columns)))]  # as int64 the number of the first row
    values = {
        name: [f"{name}{place}" for place in [*range(n), number]] for name, number in zip(columns, clash, strict=True)
    }
    events = key_events(view_of(columns), [(table_of(values), 1)])
    assert len(events.keys) == n + 1
    expected = ["\x1f".join(row) for row in zip(*values.values(), strict=True)]
    assert [events.keys[place] for place in events.place.tolist()] == expected


_parts = st.text(st.sampled_from(["\x1f", "1", "2", "x"]), min_size=1, max_size=3)


@settings(max_examples=300, deadline=None)
@given(rows=st.lists(st.tuples(_parts, _parts, _parts), min_size=1, max_size=12, unique=True))
def test_different_parts_make_different_keys(rows: list[tuple[str, str, str]]) -> None:
    keys = entity_keys(list(zip(*rows, strict=True)))
    assert len(set(keys)) == len(rows)
    assert keys == [entity_keys([[part] for part in row])[0] for row in rows]


def test_a_key_that_holds_the_separator_is_served_as_the_log_says(tmp_path: Path) -> None:
    columns = {"a": ["x\x1fy", "x", "x"], "b": ["z", "y\x1fz", "y\x1fz"]}
    log, view = EventLog(tmp_path / "log"), view_of("ab")
    log.append(Stream("s", {"a": pa.string(), "b": pa.string()}, slo_s=60), table_of(columns))
    store = OnlineStore.open(tmp_path / "store", read_only=False)
    Materializer(store, [view]).backfill(log, NOON_US)
    asked = {"a": np.array(["x\x1fy", "x", "x", ""], object), "b": np.array(["z", "y\x1fz", "y", "z"], object)}
    served = OnlineReader(store, [view]).read(asked, NOON_US).columns["v__count_60m"]
    offline = recompute([view], log, asked, np.full(4, NOON_US), np.full(4, NOON_US))["v__count_60m"]
    np.testing.assert_array_equal(served, [1.0, 2.0, 0.0, np.nan])
    np.testing.assert_array_equal(offline, served)
    with pytest.raises(ContractViolation, match="holds a lone surrogate"):
        OnlineReader(store, [view]).read({"a": ["\ud800"], "b": ["z"]}, NOON_US)
    store.close()
