"""Which files beside an ONNX graph its tensors lie in, read from the graph's bytes without the onnx package.

A graph of more than 2 GB keeps large tensors in files of their own. onnxruntime maps such a file into memory and goes
wherever the graph says, so a bundle may only name files of its own. Nothing but the few fields on the way to a tensor
is looked at (field numbers: onnx.proto of ONNX 1.23), and only where the word `location`, which each such tensor must
contain, occurs at all: 1 GB of weights costs one search for a word.
"""

import mmap
from collections.abc import Iterator
from pathlib import Path

from flightdeck.core.errors import BundleRefused

_WORD = b"location"
_BLOCK_BYTES = 1 << 20  # a search holds the interpreter lock: about 0.5 ms a block
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_EXTERNAL_DATA, _KEY, _VALUE = 13, 1, 2
# Message -> field number -> message: the ways that lead to a tensor.
_WAYS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}


def external_locations(path: Path) -> tuple[str, ...]:
    """Return the locations that the tensors of the graph at `path` name, sorted; none in a graph that has them inside.

    Raises
    ------
    BundleRefused
        If the file is not made of fields as ONNX writes them.
    """
    if not path.stat().st_size:
        return ()
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        try:
            return tuple(sorted(set(_locations(content, "model", 0, len(content)))))
        except (ValueError, IndexError) as error:
            raise BundleRefused(
                f"reading {path}: {error or 'it ends too early'}, no ONNX graph",
                next_step="train and export again: kedro run --config kedro.yml",
            ) from error


def _locations(content: mmap.mmap, message: str, start: int, end: int) -> Iterator[str]:
    if not _holds_word(content, start, end):
        return
    for number, kind, first, last in _fields(content, start, end):
        if kind != _BYTES:
            continue
        if message == "tensor" and number == _EXTERNAL_DATA:
            entry = {n: content[a:b] for n, k, a, b in _fields(content, first, last) if k == _BYTES}
            if entry.get(_KEY) == _WORD:
                yield entry.get(_VALUE, b"").decode()
        elif number in _WAYS.get(message, {}):
            yield from _locations(content, _WAYS[message][number], first, last)


def _holds_word(content: mmap.mmap, start: int, end: int) -> bool:
    return any(
        content.find(_WORD, place, min(end, place + _BLOCK_BYTES + len(_WORD))) >= 0
        for place in range(start, end, _BLOCK_BYTES)
    )


def _fields(content: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield number, wire type, first and last place of each field of a message."""
    place = start
    while place < end:
        tag, place = _varint(content, place)
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            first, last = place, _varint(content, place)[1]
        elif kind == _BYTES:
            length, first = _varint(content, place)
            last = first + length
        elif kind in (_FIXED64, _FIXED32):
            first, last = place, place + (8 if kind == _FIXED64 else 4)
        else:
            raise ValueError(f"a field of wire type {kind} at byte {place}")
        if last > end:
            raise ValueError(f"a field at byte {place} reaches beyond its message")
        yield number, kind, first, last
        place = last


def _varint(content: mmap.mmap, place: int) -> tuple[int, int]:
    """Return the number at `place` and where it ends."""
    value = shift = 0
    while True:
        byte = content[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7
        if shift > 63:
            raise ValueError(f"a number of more than 64 bits at byte {place}")
