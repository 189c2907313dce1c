"""Writing a graph whose tensors are large: they go into one file beside it, which a server maps instead of copying.

Measured with a tensor of 512 MB: opening it inside the graph takes twice its size (one copy stays), beside the graph
nothing but the pages that an answer touches. A protobuf message ends at 2 GB, so a larger model has to come with its
tensors outside already; a draft takes such files as they are.
"""

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, external_data_helper, numpy_helper

from flightdeck.core.errors import ContractViolation
from flightdeck.core.files import write_atomically

LARGE_BYTES = 256 << 20
ALIGNED_BYTES = 64 << 10  # a multiple of every page size in use
_KEEPS_INSIDE = (TensorProto.STRING, TensorProto.UNDEFINED)


def write_graph(path: Path, content: bytes, *, large_bytes: int = LARGE_BYTES) -> None:
    """Write the graph `content` to `path`, each initializer of `large_bytes` or more to `<name of path>.data`.

    A graph without such an initializer is written byte by byte as it is given.

    Parameters
    ----------
    path
        File of the graph.
    content
        ONNX bytes; tensors that lie outside already stay where they are.
    large_bytes
        From which size on an initializer lies outside.

    Raises
    ------
    ContractViolation
        If the file for the tensors is there already.
    """
    if len(content) < large_bytes:
        write_atomically(path, content)
        return
    model = onnx.load_from_string(content)
    large = [tensor for tensor in model.graph.initializer if _n_bytes(tensor) >= large_bytes]
    if large:
        _move_out(large, path.with_name(f"{path.name}.data"))
        content = model.SerializeToString(deterministic=True)
    write_atomically(path, content)


def _n_bytes(tensor: onnx.TensorProto) -> int:
    """Return how many bytes of values lie inside the graph."""
    if tensor.data_location == TensorProto.EXTERNAL or tensor.data_type in _KEEPS_INSIDE:
        return 0
    return len(tensor.raw_data) if tensor.HasField("raw_data") else numpy_helper.to_array(tensor).nbytes


def _move_out(tensors: list[onnx.TensorProto], beside: Path) -> None:
    """Append the values of each tensor to the file `beside`, aligned to pages, and let the tensor point there."""
    beside.parent.mkdir(parents=True, exist_ok=True)
    try:
        stream = beside.open("xb")
    except FileExistsError as error:
        raise ContractViolation(
            f"writing large tensors to {beside}: the file is there already",
            next_step="name the file of the tensors that lie outside otherwise",
        ) from error
    with stream:
        for tensor in tensors:
            stream.seek(-(-stream.tell() // ALIGNED_BYTES) * ALIGNED_BYTES)
            offset = stream.tell()
            stream.write(tensor.raw_data if tensor.HasField("raw_data") else _little_endian(tensor))
            tensor.ClearField("raw_data")
            for values in ("float_data", "int32_data", "int64_data", "double_data", "uint64_data"):
                tensor.ClearField(values)
            _point(tensor, beside.name, offset, stream.tell() - offset)


def _point(tensor: onnx.TensorProto, location: str, offset: int, n_bytes: int) -> None:
    tensor.raw_data = b""  # the helper asks for the field
    external_data_helper.set_external_data(tensor, location, offset=offset, length=n_bytes)
    tensor.ClearField("raw_data")


def _little_endian(tensor: onnx.TensorProto) -> bytes:
    values: npt.NDArray[np.generic] = numpy_helper.to_array(tensor)
    return (values.byteswap() if sys.byteorder == "big" else values).tobytes()
