"""Column functions written down as an ONNX graph: the door to ndonnx, used when a bundle is made and never by a server.

The nodes are called once with arrays that have a type and a shape but no values; every operation that they call becomes
a node of the graph. What is not an operation on whole columns leaves no trace, so a function that looks at values, asks
NumPy or gives back something else than its columns is refused by name.
"""

import functools
import linecache
import re
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

import ndonnx as ndx
import onnx

from flightdeck.core.errors import ContractViolation
from flightdeck.inference.onnx_model import INT64, NUMERIC, STRING, VIEWS
from flightdeck.inference.plan import PlanNode, compile_plan

_KINDS = {INT64: ndx.int64, STRING: ndx.utf8}
_NAMESPACE = "with xp = column.__array_namespace__()"
_OWN_NAMESPACE = (
    f"call the operation of the column's own library, {_NAMESPACE}; one that the array API lacks, such as interp, is "
    "written with xp.where and arithmetic, or becomes a feature view"
)
_NO_CONDITION = f"{_NAMESPACE}, write xp.where(condition, a, b), &, | and xp.maximum in place of if, and, or and max"
_NO_VALUES = f"keep to operations on whole columns, {_NAMESPACE}: no value is known while a function is traced"


def trace_columns(
    nodes: Iterable[PlanNode], *, request: Mapping[str, str], view_columns: Sequence[str], numeric: Sequence[str]
) -> onnx.ModelProto:
    """Return the graph that turns request columns and view columns into what a model reads.

    Parameters
    ----------
    nodes
        Nodes of the column functions, in any order; those that `numeric` needs are traced.
    request
        Kind (`int64` or `string`) of each column that a request gives; those that are needed become inputs `(n,)`.
    view_columns
        Columns of the float64 input `views`, shape `(n, n_view_columns)`; empty: the graph has no such input.
    numeric
        Names of the numeric features in model order: the columns of the float32 output `numeric`.

    Raises
    ------
    ConfigError
        If a feature is neither given nor made by a node.
    ContractViolation
        If a function cannot be traced: the function, the operation and what to write instead.
    """
    plan = compile_plan(map(_TracedNode, nodes), (*request, *view_columns), numeric)
    places = {name: place for place, name in enumerate(view_columns)}
    inputs = {name: ndx.argument(shape=("n",), dtype=_KINDS[request[name]]) for name in plan.inputs if name in request}
    views = ndx.argument(shape=("n", len(view_columns)), dtype=ndx.float64)
    columns = plan(inputs | {name: views[:, places[name]] for name in plan.inputs if name in places})
    parts = []
    for is_of_view, names in groupby(numeric, places.__contains__):
        if is_of_view:
            parts.append(_take(views, [places[name] for name in names]))
        else:
            parts.append(ndx.stack([ndx.astype(columns[name], ndx.float64) for name in names], axis=1))
    matrix = ndx.astype(ndx.concat(parts, axis=1), ndx.float32)
    return ndx.build(inputs | ({VIEWS: views} if view_columns else {}), {NUMERIC: matrix})


def _take(views: ndx.Array, places: list[int]) -> ndx.Array:
    """Return some columns of the matrix; neighbours in one step."""
    if places == list(range(places[0], places[-1] + 1)):
        return views[:, places[0] : places[-1] + 1]
    return ndx.take(views, ndx.asarray(places, dtype=ndx.int64), axis=1)


class _TracedNode:
    """A node whose function refuses to be traced by halves."""

    def __init__(self, node: PlanNode) -> None:
        self._inputs, self._outputs = node._inputs, node._outputs
        self.func = _refusing(node.func)


def _refusing(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            result = function(*args, **kwargs)
        except Exception as error:
            raise _refusal(function, *_describe(function, error)) from error
        made = result.values() if isinstance(result, Mapping) else result if isinstance(result, tuple) else (result,)
        for value in made:
            if not isinstance(value, ndx.Array):
                raise _refusal(function, f"it returns {type(value).__name__} and no traced column", _OWN_NAMESPACE)
            if value.ndim != 1:
                raise _refusal(function, f"it returns {value.ndim} dimensions, a column has one", _NO_VALUES)
        return result

    return call


def _refusal(function: Callable[..., Any], why: str, instead: str) -> ContractViolation:
    name = getattr(function, "__qualname__", repr(function))
    return ContractViolation(
        f"tracing the column function {name} into the model's graph: {why}", next_step=f"in {name}, {instead}"
    )


def _describe(function: Callable[..., Any], error: Exception) -> tuple[str, str]:
    """Return which operation failed, where and why, and what to write instead."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename == function.__code__.co_filename]
    operation = _source(own[-1]) if own else "calling it"
    why = f"{operation} (line {own[-1].lineno if own else '?'}) cannot be traced: {type(error).__name__}: {error}"
    if re.search(r"\b(np|numpy)\.", operation) or isinstance(error, NotImplementedError) or "ndonnx" in str(error):
        return why, _OWN_NAMESPACE
    is_condition = any(frame.name == "__bool__" for frame in frames)
    return why, _NO_CONDITION if is_condition else _NO_VALUES


def _source(frame: traceback.FrameSummary) -> str:
    """Return the text of the expression that a frame was computing."""
    line = linecache.getline(frame.filename, frame.lineno or 0)
    if frame.lineno != frame.end_lineno or frame.colno is None:
        return line.strip()
    return line.encode()[frame.colno : frame.end_colno].decode(errors="replace")
