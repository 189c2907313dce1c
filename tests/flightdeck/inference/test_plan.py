from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import node
from kedro.runner import SequentialRunner

from flightdeck.core.errors import ConfigError
from flightdeck.inference.plan import compile_plan
from pipelines.features.model_input import COMPUTED, FALLBACK_NUMERIC, REQUEST_COLUMNS
from pipelines.features.views import VIEW_COLUMNS
from pipelines.inference.pipeline import create_pipeline


@dataclass
class Step:
    """The least that a plan needs of a node."""

    func: Callable[..., Any]
    _inputs: str | Sequence[str] | Mapping[str, str] | None
    _outputs: str | Sequence[str] | Mapping[str, str] | None


def add(a: Any, b: Any) -> Any:
    return a + b


def both(a: Any) -> tuple[Any, Any]:
    return a, -a


def named(a: Any) -> dict[str, Any]:
    return {"half": a / 2, "twice": a * 2}


def test_runs_every_kind_of_wiring_in_the_order_of_need() -> None:
    nodes = [
        Step(add, {"b": "minus", "a": "half"}, "end"),
        Step(named, "sum", {"half": "half", "twice": "twice"}),
        Step(add, ["x", "y"], "sum"),
        Step(both, ["x"], ["plus", "minus"]),
        Step(lambda: 7, None, "seven"),
    ]
    plan = compile_plan(nodes, ["x", "y", "unused"], ["end", "seven", "x"])
    assert plan.inputs == ("y", "x") or plan.inputs == ("x", "y")
    assert plan({"x": 2, "y": 4, "more": 0}) == {"end": 1.0, "seven": 7, "x": 2}


def test_nodes_that_nothing_needs_are_left_out() -> None:
    def explode(_: Any) -> Any:
        raise AssertionError("not needed")

    plan = compile_plan([Step(both, "x", ["p", "m"]), Step(explode, "z", "never")], ["x"], ["m"])
    assert plan({"x": 1}) == {"m": -1}


def test_a_name_that_nothing_gives_is_refused_with_the_nearest_and_who_needs_it() -> None:
    with pytest.raises(ConfigError, match=r"'orgin' \(did you mean 'origin'\?\), needed by add"):
        compile_plan([Step(add, ["orgin", "x"], "sum")], ["origin", "x"], ["sum"])


def test_two_makers_of_one_column_are_refused() -> None:
    with pytest.raises(ConfigError, match="both make 'sum'"):
        compile_plan([Step(add, ["x", "y"], "sum"), Step(both, ["x"], ["sum", "m"])], ["x", "y"], ["sum"])


def test_a_circle_is_refused() -> None:
    with pytest.raises(ConfigError, match="wait for each other"):
        compile_plan([Step(abs, "b", "a"), Step(max, "a", "b")], [], ["a"])


def test_a_missing_column_and_a_failing_node_raise_through() -> None:
    plan = compile_plan([Step(add, ["x", "y"], "sum")], ["x", "y"], ["sum"])
    with pytest.raises(KeyError):
        plan({"x": 1})
    with pytest.raises(TypeError):
        plan({"x": 1, "y": "text"})


def columns(seed: int, n_rows: int) -> dict[str, Any]:
    random = np.random.default_rng(seed)
    request = {name: random.integers(1, 10**9, n_rows) for name in REQUEST_COLUMNS}
    return request | {name: random.normal(10, 5, n_rows) for name in VIEW_COLUMNS}


def test_the_plan_of_the_inference_pipeline_equals_the_pipeline() -> None:
    given = columns(0, 50)
    catalog = DataCatalog({name: MemoryDataset(values, copy_mode="assign") for name, values in given.items()})
    request_time = create_pipeline().only_nodes_with_tags("request_time")
    expected = SequentialRunner().run(request_time, catalog)
    found = compile_plan(create_pipeline().nodes, given, COMPUTED)(given)
    free = request_time.outputs()
    assert free <= set(COMPUTED)
    for name in free:
        np.testing.assert_array_equal(found[name], expected[name].load())


def test_the_fallback_needs_no_windowed_feature() -> None:
    wanted = [name for name in FALLBACK_NUMERIC if name not in REQUEST_COLUMNS]
    plan = compile_plan(create_pipeline().nodes, REQUEST_COLUMNS, wanted)
    assert set(plan.inputs) <= set(REQUEST_COLUMNS)


def test_concurrent_calls_do_not_mix() -> None:
    plan = compile_plan(create_pipeline().nodes, [*REQUEST_COLUMNS, *VIEW_COLUMNS], COMPUTED)
    given = [columns(seed, 3) for seed in range(40)]
    alone = [plan(each) for each in given]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(plan, given))
    for one, other in zip(alone, together, strict=True):
        assert all(np.array_equal(one[name], other[name], equal_nan=True) for name in COMPUTED)


def test_kedro_nodes_have_the_attributes_that_are_read() -> None:
    made = node(named, {"a": "x"}, {"half": "h", "twice": "t"}, name="n")
    assert compile_plan([made], ["x"], ["t"])({"x": 4}) == {"t": 8}
