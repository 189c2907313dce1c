"""A sum or a mean is right however much is added up, or it is refused by name: in every engine, at the very edges."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flightdeck.core.errors import ContractViolation
from flightdeck.events.stream import INSTANT
from flightdeck.features.aggregates import MAX_EVENTS, MAX_UNITS, Aggregate, count, mean, share, std, total
from flightdeck.features.engines import DUCKDB, NUMPY, join_features
from flightdeck.features.entity_frame import EntityFrame
from flightdeck.features.online import OnlineReader
from flightdeck.features.state_layout import Ragged, layout_of, pack
from flightdeck.features.state_read import StateReader
from flightdeck.features.state_update import advance, key_events
from flightdeck.features.store import OnlineStore
from flightdeck.features.stores import Mark
from flightdeck.features.view import FeatureView, windowed
from tests.flightdeck.features.declarations import NOON_US, SECOND_US
from tests.flightdeck.features.parity import thorough

LARGEST = MAX_UNITS - 1
NOW_US = NOON_US + 600 * SECOND_US
FRAME = EntityFrame({"user": np.array(["ann"])}, np.array([NOW_US]))
_edges = st.sampled_from([LARGEST, -LARGEST, LARGEST - 1, 0, 1])
_values = st.lists(st.one_of(_edges, st.integers(-LARGEST, LARGEST)), min_size=1, max_size=60)


def view_of(*aggregates: Aggregate) -> FeatureView:
    return FeatureView("v", ("user",), "clicks", windowed(*aggregates, over="5s 1h"), "tests")


VIEW = view_of(total("amount"), mean("amount"))


def table_of(values: Sequence[float], kind: pa.DataType) -> pa.Table:
    """Return a click of one user for each value, a second apart; the last one at `NOW_US`."""
    created_us = [NOW_US - (len(values) - 1 - place) * SECOND_US for place in range(len(values))]
    return pa.table(
        {
            "event_id": [f"e{place:04d}" for place in range(len(values))],
            "created_timestamp": pa.array(created_us).cast(INSTANT),
            "user": ["ann"] * len(values),
            "amount": pa.array(values, kind),
        }
    )


def joined(view: FeatureView, table: pa.Table, engine: str) -> list[float]:
    found = join_features([view], {"clicks": table}, FRAME, engine)
    return [float(found[name][0]) for name in view.columns]


def state_of(view: FeatureView, tables: Sequence[pa.Table]) -> bytes | None:
    state = None
    for table in tables:
        keyed = key_events(view, [(table, 1)])
        if keyed.keys:
            (state,) = advance(view, [state], keyed, NOW_US)
    return state


@thorough(150)
@example(values=[LARGEST] * 60, n_batches=1)
@example(values=[-LARGEST] * 60, n_batches=2)
@given(values=_values, n_batches=st.integers(1, 3))
def test_states_and_numpy_are_exact_up_to_the_largest_values(values: list[int], n_batches: int) -> None:
    table = table_of(values, pa.int64())
    order = np.random.default_rng(len(values)).permutation(len(values))
    state = state_of(VIEW, [table.take(pa.array(rows)) for rows in np.array_split(order, n_batches)])
    expected = [f(part) for part in (values[-5:], values) for f in (_sum, _mean)]
    assert joined(VIEW, table, NUMPY) == expected
    reader = StateReader([VIEW])
    assert reader.read_few([[state]], [[0]], NOW_US, 1)[0][0].tolist() == expected
    assert reader.read_many([[state]], [[0] * 40], NOW_US, 40)[0].tolist() == [expected] * 40


@thorough(8)
@example(values=[LARGEST] * 60)
@given(values=_values)
def test_duckdb_is_exact_up_to_the_largest_values(values: list[int]) -> None:
    expected = [f(part) for part in (values[-5:], values) for f in (_sum, _mean)]
    assert joined(VIEW, table_of(values, pa.int64()), DUCKDB) == expected


TOO_LARGE = [
    (MAX_UNITS, pa.int64()),
    (-MAX_UNITS, pa.int64()),
    (2**63 - 1, pa.int64()),
    (-(2**63), pa.int64()),
    (2**64 - 1, pa.uint64()),
    (2**63, pa.uint64()),
    (1e300, pa.float64()),
    (-1e300, pa.float64()),
]


@pytest.mark.parametrize(("value", "kind"), TOO_LARGE, ids=lambda given: str(given))
@pytest.mark.parametrize("aggregate", [total("amount"), mean("amount"), std("amount")], ids=lambda a: a.kind)
def test_a_value_that_is_too_large_is_refused_by_the_id_of_its_event(
    aggregate: Aggregate, value: float, kind: pa.DataType
) -> None:
    view, table = view_of(aggregate), table_of([1, value, 2], kind)
    with pytest.raises(ContractViolation, match="e0001"):
        joined(view, table, NUMPY)
    with pytest.raises(ContractViolation, match="e0001"):
        state_of(view, [table])


@pytest.mark.parametrize(("value", "kind"), TOO_LARGE[2:6], ids=lambda given: str(given))
def test_a_value_that_is_too_large_is_refused_by_duckdb(value: float, kind: pa.DataType) -> None:
    with pytest.raises(ContractViolation, match=r"amount \(1 values\)"):
        joined(VIEW, table_of([1, value, 2], kind), DUCKDB)


@thorough(25)
@example(resolution=0.25, units=-0.5, sign=1, is_squared=False)
@example(resolution=0.25, units=-0.5, sign=1, is_squared=True)
@example(resolution=0.25, units=-0.5, sign=-1, is_squared=False)
@example(resolution=0.25, units=-1.0, sign=-1, is_squared=False)
@given(
    resolution=st.sampled_from([0.01, 0.25, 1.5, 1000.0]),
    units=st.one_of(st.sampled_from([0.5, -0.5, 0.49, -0.49, 1.0, -1.0, 0.0]), st.floats(-2, 2)),
    sign=st.sampled_from([1, -1]),
    is_squared=st.booleans(),
)
def test_numpy_and_duckdb_refuse_the_same_fractions(
    resolution: float, units: float, sign: int, is_squared: bool
) -> None:
    make, edge = (std, 2**31) if is_squared else (total, MAX_UNITS)
    value = sign * (edge + units) * resolution
    table, view = table_of([0.0, value], pa.float64()), view_of(make("amount", resolution=resolution))
    is_refused = abs(math.floor(value / resolution + 0.5)) >= edge
    for engine in (NUMPY, DUCKDB):
        if is_refused:
            with pytest.raises(ContractViolation):
                joined(view, table, engine)
        else:
            found, rounded = joined(view, table, engine), math.floor(value / resolution + 0.5)
            assert found == pytest.approx([abs(rounded) / 2 * resolution if is_squared else rounded * resolution] * 2)


def packed(view: FeatureView, before: Sequence[int], inside: Sequence[int]) -> bytes:
    """Return a state whose running totals were `before` an hour and more ago, and have grown by `inside` since."""
    after = [(b + i + 2**63) % 2**64 - 2**63 for b, i in zip(before, inside, strict=True)]
    ends = [NOW_US - 7200 * SECOND_US, NOW_US]
    rows = Ragged(np.zeros(2, np.int64), [np.array(c, np.int64) for c in (ends, *zip(before, after, strict=True))])
    (state,) = pack(layout_of(view), np.array([NOW_US], np.int64), [rows])
    return state


def read(folder: Path, view: FeatureView, state: bytes, n_rows: int) -> list[float]:
    """Return what a store serves of a state, asked for alone or among many keys that have none."""
    store = OnlineStore.open(folder, read_only=False)
    try:
        with store.writing() as moment:
            moment.put(view, ["ann"], [state])
            moment.set_mark(view, Mark(NOW_US, "clicks@0"))
        users = ["ann", *(f"nobody {number}" for number in range(n_rows - 1))]
        served = OnlineReader(store, [view]).read({"user": users}, NOW_US)
        return [float(served.columns[name][0]) for name in view.columns]
    finally:
        store.close()


@thorough(20)
@example(value=LARGEST, n=MAX_EVENTS - 1, before=2**63 - 1)
@example(value=-LARGEST, n=MAX_EVENTS - 1, before=-(2**63))
@given(
    value=st.one_of(_edges, st.integers(-LARGEST, LARGEST)),
    n=st.one_of(st.sampled_from([MAX_EVENTS - 1, MAX_EVENTS - 2]), st.integers(1, MAX_EVENTS - 1)),
    before=st.one_of(st.sampled_from([2**63 - 1, -(2**63), 0]), st.integers(-(2**63), 2**63 - 1)),
)
def test_a_billion_values_add_up_exactly_whatever_was_added_up_before(
    tmp_path_factory: pytest.TempPathFactory, value: int, n: int, before: int
) -> None:
    state = packed(VIEW, [3 * MAX_EVENTS, before, 3 * MAX_EVENTS], [n, n * value, n])  # events, units, known
    assert [measure.role for measure in layout_of(VIEW).measures] == ["events", "units", "known"]
    for n_rows in (1, 40):
        found = read(tmp_path_factory.mktemp("store"), VIEW, state, n_rows)
        assert found == [float(n * value), float(n * value) / n] * 2


@pytest.mark.parametrize("n_rows", [1, 40])
def test_a_window_of_more_events_is_refused_where_values_are_added_up(tmp_path: Path, n_rows: int) -> None:
    for aggregate in (total("amount"), mean("amount"), std("amount")):
        view = view_of(count(), aggregate)
        n_others = len(layout_of(view).measures) - 1
        state = packed(view, [7] * (1 + n_others), [MAX_EVENTS] + [1] * n_others)
        with pytest.raises(ContractViolation, match="adding up amount: a window holds 1,073,741,824 events"):
            read(tmp_path, view, state, n_rows)
    view = view_of(count(), share("amount"))
    state = packed(view, [7, 0, 0], [MAX_EVENTS, MAX_EVENTS, MAX_EVENTS // 2])
    assert read(tmp_path, view, state, n_rows) == [float(MAX_EVENTS), 0.5] * 2


def _sum(values: Sequence[int]) -> float:
    return float(sum(values))


def _mean(values: Sequence[int]) -> float:
    return float(sum(values)) / len(values)
