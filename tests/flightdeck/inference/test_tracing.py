"""Column functions become a graph that computes what NumPy computes, or are refused by name."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from kedro.pipeline import node

from flightdeck.core.errors import ConfigError, ContractViolation
from flightdeck.inference.export import predict_onnx
from flightdeck.inference.graph import join_graphs
from flightdeck.inference.tracing import trace_columns
from tests.graphs import weighted_sum

Array = Any
REQUEST = {"carrier": "string", "origin": "string", "dest": "string", "count": "int64"}
VIEWS = ("age", "delay")


def trace(function: Callable[..., Any], *outputs: str, numeric: tuple[str, ...] = ()) -> onnx.ModelProto:
    names = list(function.__code__.co_varnames[: function.__code__.co_argcount])
    made = list(outputs) or ["made"]
    return trace_columns(
        [node(function, names, made)], request=REQUEST, view_columns=VIEWS, numeric=numeric or tuple(made)
    )


def run(features: onnx.ModelProto, n_numeric: int, columns: dict[str, Any], views: Any) -> Any:
    """Return what the graph computes for the model."""
    texts = {name: np.array(["x"] * len(views), dtype=object) for name in ("carrier", "origin", "dest")}
    model = join_graphs(features, weighted_sum([0.0] * n_numeric), categorical=tuple(texts))
    return predict_onnx(model, {**texts, **columns}, views).numeric


def interpolate(age: Array) -> tuple[Array]:
    return (np.interp(age, [0.0, 60.0], [0.0, 1.0]),)


def branch(age: Array) -> tuple[Array]:
    if age > 60.0:
        return (age,)
    return (age / 60.0,)


def larger(age: Array, delay: Array) -> tuple[Array]:
    return (max(age, delay),)


def listed(age: Array) -> tuple[Array]:
    return ([value / 60.0 for value in age.tolist()],)


def looped(age: Array) -> tuple[Array]:
    return ([value / 60.0 for value in age],)


def by_numpy(age: Array) -> tuple[Array]:
    return (np.asarray(age),)


def floored_by_numpy(age: Array) -> tuple[Array]:
    return (np.floor(age / 60.0),)


def distance(age: Array, delay: Array) -> tuple[Array]:
    xp = age.__array_namespace__()
    return (xp.hypot(age, delay),)


def unknown_operation(age: Array) -> tuple[Array]:
    xp = age.__array_namespace__()
    return (xp.interp(age, 0.0),)


def summed(age: Array) -> tuple[Array]:
    xp = age.__array_namespace__()
    return (xp.sum(age),)


@pytest.mark.parametrize(
    ("function", "operation", "instead"),
    [
        (interpolate, "np.interp(age, [0.0, 60.0], [0.0, 1.0])", "column's own library"),
        (branch, "age > 60.0", "xp.where(condition, a, b)"),
        (larger, "max(age, delay)", "xp.maximum"),
        (listed, "age.tolist", "whole columns"),
        (looped, "[value / 60.0 for value in age]", "whole columns"),
        (by_numpy, "returns ndarray", "column's own library"),
        (floored_by_numpy, "np.floor(age / 60.0)", "column's own library"),
        (distance, "xp.hypot(age, delay)", "column's own library"),
        (unknown_operation, "xp.interp", "column's own library"),
        (summed, "returns 0 dimensions", "whole columns"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_cannot_be_traced_is_refused_with_function_operation_and_remedy(
    function: Callable[..., Any], operation: str, instead: str
) -> None:
    with pytest.raises(ContractViolation) as refused:
        trace(function)
    assert f"the column function {function.__name__} " in refused.value.message
    assert operation in refused.value.message
    assert function.__name__ in refused.value.next_step and instead in refused.value.next_step


def test_a_feature_that_nothing_makes_is_refused() -> None:
    with pytest.raises(ConfigError, match="moon_phase"):
        trace(shifted, numeric=("moon_phase",))


def shifted(count: Array, age: Array) -> tuple[Array]:
    xp = age.__array_namespace__()
    whole = xp.floor_divide(count, 60)
    return (xp.where(xp.isnan(age), xp.astype(whole, xp.float64), age) + xp.astype(xp.remainder(count, 7), xp.float64),)


def test_only_needed_inputs_are_asked_for_and_views_come_in_the_order_that_the_model_wants() -> None:
    features = trace(shifted, numeric=("delay", "made", "age", "delay"))
    assert [entry.name for entry in features.graph.input] == ["count", "views"]
    views = np.array([[1.0, np.nan], [np.nan, 5.0]])
    found = run(features, 4, {"count": np.array([-1, 125])}, views)
    np.testing.assert_array_equal(found, np.array([[np.nan, 7, 1, np.nan], [5, 8, np.nan, 5]], np.float32))


def test_a_text_can_be_compared() -> None:
    def is_united(carrier: Array, age: Array) -> tuple[Array]:
        xp = carrier.__array_namespace__()
        return (xp.astype(carrier == "UA", age.dtype),)

    features = trace(is_united)
    texts = {"carrier": np.array(["UA", "DL"], dtype=object), "origin": np.array(["a", "b"], dtype=object)}
    model = join_graphs(features, weighted_sum([0.0]), categorical=("carrier", "origin", "dest"))
    found = predict_onnx(model, {**texts, "dest": texts["origin"]}, np.zeros((2, 2)))
    assert found.numeric.tolist() == [[1.0], [0.0]]


def arithmetic(count: Array, age: Array, delay: Array) -> tuple[Array, ...]:
    xp = age.__array_namespace__()
    whole = xp.astype(count, xp.float64)
    return (
        xp.astype(xp.floor_divide(count, 7), xp.float64),
        xp.astype(xp.remainder(count, -7), xp.float64),
        xp.remainder(age, delay),
        age / delay,
        xp.where(age > delay, age, whole),
        xp.astype(xp.isnan(age) | (delay < 0.0), xp.float64),
        xp.round(age),
        xp.trunc(age),
        xp.maximum(age, delay),
        xp.minimum(age, whole),
        xp.sqrt(xp.abs(age)),
        xp.clip(age, -1.0, 1.0),
    )


def test_arithmetic_is_numpys_bit_by_bit_on_all_kinds_of_values() -> None:
    random = np.random.default_rng(1)
    odd = [0.0, -0.0, 0.5, 1.5, -0.5, np.nan, np.inf, -np.inf, 1e300, 1e-300]
    age = np.concatenate([np.repeat(odd, len(odd)), random.normal(0, 100, 2_000)])
    delay = np.concatenate([np.tile(odd, len(odd)), random.choice([0.1, -0.3, 7.0, 60.0], 2_000)])
    count = random.integers(-(2**52), 2**52, len(age))
    names = tuple(f"c{place}" for place in range(12))
    found = run(trace(arithmetic, *names), 12, {"count": count}, np.stack([age, delay], axis=1))
    with np.errstate(all="ignore"):
        expected = np.stack(arithmetic(count, age, delay), axis=1).astype(np.float32)
    np.testing.assert_array_equal(found, expected)


def test_a_model_in_another_operator_set_is_refused() -> None:
    other = onnx.load_from_string(weighted_sum([0.0]))
    other.opset_import[0].version = 17
    with pytest.raises(ContractViolation, match=r"operator set ai.onnx 21, the model is exported in 17"):
        join_graphs(trace(shifted), other.SerializeToString(), categorical=("carrier", "origin", "dest"))
