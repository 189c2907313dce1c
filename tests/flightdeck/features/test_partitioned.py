"""The join in parts equals the join in one pass, whatever the budget."""

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flightdeck.core.errors import ConfigError
from flightdeck.events.log import EventLog
from flightdeck.features.aggregates import count, distinct, highest, last, mean
from flightdeck.features.join import EntityFrame, point_in_time_joins
from flightdeck.features.partitioned import Budget, join_in_parts
from flightdeck.features.view import FeatureView, Latest, OpenItems, windowed
from tests.flightdeck.features.declarations import CLICKS, CLOSED, NOON_US, Case, cases, random_table, views

ALL_KINDS = [
    FeatureView("a", ("user",), "clicks", windowed(count(), mean("amount"), last("price"), over="1m 90m"), "tests"),
    FeatureView("b", (), "clicks", windowed(distinct("item"), highest("score"), over="10m"), "tests"),
    FeatureView("c", ("user", "item"), "clicks", Latest(("amount",)), "tests", ttl_s=600),
    FeatureView("d", ("item",), "clicks", OpenItems(("closed",)), "tests"),
    FeatureView("e", (), "clicks", OpenItems(("closed",)), "tests"),
]


def named(chosen: list[FeatureView]) -> list[FeatureView]:
    return [FeatureView(f"v{i}", v.entity, v.source, v.compute, v.owner, ttl_s=v.ttl_s) for i, v in enumerate(chosen)]


def require_equal_parts(
    chosen: list[FeatureView], case: Case, events: dict[str, ds.Dataset] | EventLog, budget: Budget
) -> int:
    """Compare parts with one pass over the tables of the case, and return how many parts there were."""
    requests = pa.table({"row": np.arange(len(case.at_us)), **case.columns, "at": case.at_us})
    expected = point_in_time_joins(chosen, case.events, EntityFrame(case.columns, case.at_us))
    with tempfile.TemporaryDirectory() as folder:
        parts = join_in_parts(chosen, events, ds.dataset(requests), Path(folder) / "parts", budget=budget)
        joined = pa.concat_tables([pq.read_table(part) for part in parts]).sort_by("row")
    np.testing.assert_array_equal(joined["row"].to_numpy(), np.arange(len(case.at_us)))
    for name, values in expected.items():
        np.testing.assert_array_equal(joined[name].to_numpy(), values, err_msg=name)
    return len(parts)


@settings(max_examples=60, deadline=None)
@given(
    chosen=st.lists(views(), min_size=1, max_size=4),
    case=cases(n_requests=20),
    budget=st.builds(Budget, requests=st.sampled_from([1, 4, 1000]), events=st.sampled_from([1, 7, 40, 1000])),
)
def test_parts_equal_one_pass(chosen: list[FeatureView], case: Case, budget: Budget) -> None:
    events = {name: ds.dataset(table) for name, table in case.events.items()}
    require_equal_parts(named(chosen), case, events, budget)


@pytest.mark.parametrize("budget", [Budget(), Budget(requests=50, events=400), Budget(requests=500, events=90)])
def test_all_kinds_from_a_log(tmp_path: Path, budget: Budget) -> None:
    random = np.random.default_rng(5)
    log = EventLog(tmp_path / "events")
    events = {stream.name: random_table(random, stream, 800, 40_000) for stream in (CLICKS, CLOSED)}
    for stream in (CLICKS, CLOSED):
        log.append(stream, events[stream.name].slice(0, 300))
        log.append(stream, events[stream.name].slice(300))
    columns = {
        "user": random.choice(np.array(["ann", "bob", "", "nobody"], dtype=object), 300),
        "item": random.choice(np.array(["x", "y", "zz"], dtype=object), 300),
    }
    case = Case(events, columns, NOON_US + random.integers(-100, 60_000, 300) * 1_000_000)
    n_parts = require_equal_parts(ALL_KINDS, case, log, budget)
    assert n_parts == 1 if budget == Budget() else n_parts > 3


def test_a_folder_that_holds_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "old.parquet").touch()
    with pytest.raises(ConfigError, match="not empty"):
        join_in_parts(ALL_KINDS, {}, ds.dataset(pa.table({"at": pa.array([], pa.int64())})), tmp_path)
