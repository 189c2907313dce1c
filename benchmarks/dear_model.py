"""A bundle every rung of which costs some milliseconds an item: overload where refusing is the only cheap answer.

Model and fallback are ONNX graphs that take sines of a row of numbers again and again; the time is linear in the items
and the count is found by timing. The rules look up by so many keys that they are no cheap way out either.
"""

import time

import numpy as np
import onnxruntime
from onnx import GraphProto, TensorProto, helper

from benchmarks.serving_world import NUMERIC, draft_files
from pipelines.features.model_input import CATEGORICAL, FALLBACK_NUMERIC

WIDTH, N_TRIED, N_ROWS = 2048, 50, 4
N_RULE_KEYS = 25_000
OPSET = 21


def dear_files(item_s: float) -> dict[str, bytes]:
    """Return the files of a draft whose model and fallback take `item_s` seconds an item on this machine."""
    n_sines = sines_for(item_s)
    rules = {"rate": 0.25, "rates": {}, "keys": [{"kind": "column", "column": "carrier"}] * N_RULE_KEYS}
    return draft_files(burning_model(len(NUMERIC), n_sines), burning_model(len(FALLBACK_NUMERIC), n_sines), rules)


def sines_for(item_s: float) -> int:
    """Return how many times to take sines so that an item takes `item_s` seconds; the fastest of five runs counts."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(burning_model(1, N_TRIED), options, providers=["CPUExecutionProvider"])
    feed: dict[str, np.ndarray] = {name: np.full((N_ROWS, 1), "", dtype=object) for name in CATEGORICAL}
    feed["numeric"] = np.ones((N_ROWS, 1), dtype=np.float32)
    took_s = []
    for _ in range(5):
        began_s = time.perf_counter()
        session.run(None, feed)
        took_s.append(time.perf_counter() - began_s)
    return max(1, round(item_s / (min(took_s) / N_ROWS / N_TRIED)))


def burning_model(n_numeric: int, n_sines: int) -> bytes:
    """Return a graph with inputs and output of an export: probability 0.5, after `n_sines` sines of `WIDTH` numbers."""
    nodes = [
        helper.make_node("Slice", ["numeric", "first", "second", "axis"], ["column"]),
        helper.make_node("Mul", ["column", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "wide"], ["start"]),
        helper.make_node("Loop", ["n_sines", "", "start"], ["end"], body=_sines()),
        helper.make_node("ReduceMean", ["end", "axis"], ["mean"], keepdims=1),
        helper.make_node("Mul", ["mean", "zero"], ["nil"]),
        helper.make_node("Add", ["nil", "half"], ["late"]),
        helper.make_node("Sub", ["one", "late"], ["punctual"]),
        helper.make_node("Concat", ["punctual", "late"], ["probabilities"], axis=1),
    ]
    tensors = [
        helper.make_tensor("axis", TensorProto.INT64, [1], [1]),
        helper.make_tensor("first", TensorProto.INT64, [1], [0]),
        helper.make_tensor("second", TensorProto.INT64, [1], [1]),
        helper.make_tensor("n_sines", TensorProto.INT64, [], [n_sines]),
        helper.make_tensor("wide", TensorProto.FLOAT, [1, WIDTH], np.linspace(0.1, 1.0, WIDTH).tolist()),
        helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0]),
        helper.make_tensor("half", TensorProto.FLOAT, [1], [0.5]),
        helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0]),
    ]
    strings = [helper.make_tensor_value_info(name, TensorProto.STRING, [None, 1]) for name in CATEGORICAL]
    numeric = helper.make_tensor_value_info("numeric", TensorProto.FLOAT, [None, n_numeric])
    output = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2])
    graph = helper.make_graph(nodes, "dear", [*strings, numeric], [output], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    return bytes(model.SerializeToString())


def _sines() -> GraphProto:
    """Return the body of the loop."""
    inputs = [
        helper.make_tensor_value_info("turn", TensorProto.INT64, []),
        helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
        helper.make_tensor_value_info("value", TensorProto.FLOAT, [None, WIDTH]),
    ]
    outputs = [
        helper.make_tensor_value_info("still", TensorProto.BOOL, []),
        helper.make_tensor_value_info("sine", TensorProto.FLOAT, [None, WIDTH]),
    ]
    nodes = [helper.make_node("Identity", ["goes_on"], ["still"]), helper.make_node("Sin", ["value"], ["sine"])]
    return helper.make_graph(nodes, "sines", inputs, outputs)
