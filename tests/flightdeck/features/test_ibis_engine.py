"""The Ibis engine on DuckDB equals the NumPy engine: any declaration, any lag, in any order, with repeats."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flightdeck.core.errors import ContractViolation
from flightdeck.events.stream import INSTANT
from flightdeck.features import aggregates as agg
from flightdeck.features.engines import DUCKDB, join_features
from flightdeck.features.entity_frame import EntityFrame
from flightdeck.features.view import FeatureView, windowed
from tests.flightdeck.features.declarations import NOON_US, SECOND_US, Case, cases, views
from tests.flightdeck.features.parity import assert_equal, thorough


@thorough(20)
@given(view=views(), case=cases(), lag_s=st.sampled_from([0, 45, 5000]), seed=st.integers(0, 2**32 - 1))
def test_duckdb_equals_numpy(view: FeatureView, case: Case, lag_s: int, seed: int) -> None:
    frame = EntityFrame(case.columns, case.at_us, case.at_us - lag_s * SECOND_US)
    expected = join_features([view], case.events, frame)
    random = np.random.default_rng(seed)
    again = {}
    for name, table in case.events.items():
        rows = np.concatenate([np.arange(table.num_rows), np.arange(table.num_rows // 2)])
        again[name] = table.take(pa.array(random.permutation(rows)))
    found = join_features([view], again, frame, DUCKDB)
    assert_equal(view, found, np.column_stack([expected[name] for name in view.columns]).tolist())


def table_of(values: list[float], n_seconds: int = 1) -> pa.Table:
    created = pa.array([NOON_US + i * n_seconds * SECOND_US for i in range(len(values))]).cast(INSTANT)
    ids = pa.array([f"e{i}" for i in range(len(values))])
    columns = {"event_id": ids, "created_timestamp": created, "user": pa.array(["ann"] * len(values))}
    return pa.table({**columns, "amount": pa.array(values)})


def join_both(view: FeatureView, table: pa.Table) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    users = np.array(["ann", "nobody", "", None], dtype=object)
    frame = EntityFrame({"user": users}, np.full(4, NOON_US + 60 * SECOND_US))
    found = [join_features([view], {"clicks": table}, frame, engine) for engine in ("numpy", DUCKDB)]
    numpy, duckdb = ({name: values.tolist() for name, values in one.items()} for one in found)
    return numpy, duckdb


def test_totals_that_pass_int64_stay_exact() -> None:
    largest = 2**31 - 1
    view = FeatureView("w", ("user",), "clicks", windowed(agg.total("amount"), agg.std("amount"), over="1m"), "tests")
    numpy, duckdb = join_both(view, table_of([float(largest - i % 2) for i in range(50)]).cast(_with_integers()))
    assert numpy["w__sum_amount_1m"] == pytest.approx(duckdb["w__sum_amount_1m"], rel=0, nan_ok=True)
    assert numpy["w__std_amount_1m"] == pytest.approx(duckdb["w__std_amount_1m"], rel=1e-9, nan_ok=True)
    assert duckdb["w__std_amount_1m"][0] == pytest.approx(0.5, rel=1e-3)


@pytest.mark.parametrize(
    ("aggregate", "value"),
    [(agg.total("amount"), 0.5), (agg.std("amount"), 2.0**31), (agg.mean("amount", resolution=0.01), 1e15)],
)
def test_what_cannot_be_added_up_exactly_is_refused_by_both(aggregate: agg.Aggregate, value: float) -> None:
    view = FeatureView("w", ("user",), "clicks", windowed(aggregate, over="1m"), "tests")
    frame = EntityFrame({"user": np.array(["ann"], dtype=object)}, np.array([NOON_US]))
    for engine in ("numpy", DUCKDB):
        with pytest.raises(ContractViolation, match=r"amount|fractions"):
            join_features([view], {"clicks": table_of([value])}, frame, engine)


def test_a_missing_column_and_a_text_are_refused() -> None:
    frame = EntityFrame({"user": np.array(["ann"], dtype=object)}, np.array([NOON_US]))
    for column in ("nothing", "user"):
        view = FeatureView("w", ("user",), "clicks", windowed(agg.lowest(column), over="1m"), "tests")
        with pytest.raises(ContractViolation, match=column):
            join_features([view], {"clicks": table_of([1.0])}, frame, DUCKDB)


def test_rows_come_back_in_the_order_of_the_frame() -> None:
    view = FeatureView("w", ("user",), "clicks", windowed(agg.count(), over="1m"), "tests")
    at_us = NOON_US + np.random.default_rng(3).permutation(200) * SECOND_US
    frame = EntityFrame({"user": np.full(200, "ann", dtype=object)}, at_us)
    table = table_of([1.0] * 200)
    found = join_features([view], {"clicks": table}, frame, DUCKDB)["w__count_1m"]
    created_us = table["created_timestamp"].cast(pa.int64())
    expected = [
        pc.sum(pc.and_(pc.greater(created_us, int(at) - 60 * SECOND_US), pc.less_equal(created_us, int(at)))).as_py()
        for at in at_us
    ]
    assert found.tolist() == expected


def _with_integers() -> pa.Schema:
    schema = table_of([1.0]).schema
    return schema.set(schema.get_field_index("amount"), pa.field("amount", pa.int64()))
