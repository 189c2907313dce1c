"""The Open Inference Protocol, version 2: from tensors to the question, from the answer to tensors."""

from collections.abc import Sequence
from typing import Any

import msgspec
from starlette.requests import Request

from serving.answering import media_type
from serving.errors import RequestRefused
from serving.protocols.open_inference_schemas import InferRequest, InputTensor
from serving.protocols.question import FIELDS, INTEGERS, OPTIONAL, ProtocolSettings, make_ask, parse, refuse
from serving.wire import Ask

BYTES, INT64, FP64 = "BYTES", "INT64", "FP64"
INPUTS = {name: INT64 if name in INTEGERS else BYTES for name in FIELDS}
OUTPUTS = {"probability": FP64, "decision": BYTES, "mode": BYTES, "reason": BYTES, "arm": BYTES, "model_version": INT64}
_BINARY_LENGTH = "inference-header-content-length"
_NO_BINARY = "binary tensor data is not offered: send and ask for JSON tensors"
_encoder = msgspec.json.Encoder()


class Predicted(msgspec.Struct):
    """What is taken of an item of the answer."""

    flight_id: str
    probability: float | None
    decision: str | None
    mode: str
    reason: str | None
    arm: str
    model_version: int | None


class Answer(msgspec.Struct):
    """What is taken of an answer of the batcher."""

    predictions: list[Predicted]


read_answer = msgspec.json.Decoder(Answer).decode


def read_infer(request: Request, body: bytes) -> InferRequest:
    """Return a request for inference, its outputs and ways of transport known to be offered.

    Raises
    ------
    RequestRefused
        415 for binary tensors or another content type, 400 with all broken rules.
    """
    kind, is_utf_8 = media_type(request)
    if _BINARY_LENGTH in request.headers or kind not in ("", "application/json") or not is_utf_8:
        raise RequestRefused(415, "unsupported_media_type", f"a body is sent as application/json; {_NO_BINARY}")
    infer: InferRequest = parse(InferRequest, body)
    problems = [] if infer.parameters is None else _binary("parameters", infer.parameters.binary_data_output)
    for place, output in enumerate(infer.outputs or []):
        if output.name not in OUTPUTS:
            problems.append((f"outputs.{place}.name", f"no such output; there are {', '.join(OUTPUTS)}"))
        if output.parameters is not None:
            problems += _binary(f"outputs.{place}.parameters", output.parameters.binary_data)
    problems += _tensor_problems(infer.inputs)
    if problems:
        raise refuse(problems)
    return infer


def ask_of(infer: InferRequest, settings: ProtocolSettings, request_id: str) -> Ask:
    """Return the question that a request for inference asks.

    Raises
    ------
    RequestRefused
        400, with all broken rules.
    """
    columns = {tensor.name: _values(tensor) for tensor in infer.inputs}
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return make_ask(rows, infer.parameters, settings, request_id, _where, "parameters")


def write_answer(name: str, infer: InferRequest, body: bytes) -> bytes:
    """Return the batcher's answer as tensors."""
    items = read_answer(body).predictions
    versions = {item.model_version for item in items if item.model_version is not None}
    asked = [output.name for output in infer.outputs or []] or list(OUTPUTS)
    answer: dict[str, Any] = {"model_name": name}
    if len(versions) == 1:
        answer["model_version"] = str(versions.pop())
    if infer.id is not None:
        answer["id"] = infer.id
    answer["outputs"] = [
        {"name": output, "shape": [len(items)], "datatype": OUTPUTS[output], "data": _column(items, output)}
        for output in asked
    ]
    return _encoder.encode(answer)


def _column(items: Sequence[Predicted], output: str) -> list[Any]:
    """Return a property of all items; of the protocol's tensors only JSON's numbers can be null."""
    missing = {BYTES: "", INT64: 0, FP64: None}[OUTPUTS[output]]
    values = [getattr(item, output) for item in items]
    return [missing if value is None else value for value in values]


def _tensor_problems(tensors: Sequence[InputTensor]) -> list[tuple[str, str]]:
    """Return what is wrong with names, datatypes, shapes and numbers of values."""
    names = [tensor.name for tensor in tensors]
    missing = [name for name in INPUTS if name not in names and name not in OPTIONAL]
    problems = [("inputs", f"no input {name}") for name in missing]
    n_rows = next((tensor.shape[0] for tensor in tensors if tensor.shape), 0)
    for place, tensor in enumerate(tensors):
        at = f"inputs.{place}"
        if tensor.name not in INPUTS:
            problems.append((f"{at}.name", f"no such input; there are {', '.join(INPUTS)}"))
        elif tensor.name in names[:place]:
            problems.append((f"{at}.name", f"{tensor.name} is there twice"))
        elif tensor.datatype != INPUTS[tensor.name]:
            problems.append((f"{at}.datatype", f"{tensor.name} is {INPUTS[tensor.name]}"))
        if tensor.shape not in ([n_rows], [n_rows, 1]):
            problems.append((f"{at}.shape", "[n] or [n, 1], the same n for all inputs"))
        elif len(tensor.data) != n_rows:
            problems.append((f"{at}.data", "as many values as the shape says"))
        if tensor.parameters is not None and tensor.parameters.binary_data_size is not None:
            problems += _binary(f"{at}.parameters", asked=True)
    return problems


def _values(tensor: InputTensor) -> list[Any]:
    """Return a tensor's values, taken out of lists of one; an optional text that is empty is not known."""
    values = [value[0] if isinstance(value, list) and len(value) == 1 else value for value in tensor.data]
    return [value or None for value in values] if tensor.name in OPTIONAL else values


def _binary(where: str, asked: bool | None) -> list[tuple[str, str]]:
    return [(where, _NO_BINARY)] if asked else []


def _where(row: str, field: str) -> str:
    return ".".join(filter(None, ["inputs", field, "data" if field else "", row]))
