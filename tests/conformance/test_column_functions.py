"""The laws of feature nodes, stated once and run on every column function of the project."""

import importlib
import pkgutil

import array_api_strict
import numpy as np
import numpy.typing as npt
import pytest
from kedro.pipeline.node import Node

import pipelines
from flightdeck.core import columns
from flightdeck.core.columns import ColumnFunction
from pipelines.features.model_input import COLUMN_FUNCTIONS
from pipelines.inference.pipeline import create_pipeline

N_ROWS = 64
DAY_US = 86_400_000_000
Columns = dict[str, npt.NDArray[np.int64] | npt.NDArray[np.float64]]


def example(function: ColumnFunction, n_rows: int = N_ROWS) -> Columns:
    """Return plausible inputs: whole numbers for times and counts of minutes, floats with gaps for features."""
    random = np.random.default_rng(3)
    departure = 1_370_000_000_000_000 + random.integers(0, 300 * 1440, n_rows) * 60_000_000
    known: Columns = {
        "scheduled_departure_us": departure,
        "request_us": departure - random.integers(0, 24 * 60, n_rows) * 60_000_000,
        "scheduled_arrival_us": departure + random.integers(20, 700, n_rows) * 60_000_000,
        "origin_utc_offset_min": random.choice(np.array([-300, -240]), n_rows),
        "distance_miles": random.integers(80, 4983, n_rows),
    }
    return {name: known[name] if name in known else floats(random, n_rows) for name in function.inputs}


def floats(random: np.random.Generator, n_rows: int) -> npt.NDArray[np.float64]:
    values = random.uniform(0, 86_400, n_rows)
    values[random.random(n_rows) < 0.2] = np.nan
    return values


def run(function: ColumnFunction, inputs: Columns) -> list[npt.NDArray[np.float64]]:
    return [np.asarray(output) for output in function.function(**inputs)]


every_function = pytest.mark.parametrize("function", COLUMN_FUNCTIONS, ids=lambda function: function.name)


@every_function
def test_input_is_left_unchanged(function: ColumnFunction) -> None:
    inputs = example(function)
    before = {name: values.copy() for name, values in inputs.items()}
    for values in inputs.values():
        values.flags.writeable = False
    run(function, inputs)
    for name, values in inputs.items():
        np.testing.assert_array_equal(values, before[name])


@every_function
def test_same_input_gives_same_output(function: ColumnFunction) -> None:
    first, second = run(function, example(function)), run(function, example(function))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


@every_function
def test_row_order_only_permutes(function: ColumnFunction) -> None:
    inputs, order = example(function), np.random.default_rng(5).permutation(N_ROWS)
    straight = run(function, inputs)
    shuffled = run(function, {name: values[order] for name, values in inputs.items()})
    for one, other in zip(straight, shuffled, strict=True):
        np.testing.assert_array_equal(one[order], other)


@every_function
def test_row_by_row_equals_batch(function: ColumnFunction) -> None:
    inputs = example(function)
    batch = run(function, inputs)
    for row in range(N_ROWS):
        single = run(function, {name: values[row : row + 1] for name, values in inputs.items()})
        for one, other in zip(batch, single, strict=True):
            np.testing.assert_array_equal(one[row : row + 1], other)


@every_function
def test_empty_in_empty_out(function: ColumnFunction) -> None:
    assert [output.shape for output in run(function, example(function, 0))] == [(0,)] * len(function.outputs)


@every_function
def test_output_matches_declaration(function: ColumnFunction) -> None:
    outputs = run(function, example(function))
    assert len(outputs) == len(function.outputs)
    for values, declared in zip(outputs, function.outputs, strict=True):
        assert values.dtype == np.float64 and values.shape == (N_ROWS,)
        finite = values[~np.isnan(values)]
        assert len(finite) and finite.min() >= declared.low and finite.max() <= declared.high


@every_function
def test_uses_only_array_api_operations(function: ColumnFunction) -> None:
    inputs = example(function)
    strict = {name: array_api_strict.asarray(values) for name, values in inputs.items()}
    for one, other in zip(run(function, inputs), function.function(**strict), strict=True):
        np.testing.assert_array_equal(one, np.asarray(other))


def test_every_registered_column_function_is_covered_and_wired() -> None:
    for module in pkgutil.walk_packages(pipelines.__path__, "pipelines."):
        if module.name.endswith(".nodes"):
            importlib.import_module(module.name)
    registered = {key.rpartition(".")[2] for key in columns._registered if key.startswith("pipelines.")}
    covered = {function.name for function in COLUMN_FUNCTIONS}
    wired: list[Node] = create_pipeline().only_nodes_with_tags("request_time").nodes
    assert covered == registered == {node.name for node in wired}
