"""A trained model made ill in one way: its graph as it was sealed, with a few operations more."""

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

from flightdeck.inference.onnx_model import NUMERIC, PROBABILITIES

WELL = "well"
WIDTH = 2048


def scaled(content: bytes, names: Sequence[str], column: str, factor: float) -> bytes:
    """Return the model that reads one of its numeric columns, called `names`, times `factor`."""
    model = onnx.load_from_string(content)
    factors = np.ones((1, len(names)), np.float32)
    factors[0, list(names).index(column)] = factor
    model.graph.initializer.append(numpy_helper.from_array(factors, "ill/factors"))
    made = next(place for place, node in enumerate(model.graph.node) if NUMERIC in node.output)
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            if name == NUMERIC:
                node.input[place] = "ill/numeric"
    model.graph.node.insert(made + 1, helper.make_node("Mul", [NUMERIC, "ill/factors"], ["ill/numeric"]))
    return _checked(model)


def slowed(content: bytes) -> bytes:
    """Return the model that multiplies a matrix of `WIDTH` for each row, and adds 0 of it."""
    tensors = [
        helper.make_tensor("ill/shape", onnx.TensorProto.INT64, [2], [WIDTH, WIDTH]),
        helper.make_tensor("ill/row", onnx.TensorProto.INT64, [2], [1, WIDTH]),
        helper.make_tensor("ill/axis", onnx.TensorProto.INT64, [1], [1]),
        helper.make_tensor("ill/zero", onnx.TensorProto.FLOAT, [1], [0.0]),
    ]
    one = helper.make_tensor("value", onnx.TensorProto.FLOAT, [1], [1.0])
    nodes = [
        helper.make_node("ReduceMax", [WELL, "ill/axis"], ["ill/larger"], keepdims=1),
        helper.make_node("Expand", ["ill/larger", "ill/row"], ["ill/wide"]),
        helper.make_node("ConstantOfShape", ["ill/shape"], ["ill/matrix"], value=one),
        helper.make_node("MatMul", ["ill/wide", "ill/matrix"], ["ill/product"]),
        helper.make_node("ReduceMax", ["ill/product", "ill/axis"], ["ill/largest"], keepdims=1),
        helper.make_node("Mul", ["ill/largest", "ill/zero"], ["ill/nothing"]),
        helper.make_node("Add", [WELL, "ill/nothing"], [PROBABILITIES]),
    ]
    return _with_tail(content, nodes, tensors)


def not_finite(content: bytes, above: float) -> bytes:
    """Return the model that answers NaN where it would say more than `above`."""
    tensors = [
        helper.make_tensor("ill/above", onnx.TensorProto.FLOAT, [1, 2], [2.0, above]),
        helper.make_tensor("ill/nan", onnx.TensorProto.FLOAT, [1], [float("nan")]),
    ]
    nodes = [
        helper.make_node("Greater", [WELL, "ill/above"], ["ill/is_high"]),
        helper.make_node("Where", ["ill/is_high", "ill/nan", WELL], [PROBABILITIES]),
    ]
    return _with_tail(content, nodes, tensors)


def _with_tail(content: bytes, nodes: Sequence[onnx.NodeProto], tensors: Sequence[onnx.TensorProto]) -> bytes:
    """Return the model whose probabilities go through `nodes`, which take them as `WELL`."""
    model = onnx.load_from_string(content)
    for node in model.graph.node:
        for place, name in enumerate(node.output):
            if name == PROBABILITIES:
                node.output[place] = WELL
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(tensors)
    return _checked(model)


def _checked(model: onnx.ModelProto) -> bytes:
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))
