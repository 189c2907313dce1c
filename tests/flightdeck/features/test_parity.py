"""One declaration, two engines and a naive reference: the same values, bit by bit."""

import itertools
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flightdeck.core.errors import StoreUnavailable
from flightdeck.events.log import EventLog
from flightdeck.features.audit import recompute
from flightdeck.features.join import EntityFrame, point_in_time_join
from flightdeck.features.materializer import Materializer
from flightdeck.features.online import OnlineReader
from flightdeck.features.store import OnlineStore
from flightdeck.features.view import FeatureView, Latest, Windowed
from pipelines.features.views import VIEWS
from pipelines.ingestion.streams import DEPARTED
from tests.event_streams import MINUTE_US, NOON_US, between, random_events, random_requests, write_log

START_US = NOON_US - 30 * 60 * MINUTE_US


def naive(view: FeatureView, events: dict[str, pa.Table], entity: dict[str, str], at_us: int) -> list[float]:
    """Compute one row the slow and obvious way."""
    if not all(entity[name] for name in view.entity):
        return [math.nan] * len(view.columns)
    rows = [
        (row["created_timestamp"].timestamp() * 1e6, row["event_id"], 1 if place == 0 else -1, row)
        for place, stream in enumerate(view.sources)
        for row in events[stream].to_pylist()
        if all(row[name] == entity[name] for name in view.entity)
        and row["created_timestamp"].timestamp() * 1e6 <= at_us
    ]
    rows.sort(key=lambda row: row[:2])
    if isinstance(view.compute, Latest):
        if not rows or at_us - rows[-1][0] > view.ttl_s * 1e6:
            return [math.nan] * len(view.columns)
        last = rows[-1]
        return [float(last[3][name]) for name in view.compute.columns] + [(at_us - last[0]) / 1e6]
    if not isinstance(view.compute, Windowed):
        return [float(sum(row[2] for row in rows))]
    result: list[float] = []
    for window_s in view.compute.windows_s:
        tail_us = (at_us - window_s * 1_000_000) // view.tile_us * view.tile_us
        inside = [row[3] for row in rows if row[0] > tail_us]
        result.append(float(len(inside)))
        for name in view.compute.means:
            result.append(sum(row[name] for row in inside) / len(inside) if inside else math.nan)
    return result


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10_000), n_events=st.sampled_from([0, 1, 7, 60]))
@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
def test_join_equals_the_naive_reference(view: FeatureView, seed: int, n_events: int) -> None:
    events = random_events(seed, n_events, first_us=START_US, last_us=NOON_US)
    columns, at_us = random_requests(seed, 12, first_us=START_US - MINUTE_US, last_us=NOON_US + 3 * 3600 * 1_000_000)
    joined = point_in_time_join(view, events, EntityFrame(columns, at_us))
    for row, at in enumerate(at_us.tolist()):
        expected = naive(view, events, {name: values[row] for name, values in columns.items()}, at)
        np.testing.assert_array_equal([joined[name][row] for name in view.columns], expected)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), n_events=st.sampled_from([0, 3, 80]), n_batches=st.integers(1, 5))
def test_online_equals_offline(
    tmp_path_factory: pytest.TempPathFactory, seed: int, n_events: int, n_batches: int
) -> None:
    folder = tmp_path_factory.mktemp("parity")
    events = random_events(seed, n_events, first_us=START_US, last_us=NOON_US)
    log = write_log(folder / "log", events)
    store = OnlineStore.open(folder / "store", read_only=False)
    materializer = Materializer(store, VIEWS)
    reader = OnlineReader(store, VIEWS)
    stops = np.linspace(START_US + 20 * 3600 * 1_000_000, NOON_US, n_batches + 1).astype(np.int64).tolist()
    materializer.backfill(log, stops[0])
    for before, until in itertools.pairwise(stops):
        materializer.apply(between(events, before, until), until)
        columns, _ = random_requests(seed, 10, first_us=until, last_us=until + 1)
        at_us = until + 17 * MINUTE_US + 5
        served = reader.read(columns, at_us)
        assert (served.at_us, served.watermark_us) == (at_us, until)
        offline = recompute(VIEWS, log, columns, np.full(10, at_us), np.full(10, until))
        for name, values in served.columns.items():
            np.testing.assert_array_equal(values, offline[name], err_msg=name)
    store.close()


def test_an_event_of_exactly_the_ttl_counts_in_every_engine(tmp_path: Path) -> None:
    (view,) = [view for view in VIEWS if view.name == "aircraft_departed"]
    table = random_events(8, 1, first_us=START_US, last_us=START_US + MINUTE_US)["departed"]
    tail = pa.array(["N1"])
    events = {"departed": table.set_column(table.column_names.index("tailnum"), "tailnum", tail)}
    created_us = table["created_timestamp"].cast(pa.int64())[0].as_py()
    at_us = created_us + view.ttl_s * 1_000_000
    log = EventLog(tmp_path / "log")
    log.append(DEPARTED, events["departed"])
    columns = {"tailnum": np.array(["N1"], dtype=object)}
    store = OnlineStore.open(tmp_path / "store", read_only=False)
    Materializer(store, [view]).backfill(log, at_us)
    served = OnlineReader(store, [view]).read(columns, at_us).columns
    audited = recompute([view], log, columns, np.array([at_us]), np.array([at_us]))
    joined = point_in_time_join(view, events, EntityFrame(columns, np.array([at_us])))
    name = "aircraft_departed__dep_delay_min"
    assert served[name] == audited[name] == joined[name] == table["dep_delay_min"][0].as_py()


def test_state_never_reads_back_in_time(tmp_path: Path) -> None:
    events = random_events(1, 50, first_us=START_US, last_us=NOON_US)
    log = write_log(tmp_path / "log", events)
    store = OnlineStore.open(tmp_path / "store", read_only=False)
    Materializer(store, VIEWS).backfill(log, NOON_US)
    columns, _ = random_requests(1, 3, first_us=NOON_US, last_us=NOON_US + 1)
    served = OnlineReader(store, VIEWS).read(columns, NOON_US - 60 * MINUTE_US)
    assert served.at_us == NOON_US and served.staleness_s == 0


@pytest.mark.parametrize("change", ["deleted", "shuffled"])
def test_events_after_the_request_change_no_feature(change: str) -> None:
    """The point-in-time law: what happens after a request's time is invisible to it."""
    events = random_events(4, 300, first_us=START_US, last_us=NOON_US)
    columns, at_us = random_requests(4, 200, first_us=START_US, last_us=NOON_US)
    cut_us = int(np.median(at_us))
    early = at_us <= cut_us
    known = {name: values[early] for name, values in columns.items()}
    future = between(events, cut_us, NOON_US)
    changed = {}
    for name, table in events.items():
        kept = between({name: table}, 0, cut_us)[name]
        if change == "shuffled" and future[name].num_rows:
            order = np.random.default_rng(0).permutation(future[name].num_rows)
            times = future[name].select(["event_id", "event_timestamp", "created_timestamp"])
            rest = future[name].take(pa.array(order)).drop_columns(times.column_names)
            mixed = times
            for column in rest.column_names:
                mixed = mixed.append_column(column, rest[column])
            kept = pa.concat_tables([kept, mixed.select(table.column_names)])
        changed[name] = kept
    for view in VIEWS:
        before = point_in_time_join(view, events, EntityFrame(known, at_us[early]))
        after = point_in_time_join(view, changed, EntityFrame(known, at_us[early]))
        for name in view.columns:
            np.testing.assert_array_equal(before[name], after[name], err_msg=name)


def test_views_that_are_fed_apart_count_every_event_and_are_not_served_together(tmp_path: Path) -> None:
    first, second = VIEWS[0], VIEWS[1]
    events = random_events(6, 40, first_us=START_US, last_us=NOON_US)
    log = write_log(tmp_path / "log", events)
    store = OnlineStore.open(tmp_path / "store", read_only=False)
    both, one = Materializer(store, [first, second]), Materializer(store, [first])
    both.backfill(log, START_US)
    one.apply(between(events, START_US, NOON_US), NOON_US)
    columns, _ = random_requests(6, 5, first_us=NOON_US, last_us=NOON_US + 1)
    with pytest.raises(StoreUnavailable, match=f"{second.name} is behind"):
        OnlineReader(store, [first, second]).read(columns, NOON_US)
    both.apply(between(events, START_US, NOON_US), NOON_US)
    served = OnlineReader(store, [first, second]).read(columns, NOON_US).columns
    offline = recompute([first, second], log, columns, np.full(5, NOON_US), np.full(5, NOON_US))
    for name, values in served.items():
        np.testing.assert_array_equal(values, offline[name], err_msg=name)
