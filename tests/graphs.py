"""Graphs made by hand: what a bundle needs to answer, without training anything."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from flightdeck.features.view import FeatureView
from flightdeck.inference.graph import join_graphs
from flightdeck.inference.plan import PlanNode
from flightdeck.inference.tracing import trace_columns
from pipelines.features.model_input import CATEGORICAL, COMPUTED, FALLBACK_NUMERIC, REQUEST_COLUMNS
from pipelines.features.views import VIEWS
from pipelines.inference.pipeline import create_pipeline

RULES = {
    "rate": 0.25,
    "rates": {"UA:10": 0.5},
    "keys": [
        {"kind": "column", "column": "carrier"},
        {
            "kind": "integer",
            "weights": {"scheduled_departure_us": 1, "origin_utc_offset_min": 60_000_000},
            "modulus": 86_400_000_000,
            "divisor": 3_600_000_000,
        },
    ],
}


def view_columns(views: Sequence[FeatureView] = VIEWS) -> tuple[str, ...]:
    return tuple(column for view in views for column in view.columns)


def model_numeric(views: Sequence[FeatureView] = VIEWS) -> tuple[str, ...]:
    """Return the numeric features of a model that reads `views` as the use case's model reads its own."""
    return ("distance_miles", *COMPUTED, *view_columns(views))


def feature_list(views: Sequence[FeatureView] = VIEWS) -> dict[str, Any]:
    """Return a `features.json` of the use case's columns."""
    return {
        "categorical": list(CATEGORICAL),
        "numeric": list(model_numeric(views)),
        "fallback_numeric": list(FALLBACK_NUMERIC),
        "views": {view.name: view.digest for view in views},
        "declarations": [view.as_json() for view in views],
        "view_columns": list(view_columns(views)),
        "categories": {"carrier": ["UA", "DL", "B6"], "origin": ["EWR", "JFK", "LGA"], "dest": ["IAH", "MIA", "BOS"]},
    }


def joined(
    core: bytes,
    numeric: Sequence[str],
    views: Sequence[FeatureView] = (),
    nodes: Iterable[PlanNode] | None = None,
) -> bytes:
    """Return a model with the column functions of the use case, or of `nodes`, in front."""
    features = trace_columns(
        create_pipeline().nodes if nodes is None else nodes,
        request=REQUEST_COLUMNS,
        view_columns=view_columns(views),
        numeric=numeric,
    )
    return join_graphs(features, core, categorical=CATEGORICAL)


def weighted_sum(weights: Sequence[float]) -> bytes:
    """Return a model as an export gives it: sigmoid of a weighted sum of the numeric columns; NaN counts as 0."""
    tensors = [
        helper.make_tensor("weights", TensorProto.FLOAT, [len(weights), 1], list(weights)),
        helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0]),
        helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0]),
    ]
    nodes = [
        helper.make_node("IsNaN", ["numeric"], ["missing"]),
        helper.make_node("Where", ["missing", "zero", "numeric"], ["known"]),
        helper.make_node("MatMul", ["known", "weights"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["late"]),
        helper.make_node("Sub", ["one", "late"], ["punctual"]),
        helper.make_node("Concat", ["punctual", "late"], ["probabilities"], axis=1),
    ]
    return core_model(nodes, tensors, len(weights))


def broken(value: str, n_numeric: int) -> bytes:
    """Return a model that answers rows of distance 0 properly and every other with `value`: nan or 2."""
    tensors = [
        helper.make_tensor("axis", TensorProto.INT64, [1], [1]),
        helper.make_tensor("first", TensorProto.INT64, [1], [0]),
        helper.make_tensor("second", TensorProto.INT64, [1], [1]),
        helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0]),
        helper.make_tensor("good", TensorProto.FLOAT, [1, 2], [0.5, 0.5]),
        helper.make_tensor("bad", TensorProto.FLOAT, [1, 2], [float(value)] * 2),
    ]
    nodes = [
        helper.make_node("Slice", ["numeric", "first", "second", "axis"], ["distance"]),
        helper.make_node("Greater", ["distance", "zero"], ["is_real"]),
        helper.make_node("Where", ["is_real", "bad", "good"], ["probabilities"]),
    ]
    return core_model(nodes, tensors, n_numeric)


def endless(n_numeric: int, beyond: float = 0.0) -> bytes:
    """Return a model that never answers if a distance lies above `beyond`, and 0.5 else."""
    tensors = [
        helper.make_tensor("axis", TensorProto.INT64, [1], [1]),
        helper.make_tensor("first", TensorProto.INT64, [1], [0]),
        helper.make_tensor("second", TensorProto.INT64, [1], [1]),
        helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0]),
        helper.make_tensor("beyond", TensorProto.FLOAT, [], [beyond]),
        helper.make_tensor("half", TensorProto.FLOAT, [1, 2], [0.5, 0.5]),
    ]
    once = [
        helper.make_tensor_value_info("round", TensorProto.INT64, []),
        helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
        helper.make_tensor_value_info("now", TensorProto.FLOAT, [None, 2]),
    ]
    whole = [
        helper.make_tensor_value_info("still", TensorProto.BOOL, []),
        helper.make_tensor_value_info("then", TensorProto.FLOAT, [None, 2]),
    ]
    body = helper.make_graph(
        [helper.make_node("Identity", ["goes_on"], ["still"]), helper.make_node("Identity", ["now"], ["then"])],
        "for_ever", once, whole,
    )  # fmt: skip
    nodes = [
        helper.make_node("Slice", ["numeric", "first", "second", "axis"], ["distance"]),
        helper.make_node("ReduceMax", ["distance"], ["farthest"], keepdims=0),
        helper.make_node("Greater", ["farthest", "beyond"], ["is_real"]),
        helper.make_node("Mul", ["distance", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "half"], ["start"]),
        helper.make_node("Loop", ["", "is_real", "start"], ["probabilities"], body=body),
    ]
    return core_model(nodes, tensors, n_numeric)


def raising(n_numeric: int) -> bytes:
    """Return a model that answers 0.5 if all distances are 0, and raises if one is not."""
    tensors = [
        helper.make_tensor("axis", TensorProto.INT64, [1], [1]),
        helper.make_tensor("first", TensorProto.INT64, [1], [0]),
        helper.make_tensor("second", TensorProto.INT64, [1], [1]),
        helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0]),
        helper.make_tensor("half", TensorProto.FLOAT, [1, 2], [0.5, 0.5]),
    ]
    nodes = [
        helper.make_node("Slice", ["numeric", "first", "second", "axis"], ["distance"]),
        helper.make_node("Greater", ["distance", "zero"], ["is_real"]),
        helper.make_node("Cast", ["is_real"], ["place"], to=TensorProto.INT64),
        helper.make_node("Gather", ["half", "place"], ["found"], axis=0),  # there is no place 1
        helper.make_node("Squeeze", ["found", "axis"], ["probabilities"]),
    ]
    return core_model(nodes, tensors, n_numeric)


def core_model(nodes: Sequence[Any], tensors: Sequence[Any], n_numeric: int) -> bytes:
    """Return a graph with the inputs and the output of an export."""
    strings = [helper.make_tensor_value_info(name, TensorProto.STRING, [None, 1]) for name in CATEGORICAL]
    numeric = helper.make_tensor_value_info("numeric", TensorProto.FLOAT, [None, n_numeric])
    output = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2])
    graph = helper.make_graph(nodes, "tiny", [*strings, numeric], [output], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return bytes(model.SerializeToString())


def request_rows(n_rows: int, seed: int = 0) -> dict[str, Any]:
    """Return the columns of a request about random flights, shape `(n_rows,)` each."""
    random = np.random.default_rng(seed)
    departure_us = 1_370_000_000_000_000 + random.integers(0, 300 * 1440, n_rows) * 60_000_000
    texts = {"carrier": ["UA", "DL", "B6", "??"], "origin": ["EWR", "JFK"], "dest": ["IAH", "MIA"], "tailnum": ["N1"]}
    return {name: random.choice(np.array(values, dtype=object), n_rows) for name, values in texts.items()} | {
        "flight_number": random.integers(1, 9999, n_rows),
        "scheduled_departure_us": departure_us,
        "scheduled_arrival_us": departure_us + random.integers(-5, 700, n_rows) * 60_000_000,
        "request_us": departure_us - random.integers(0, 86_400_000_000, n_rows),
        "origin_utc_offset_min": random.choice([-300, -240, 330], n_rows),
        "distance_miles": random.integers(80, 4983, n_rows),
    }


def view_rows(n_rows: int, views: Sequence[FeatureView] = VIEWS, seed: int = 0) -> Any:
    """Return random values of the columns of `views`, float64 `(n_rows, n_view_columns)`, a fifth of them missing."""
    random = np.random.default_rng(seed)
    values = random.uniform(0, 86_400, (n_rows, len(view_columns(views))))
    values[random.random(values.shape) < 0.2] = np.nan
    return values
