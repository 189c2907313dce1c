"""What a view cannot add up is no value for it: the same in backfill, feed and audit, while training refuses."""

import logging
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flightdeck.core.errors import ContractViolation
from flightdeck.events.log import EventLog
from flightdeck.features import aggregates as agg
from flightdeck.features.addable import addable
from flightdeck.features.audit import recompute
from flightdeck.features.join import EntityFrame, point_in_time_join
from flightdeck.features.materializer import Materializer
from flightdeck.features.measures import add_up, sum_measures
from flightdeck.features.online import OnlineReader
from flightdeck.features.store import OnlineStore
from flightdeck.features.view import FeatureView, Latest, windowed
from tests.flightdeck.features.declarations import CLICKS, NOON_US, random_table

ADDED = [agg.total, agg.mean, agg.std]
PRICES = st.one_of(st.none(), st.floats(), st.integers(-(2**54), 2**54).map(float), st.sampled_from([2.0**31, 2.0**53]))
AMOUNTS = st.one_of(
    st.none(), st.integers(-(2**63), 2**63 - 1), st.sampled_from([2**31, 2**31 - 1, 2**53, 2**53 - 1, 1 - 2**63])
)


def clicks(n: int, **columns: pa.Array) -> pa.Table:
    """Return clicks with some columns given."""
    table = random_table(np.random.default_rng(1), CLICKS, n, 60)
    for name, values in columns.items():
        table = table.set_column(table.column_names.index(name), name, values)
    return table


@given(
    prices=st.lists(PRICES, min_size=1, max_size=20),
    amounts=st.lists(AMOUNTS, min_size=1, max_size=20),
    kinds=st.lists(st.sampled_from(ADDED), min_size=1, max_size=3, unique=True),
    resolution=st.sampled_from([1.0, 0.01, 0.25, 1000.0]),
)
def test_what_is_left_can_be_added_up_and_only_that_is_left_out(
    prices: list[float | None], amounts: list[int | None], kinds: list[object], resolution: float
) -> None:
    n = min(len(prices), len(amounts))
    given_prices, given_amounts = pa.array(prices[:n], pa.float64()), pa.array(amounts[:n], pa.int64())
    events = clicks(n, price=given_prices, amount=given_amounts)
    aggregates = [kind(c, resolution=resolution) for kind in kinds for c in ("price", "amount")]  # type: ignore[operator]
    view = FeatureView("v", ("user",), "clicks", windowed(*aggregates, over="1m"), "tests")
    found = addable(view, events)
    for measure in sum_measures(view):
        assert len(add_up(measure, found.events)) == n
    for row, event_id in enumerate(events["event_id"].to_pylist()):
        for name in ("price", "amount"):
            before, after = events[name][row].as_py(), found.events[name][row].as_py()
            if event_id not in found.left_out.get(name, []):
                assert after == before or (math.isnan(before) and math.isnan(after))
                continue
            assert after is None
            alone = events.slice(row, 1)
            with pytest.raises(ContractViolation):
                for measure in sum_measures(view):
                    if measure.column == name:
                        add_up(measure, alone)


def test_a_table_without_such_values_is_the_very_one() -> None:
    events = clicks(5, price=pa.array([1.0, math.nan, math.inf, None, 7.0]))
    for compute in (windowed(agg.mean("price"), agg.count(), over="1m"), Latest(("price",))):
        found = addable(FeatureView("v", ("user",), "clicks", compute, "tests"), events)
        assert found.events is events and found.left_out == {}


def test_backfill_feed_and_audit_agree_and_training_refuses(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    events = clicks(6, price=pa.array([1.0, 2.5, math.inf, 2.0**60, 3.0, None])).sort_by("created_timestamp")
    views = [
        FeatureView(
            "added", (), "clicks", windowed(agg.count(), agg.mean("price"), agg.highest("price"), over="1h"), "tests"
        ),
        FeatureView("chosen", (), "clicks", windowed(agg.count(), agg.highest("price"), over="1h"), "tests"),
    ]
    log = EventLog(tmp_path / "log")
    log.append(CLICKS, events)
    until_us = NOON_US + 3600 * 1_000_000
    at_us = np.array([until_us])
    again = recompute(views, log, {"user": np.array(["ann"], dtype=object)}, at_us, at_us)
    assert {name: values.tolist() for name, values in again.items()} == {
        "added__count_60m": [6.0],
        "added__mean_price_60m": [2.0],
        "added__max_price_60m": [3.0],
        "chosen__count_60m": [6.0],
        "chosen__max_price_60m": [2.0**60],
    }
    stores = [OnlineStore.open(tmp_path / name, read_only=False) for name in ("filled", "fed")]
    with caplog.at_level(logging.WARNING):
        Materializer(stores[0], views).backfill(log, until_us)
    assert "price cannot be added up exactly" in caplog.text
    Materializer(stores[1], views).backfill(log, NOON_US - 1)
    Materializer(stores[1]).apply({"clicks": events}, until_us, "clicks@0")
    for store in stores:
        served = OnlineReader(store, views).read({"user": ["ann"]}, until_us).columns
        for name, values in again.items():
            np.testing.assert_array_equal(served[name], values, err_msg=name)
    frame = EntityFrame({"user": np.array(["ann"], dtype=object)}, at_us)
    with pytest.raises(ContractViolation):
        point_in_time_join(views[0], {"clicks": events}, frame)
    assert point_in_time_join(views[1], {"clicks": events}, frame)["chosen__max_price_60m"].tolist() == [2.0**60]
