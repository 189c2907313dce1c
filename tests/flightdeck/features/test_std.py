"""A standard deviation is right however large the squares grow, or it is refused: in every engine, for any values."""

from math import isqrt
from statistics import pstdev

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flightdeck.events.stream import INSTANT
from flightdeck.features.aggregates import MAX_EVENTS, MAX_UNITS_SQUARED, std
from flightdeck.features.engines import DUCKDB, NUMPY, join_features
from flightdeck.features.entity_frame import EntityFrame
from flightdeck.features.measures import EVENTS, finish, measures_of
from flightdeck.features.state_read import StateReader
from flightdeck.features.state_read_few import Step, _sum_or_std
from flightdeck.features.state_update import advance, key_events
from flightdeck.features.view import FeatureView, windowed
from tests.flightdeck.features.declarations import NOON_US, SECOND_US
from tests.flightdeck.features.parity import thorough

LARGEST = MAX_UNITS_SQUARED - 1
VIEW = FeatureView("v", ("user",), "clicks", windowed(std("amount"), over="5s 1h"), "tests")
NOW_US = NOON_US + 600 * SECOND_US
_extreme = st.sampled_from([LARGEST, -LARGEST, LARGEST - 1, 0, 1])
_values = st.lists(st.one_of(_extreme, st.integers(-LARGEST, LARGEST)), min_size=1, max_size=60)


def table_of(values: list[int]) -> pa.Table:
    """Return a click of one user for each value, the last five seconds before `NOW_US` apart."""
    created_us = [NOW_US - (len(values) - 1 - place) * SECOND_US for place in range(len(values))]
    return pa.table(
        {
            "event_id": [f"e{place:04d}" for place in range(len(values))],
            "created_timestamp": pa.array(created_us).cast(INSTANT),
            "user": ["ann"] * len(values),
            "amount": pa.array(values, pa.int64()),
        }
    )


def expected(values: list[int]) -> list[float]:
    return [pstdev(values[-5:]), pstdev(values)]


@thorough(150)
@example(values=[LARGEST, -LARGEST] * 30, n_batches=1)
@example(values=[LARGEST] * 50 + [LARGEST - 1] * 10, n_batches=3)
@given(values=_values, n_batches=st.integers(1, 3))
def test_states_and_numpy_hold_whatever_the_squares_add_up_to(values: list[int], n_batches: int) -> None:
    table, state = table_of(values), None
    for rows in np.array_split(np.random.default_rng(len(values)).permutation(len(values)), n_batches):
        keyed = key_events(VIEW, [(table.take(pa.array(rows)), 1)])
        if keyed.keys:
            (state,) = advance(VIEW, [state], keyed, NOW_US)
    reader = StateReader([VIEW])
    few, many = (read([[state]], [[0]], NOW_US, 1)[0][0].tolist() for read in (reader.read_few, reader.read_many))
    joined = join_features(
        [VIEW], {"clicks": table}, EntityFrame({"user": np.array(["ann"])}, np.array([NOW_US])), NUMPY
    )
    assert few == many == [joined[name][0] for name in VIEW.columns]
    assert few == pytest.approx(expected(values), rel=1e-9, abs=1e-9)


@thorough(10)
@example(values=[LARGEST, -LARGEST] * 30)
@given(values=_values)
def test_duckdb_holds_whatever_the_squares_add_up_to(values: list[int]) -> None:
    frame = EntityFrame({"user": np.array(["ann"])}, np.array([NOW_US]))
    found = join_features([VIEW], {"clicks": table_of(values)}, frame, DUCKDB)
    assert [found[name][0] for name in VIEW.columns] == pytest.approx(expected(values), rel=1e-9, abs=1e-9)


@thorough(300)
@given(
    groups=st.lists(
        st.tuples(st.one_of(_extreme, st.integers(-LARGEST, LARGEST)), st.integers(1, MAX_EVENTS // 4)),
        min_size=1,
        max_size=3,
    )
)
@example(groups=[(LARGEST, MAX_EVENTS // 2 - 1), (-LARGEST, MAX_EVENTS // 2)])
@example(groups=[(LARGEST, MAX_EVENTS // 2 - 1), (LARGEST - 1, MAX_EVENTS // 2)])
def test_up_to_a_billion_values_the_arithmetic_is_exact(groups: list[tuple[int, int]]) -> None:
    """Each group is a value and how often it occurs; the totals of a window follow without adding a billion rows."""
    n, units, squares, high = (sum(k * f(v) for v, k in groups) for f in (_one, _itself, _square, _upper))
    variance_n2 = n * squares - units * units  # n^2 times the variance, a whole number
    exact = isqrt(variance_n2 << 128) / 2.0**64 / n
    wrapped = (squares + 2**63) % 2**64 - 2**63
    totals = dict(zip(measures_of(std("amount")), (np.array([x]) for x in (n, units, wrapped, high)), strict=True))
    vectorised = finish(std("amount"), {EVENTS: np.array([n]), **totals})[0]
    step = Step("std", "amount", (1, 2, 3, 4), 0, 1.0, 0)
    assert _sum_or_std(step, [n, units, wrapped, high]) == vectorised
    assert vectorised == pytest.approx(exact, rel=1e-9, abs=0.0)


def _one(value: int) -> int:
    return 1


def _itself(value: int) -> int:
    return value


def _square(value: int) -> int:
    return value * value


def _upper(value: int) -> int:
    return value * value >> 32
