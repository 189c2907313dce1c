"""One declaration, every engine and a naive reference: the same values, bit by bit, for anything that can be declared.

`FLIGHTDECK_PARITY=20 pytest tests/flightdeck/features/test_parity.py` looks at twenty times as many cases.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path

import ibis
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flightdeck.core.errors import StoreUnavailable
from flightdeck.events.log import EventLog
from flightdeck.features.aggregates import count
from flightdeck.features.audit import recompute
from flightdeck.features.event_index import EntityFrame
from flightdeck.features.ibis_engine import join_with_ibis
from flightdeck.features.join import point_in_time_join
from flightdeck.features.materializer import Materializer
from flightdeck.features.online import OnlineReader
from flightdeck.features.store import OnlineStore
from flightdeck.features.stores import FeatureStore, open_store
from flightdeck.features.view import FeatureView, windowed
from pipelines.features.views import VIEWS
from pipelines.ingestion.streams import DEPARTED
from tests.event_streams import MINUTE_US, NOON_US, between, random_events, random_requests, write_log
from tests.flightdeck.features.declarations import CLICKS, CLOSED, SECOND_US, Case, cases, views
from tests.flightdeck.features.naive import naive
from tests.flightdeck.features.parity import HOUR_US, TIMES, arrivals, assert_equal, feed_and_compare, thorough
from tests.redis_server import redis_cluster_url, redis_url

START_US = NOON_US - 30 * 60 * MINUTE_US


@thorough(300)
@given(view=views(), case=cases())
def test_numpy_equals_the_reference(view: FeatureView, case: Case) -> None:
    joined = point_in_time_join(view, case.events, EntityFrame(case.columns, case.at_us))
    expected = [naive(view, case.events, case.entity(row), int(at)) for row, at in enumerate(case.at_us)]
    assert_equal(view, joined, expected)


@thorough(60)
@given(view=views(), case=cases(), lag_s=st.sampled_from([0, 1, 59, 3600]))
def test_numpy_sees_what_was_known_until_then_and_no_more(view: FeatureView, case: Case, lag_s: int) -> None:
    known_us = case.at_us - lag_s * SECOND_US
    joined = point_in_time_join(view, case.events, EntityFrame(case.columns, case.at_us, known_us))
    rows = zip(case.at_us.tolist(), known_us.tolist(), strict=True)
    assert_equal(view, joined, [naive(view, case.events, case.entity(i), *times) for i, times in enumerate(rows)])


@thorough(25)
@given(chosen=st.lists(views(), min_size=1, max_size=2, unique_by=lambda view: view.name), case=cases(max_events=40))
def test_duckdb_equals_the_reference(chosen: list[FeatureView], case: Case) -> None:
    session = ibis.duckdb.connect()
    rows = {"row_id": np.arange(len(case.at_us)), **case.columns, "at_us": case.at_us, "seen_us": case.at_us}
    tables = {**case.events, "requests": pa.table({name: pa.array(values) for name, values in rows.items()})}
    for name, table in tables.items():
        session.con.register(name, table)
    events = {name: session.table(name) for name in case.events}
    found = join_with_ibis(chosen, events, session.table("requests")).order_by("row_id").to_pyarrow()
    for view in chosen:
        expected = [naive(view, case.events, case.entity(row), int(at)) for row, at in enumerate(case.at_us)]
        values = {name: found[name].fill_null(np.nan).to_numpy() for name in view.columns}
        assert_equal(view, values, expected)
    session.disconnect()


@thorough(250)
@given(view=views(), case=cases(max_events=40), data=st.data())
def test_the_embedded_store_equals_the_reference_whatever_arrives_when(
    tmp_path_factory: pytest.TempPathFactory, view: FeatureView, case: Case, data: st.DataObject
) -> None:
    store = OnlineStore.open(tmp_path_factory.mktemp("online"), read_only=False)
    try:
        feed_and_compare(store, view, case, data.draw(arrivals(case)))
    finally:
        store.close()


@pytest.fixture(scope="module", params=["redis", "redis cluster"])
def redis_store(request: pytest.FixtureRequest) -> Iterator[FeatureStore]:
    with redis_url() if request.param == "redis" else redis_cluster_url() as url:
        store = open_store(url, read_only=False)
        yield store
        store.close()


@thorough(50)
@given(view=views(), case=cases(max_events=40), data=st.data())
def test_redis_equals_the_reference_whatever_arrives_when(
    redis_store: FeatureStore, view: FeatureView, case: Case, data: st.DataObject
) -> None:
    feed_and_compare(redis_store, view, case, data.draw(arrivals(case)))


@thorough(40)
@given(view=views(), case=cases(max_events=40), until=st.floats(0.0, 1.0))
def test_a_backfill_equals_the_reference(
    tmp_path_factory: pytest.TempPathFactory, view: FeatureView, case: Case, until: float
) -> None:
    folder = tmp_path_factory.mktemp("backfill")
    log = EventLog(folder / "log")
    for stream in (CLICKS, CLOSED):
        log.append(stream, case.events[stream.name])
    until_us = int(np.quantile(case.at_us, until))
    store = OnlineStore.open(folder / "online", read_only=False)
    try:
        Materializer(store, [view]).backfill(log, until_us)
        for at_us in (until_us, until_us + 61 * SECOND_US, until_us + HOUR_US):
            served = OnlineReader(store, [view]).read(case.columns, at_us)
            n_rows = len(case.at_us)
            expected = [naive(view, case.events, case.entity(row), at_us, until_us) for row in range(n_rows)]
            assert_equal(view, served.columns, expected)
            audited = recompute([view], log, case.columns, np.full(n_rows, at_us), np.full(n_rows, until_us))
            for name, values in served.columns.items():
                np.testing.assert_array_equal(values, audited[name], err_msg=name)
    finally:
        store.close()


@settings(max_examples=4 * TIMES, deadline=None)
@given(seed=st.integers(0, 10_000), n_events=st.sampled_from([0, 1, 7, 60]))
@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
def test_the_views_of_the_use_case_equal_the_reference(view: FeatureView, seed: int, n_events: int) -> None:
    events = random_events(seed, n_events, first_us=START_US, last_us=NOON_US)
    columns, at_us = random_requests(seed, 12, first_us=START_US - MINUTE_US, last_us=NOON_US + 3 * HOUR_US)
    joined = point_in_time_join(view, events, EntityFrame(columns, at_us))
    entities = [{name: values[row] for name, values in columns.items()} for row in range(len(at_us))]
    assert_equal(view, joined, [naive(view, events, e, at) for e, at in zip(entities, at_us.tolist(), strict=True)])


@settings(max_examples=10 * TIMES, deadline=None)
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
    stops = np.linspace(START_US + 20 * HOUR_US, NOON_US, n_batches + 1).astype(np.int64).tolist()
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


def test_a_window_slides_on_when_nothing_arrives_online_as_offline(tmp_path: Path) -> None:
    view = FeatureView("v", (), "departed", windowed(count(), over="30m 1h"), "tests")
    events = random_events(5, 40, first_us=NOON_US - HOUR_US, last_us=NOON_US)
    last_us = int(events["departed"]["created_timestamp"].cast(pa.int64()).to_numpy().max())
    store = OnlineStore.open(tmp_path / "store", read_only=False)
    Materializer(store, [view]).backfill(write_log(tmp_path / "log", events), last_us)
    for after_us, is_empty in ((0, False), (31 * MINUTE_US, False), (HOUR_US + view.tiles_us[3600], True)):
        served = OnlineReader(store, [view]).read({"origin": ["EWR"]}, last_us + after_us).columns
        joined = point_in_time_join(view, events, EntityFrame({}, np.array([last_us + after_us])))
        assert served == joined
        assert (served["v__count_60m"] == 0) == is_empty and (served["v__count_30m"] == 0) == (after_us > 0)
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
    name, expected = "aircraft_departed__dep_delay_min", table["dep_delay_min"][0].as_py()
    many = {"tailnum": np.array(["N1", *(f"N1 {number}" for number in range(70))], dtype=object)}
    for late_us, value in ((0, expected), (1, np.nan)):
        audited = recompute([view], log, columns, np.array([at_us + late_us]), np.array([at_us]))
        joined = point_in_time_join(view, events, EntityFrame(columns, np.array([at_us + late_us])))
        alone, among = (OnlineReader(store, [view]).read(asked, at_us + late_us).columns for asked in (columns, many))
        found = [answer[name][0] for answer in (alone, among, audited, joined)]
        np.testing.assert_array_equal(found, [value] * 4)


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
