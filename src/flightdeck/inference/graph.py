"""Two ONNX graphs made one: traced column functions in front, the exported model behind.

The joined graph takes what a request and the online store give, and answers with the probability and with what the
model has read. Names of the model's part begin with `model/`, so that it can be taken out again (`model_part`).
"""

from collections.abc import Mapping, Sequence

import onnx
from onnx import compose, helper, utils

from flightdeck.core.errors import ContractViolation
from flightdeck.inference.onnx_model import NUMERIC, PROBABILITIES

_PREFIX = "model/"
_AXIS = "column_axis"


def join_graphs(features: onnx.ModelProto, model: bytes, *, categorical: Sequence[str]) -> bytes:
    """Return one graph with the inputs of `features` and the string columns, outputs `probabilities` and `numeric`.

    The same two graphs give the same bytes in every process. Tensors that lie in a file beside the model stay there.

    Parameters
    ----------
    features
        Made by `tracing.trace_columns`; its output `numeric` is float32 `(n, n_numeric)`.
    model
        Made by `export.export_onnx`: takes `numeric` and one string input `(n, 1)` for each of `categorical`.
    categorical
        Names of the string columns; inputs `(n,)` of the joined graph.

    Raises
    ------
    ContractViolation
        If the two are written in different operator sets.
    """
    core = compose.add_prefix(onnx.load_from_string(model), _PREFIX)
    operator_sets = _operator_sets(features, core)
    _rename(core.graph, {f"{_PREFIX}{name}": name for name in (NUMERIC, PROBABILITIES)})
    columns = [helper.make_node("Unsqueeze", [n, _AXIS], [f"{_PREFIX}{n}"], name=f"column/{n}") for n in categorical]
    given = [*features.graph.input]
    known = {entry.name for entry in given}
    given += [_value(name, onnx.TensorProto.STRING, ["n"]) for name in categorical if name not in known]
    outputs = {entry.name: entry for entry in (*features.graph.output, *core.graph.output)}
    axis = [helper.make_tensor(_AXIS, onnx.TensorProto.INT64, [1], [1])] if categorical else []
    graph = helper.make_graph(
        [*features.graph.node, *columns, *core.graph.node],
        core.graph.name.removeprefix(_PREFIX),
        given,
        [outputs[PROBABILITIES], outputs[NUMERIC]],
        [*features.graph.initializer, *axis, *core.graph.initializer],
        value_info=[_value(f"{_PREFIX}{name}", onnx.TensorProto.STRING, ["n", 1]) for name in categorical],
    )
    joined = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid(domain, operator_sets[domain]) for domain in sorted(operator_sets)],
        functions=[*features.functions, *core.functions],
        ir_version=max(features.ir_version, core.ir_version),
        producer_name="flightdeck",
    )
    onnx.checker.check_model(_without_outside_tensors(joined))
    content: bytes = joined.SerializeToString(deterministic=True)
    return content


def model_part(content: bytes, *, categorical: Sequence[str]) -> bytes:
    """Return the model of a joined graph alone: it takes `numeric` and the string columns, shape `(n, 1)` each."""
    joined = onnx.load_from_string(content)
    starts = [NUMERIC, *(f"{_PREFIX}{name}" for name in categorical)]
    part = utils.Extractor(joined).extract_model(starts, [PROBABILITIES])
    _rename(part.graph, {f"{_PREFIX}{name}": name for name in categorical})
    alone: bytes = part.SerializeToString(deterministic=True)
    return alone


def _without_outside_tensors(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model that can be checked where the files of its tensors are not: it takes those tensors as inputs."""
    outside = [entry for entry in model.graph.initializer if entry.data_location == onnx.TensorProto.EXTERNAL]
    if not outside:
        return model
    checkable = onnx.ModelProto()
    checkable.CopyFrom(model)
    inside = [entry for entry in checkable.graph.initializer if entry.data_location != onnx.TensorProto.EXTERNAL]
    del checkable.graph.initializer[:]
    checkable.graph.initializer.extend(inside)
    checkable.graph.input.extend(_value(entry.name, entry.data_type, list(entry.dims)) for entry in outside)
    return checkable


def _operator_sets(features: onnx.ModelProto, core: onnx.ModelProto) -> dict[str, int]:
    """Return the version of each operator set, refusing two versions of one."""
    first, second = ({entry.domain: entry.version for entry in part.opset_import} for part in (features, core))
    differing = [domain for domain in first.keys() & second.keys() if first[domain] != second[domain]]
    if differing:
        domain = differing[0]
        raise ContractViolation(
            f"joining two graphs: column functions are traced in operator set {domain or 'ai.onnx'} "
            f"{first[domain]}, the model is exported in {second[domain]}",
            next_step="set OPSET in flightdeck/inference/export.py to the set that ndonnx writes",
        )
    return first | second


def _rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    for node in graph.node:
        for edges in (node.input, node.output):
            for place, name in enumerate(edges):
                edges[place] = names.get(name, name)
    for entry in (*graph.input, *graph.output):
        entry.name = names.get(entry.name, entry.name)


def _value(name: str, kind: int, shape: list[str | int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)
