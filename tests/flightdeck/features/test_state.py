"""Online states: the value of a state is a function of the set of events, and equals the naive reference."""

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from flightdeck.events.stream import INSTANT
from flightdeck.features.aggregates import last
from flightdeck.features.state_layout import layout_of, pack, unpack
from flightdeck.features.state_read import StateReader
from flightdeck.features.state_update import advance, in_order, key_events
from flightdeck.features.view import FeatureView, Latest, windowed
from tests.flightdeck.features.declarations import CLICKS, NOON_US, Case, cases, random_table, views
from tests.flightdeck.features.naive import naive

DAY_US = 86_400_000_000


def feed(view: FeatureView, batches: list[dict[str, pa.Table]], now_us: int) -> dict[str, bytes]:
    """Apply batches to empty states, the way a materializer does."""
    states: dict[str, bytes] = {}
    for batch in batches:
        parts = [(batch[name], 1 if place == 0 else -1) for place, name in enumerate(view.sources) if name in batch]
        events = key_events(view, parts)
        after = advance(view, [states.get(key) for key in events.keys], events, now_us)
        states.update(zip(events.keys, after, strict=True))
    return states


def shuffled_batches(events: dict[str, pa.Table], random: np.random.Generator, n: int) -> list[dict[str, pa.Table]]:
    """Cut the events into batches without regard to their order."""
    batches: list[dict[str, pa.Table]] = [{} for _ in range(n)]
    for name, table in events.items():
        where = random.integers(0, n, table.num_rows)
        for place, batch in enumerate(batches):
            batch[name] = table.take(pa.array(random.permutation(np.flatnonzero(where == place))))
    return batches


@settings(max_examples=150, deadline=None)
@given(
    view=views(),
    case=cases(),
    seed=st.integers(0, 2**32 - 1),
    n_batches=st.integers(1, 4),
    lag_s=st.sampled_from([0, 1, 61, 3700]),
)
def test_states_equal_the_naive_reference_however_the_events_arrive(
    view: FeatureView, case: Case, seed: int, n_batches: int, lag_s: int
) -> None:
    newest_us = max(
        (int(t["created_timestamp"].cast(pa.int64())[-1].as_py()) for t in case.events.values() if t.num_rows),
        default=0,
    )
    random = np.random.default_rng(seed)
    states = feed(view, shuffled_batches(case.events, random, n_batches), newest_us)
    at_us = max(newest_us, int(case.at_us[0])) + lag_s * 1_000_000
    for row in range(len(case.at_us)):
        entity = case.entity(row)
        if not all(entity[name] for name in view.entity):
            continue
        key = "\x1f".join(entity[name] for name in view.entity)
        values, _ = StateReader([view]).read([[states.get(key)]], [[0]], at_us, 1)
        np.testing.assert_allclose(values[0], naive(view, case.events, entity, at_us), rtol=1e-12, atol=0)


TIED = ["a", "b", "ab", "a1234567", "a12345678", "B", "é", "z-00000000000000000009", "z-00000000000000000010"]


@settings(max_examples=100, deadline=None)
@given(ids=st.lists(st.sampled_from(TIED), min_size=1, unique=True), data=st.data())
def test_of_events_of_one_moment_the_greatest_id_is_the_last_whatever_comes_when(
    ids: list[str], data: st.DataObject
) -> None:
    stop = data.draw(st.integers(0, len(ids)))
    table = random_table(np.random.default_rng(1), CLICKS, len(TIED), 10)
    at = pa.array([NOON_US] * len(ids)).cast(INSTANT)
    columns = {"event_id": ids, "event_timestamp": at, "created_timestamp": at, "user": ["ann"] * len(ids)}
    columns["amount"] = pa.array([TIED.index(event_id) for event_id in ids], pa.int64())
    events = CLICKS.cast(pa.table({n: columns.get(n, table[n].slice(0, len(ids))) for n in table.column_names}))
    latest = FeatureView("l", ("user",), "clicks", Latest(("amount",)), "tests")
    window = FeatureView("w", ("user",), "clicks", windowed(last("amount"), over="1h"), "tests")
    batches = [{"clicks": events.slice(0, stop)}, {"clicks": events.slice(stop)}]
    for view in (latest, window):
        state = feed(view, batches, NOON_US)["ann"]
        (values, *_), _ = StateReader([view]).read([[state]], [[0]], NOON_US, 1)
        assert values[0] == naive(view, {"clicks": events}, {"user": "ann"}, NOON_US)[0] == TIED.index(max(ids))


@settings(max_examples=50, deadline=None)
@given(view=views(), case=cases())
def test_packing_is_undone_by_unpacking(view: FeatureView, case: Case) -> None:
    states = list(feed(view, [case.events], int(case.at_us.max())).values())
    assert pack(layout_of(view), *unpack(layout_of(view), states)) == states


@given(
    rows=st.lists(st.tuples(st.integers(0, 5), st.sampled_from([0, 1, 7, -(2**62), 2**40, 2**61, 2**62]))),
    shift=st.integers(-(2**61), 2**61),
)
def test_rows_are_ordered_by_key_and_time_whether_both_fit_into_one_number_or_not(
    rows: list[tuple[int, int]], shift: int
) -> None:
    key = np.array([key for key, _ in rows], dtype=np.int64)
    time_us = np.array([time for _, time in rows], dtype=np.int64) + shift
    wanted = sorted(range(len(rows)), key=lambda place: (key[place], time_us[place]))
    assert in_order(key, time_us).tolist() == wanted


@settings(max_examples=30, deadline=None)
@given(view=views(), case=cases())
def test_a_state_stays_bounded(view: FeatureView, case: Case) -> None:
    """Rows that no window can ask for any more go with the next event."""
    later = {n: t.set_column(2, "created_timestamp", _shift(t, 3 * DAY_US)) for n, t in case.events.items()}
    once = feed(view, [later], int(case.at_us.max()) + 4 * DAY_US)
    twice = feed(view, [case.events, later], int(case.at_us.max()) + 4 * DAY_US)
    for key, state in once.items():
        assert len(twice[key]) <= len(state) + 8 * 64


def _shift(table: pa.Table, by_us: int) -> pa.ChunkedArray:
    column = table["created_timestamp"]
    return pa.chunked_array([pa.array(column.cast(pa.int64()).to_numpy() + by_us, pa.int64())]).cast(column.type)
