"""What the Open Inference Protocol, version 2, takes and gives over REST, as far as this service speaks it."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, WithJsonSchema

from serving.protocols.question import Parameters
from serving.schemas import Refusing

MAX_ID = 256
_VALUE = {"type": ["string", "integer", "null"]}
_VALUES = {"type": "array", "items": {"anyOf": [_VALUE, {"type": "array", "items": _VALUE}]}}
_BINARY = "True is refused: tensors are JSON, the binary extension is not offered"


class TensorParameters(Refusing):
    """Ignored, but for what announces binary data."""

    content_type: Any = None
    binary_data_size: Annotated[int | None, Field(description="Refused: tensors are JSON")] = None


class InputTensor(Refusing):
    """One field of all flights; which there are, and their datatypes, is in the model's metadata."""

    name: Annotated[str, Field(examples=["carrier"])]
    shape: Annotated[list[int], Field(description="`[n]` or `[n, 1]`, the same n for all", examples=[[1]])]
    datatype: Annotated[str, Field(description="BYTES (text) or INT64", examples=["BYTES"])]
    data: Annotated[
        list[Any],
        WithJsonSchema(_VALUES),
        Field(description="n values, flat or as n lists of one; an optional text may be null or empty"),
    ]
    parameters: TensorParameters | None = None


class OutputParameters(Refusing):
    """What may be asked of an output."""

    content_type: Any = None
    binary_data: Annotated[bool | None, Field(description=_BINARY)] = None


class RequestedOutput(Refusing):
    """An output that is wanted."""

    name: Annotated[str, Field(examples=["probability"])]
    parameters: OutputParameters | None = None


class InferParameters(Parameters):
    """What a request says beside its tensors."""

    binary_data_output: Annotated[bool | None, Field(description=_BINARY)] = None


class InferRequest(Refusing):
    """A question about one to 500 flights, one tensor a field."""

    id: Annotated[str | None, Field(max_length=MAX_ID, description="Given back as it is")] = None
    parameters: InferParameters | None = None
    inputs: list[InputTensor]
    outputs: Annotated[list[RequestedOutput] | None, Field(description="Left out or empty: all")] = None


class OutputTensor(BaseModel):
    """One property of all answers, in the order of the request."""

    name: str
    shape: Annotated[list[int], Field(description="`[n]`")]
    datatype: Literal["FP64", "BYTES", "INT64"]
    data: Annotated[
        list[float | str | None],
        Field(description="Refused item: probability null, model_version 0. No decision or reason: empty text"),
    ]


class InferAnswer(BaseModel):
    """All answers of a request."""

    model_name: str
    model_version: Annotated[str | None, Field(description="Left out where versions share the answer")] = None
    id: str | None = None
    outputs: list[OutputTensor]


class TensorMetadata(BaseModel):
    """What a tensor is."""

    name: str
    datatype: str
    shape: Annotated[list[int], Field(description="-1 stands for any number of flights")]


class ModelMetadata(BaseModel):
    """What the model takes and gives."""

    name: str
    versions: Annotated[list[str], Field(description="Those that are loaded; the routing table decides who answers")]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class ServerMetadata(BaseModel):
    """What the server is."""

    name: str
    version: str
    extensions: list[str]


class Live(BaseModel):
    """Whether the process runs."""

    live: bool


class Ready(BaseModel):
    """Whether a champion is loaded."""

    ready: bool


class ModelReady(BaseModel):
    """Whether a model is loaded."""

    name: str
    ready: bool


class InferError(BaseModel):
    """Every error below /v2."""

    error: str
