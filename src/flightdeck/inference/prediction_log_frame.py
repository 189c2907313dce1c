"""The format of a segment of the prediction log: frames, one a batch, each found and checked on its own.

A frame is a header of 16 bytes (magic, length of the payload, CRC32 of the payload) and a MessagePack map: the number
of rows, what the writer had lost so far, and columns by name. Numbers are raw little-endian bytes (8 a row). Text is
one value for all rows, a list of one a row, or the distinct values and a byte a row. Features are float32 matrices of
some rows. A reader ignores fields and columns that it does not know, so later writers may add some.

A frame was written whole before its answers were sent, or it was not acknowledged: a half one at the end of a segment
is torn, and no loss. Bytes that are no frame and lie before one are damage; reading goes on at the next frame.
"""

import struct
import zlib
from collections.abc import Sequence
from operator import attrgetter
from typing import Any, NamedTuple, NoReturn

import msgspec
import numpy as np
import numpy.typing as npt

from flightdeck.core.errors import some
from flightdeck.inference.prediction_log_batch import FeatureGroup, LogBatch

MAGIC = b"\xf1FDLOG\x01\n"
HEADER = struct.Struct("<8sII")
TEXT = ("request_id", "surface", "unit_id", "flight_id", "mode", "arm", "decision", "model_version")
LONG_TEXT = ("reason", "bundle_digest", "feature_offset")
INTS = ("item", "logged_at_us", "request_us", "feature_us", "watermark_us")
REALS = ("probability", "latency_ms")
MODEL_MS, WEIGHT = "model_ms", "weight"
INT64, FLOAT64, FLOAT32, ROW = np.dtype("<i8"), np.dtype("<f8"), np.dtype("<f4"), np.dtype("<u4")
MOST_CODES = 256
Cell = str | int | None


class Coded(msgspec.Struct):
    """Text with few distinct values: `of` holds them, `at` one byte a row."""

    of: list[Cell]
    at: bytes


class Features(msgspec.Struct):
    """A group of rows with the features they were served; `rows` is None for all rows in order."""

    digest: str
    n_features: int
    values: bytes
    rows: bytes | None = None


Column = Cell | list[Cell] | Coded


class Frame(msgspec.Struct):
    """The payload of a frame.

    Parameters
    ----------
    n
        Number of rows.
    n_dropped, n_sampled_out
        Records that this writer had lost or left out, from its start until this frame.
    text, ints, reals
        Columns of the log.
    request_text, request_ints, request_reals
        Columns of the request.
    features
        Features as served.
    """

    n: int
    n_dropped: int
    n_sampled_out: int
    text: dict[str, Column]
    ints: dict[str, bytes]
    reals: dict[str, bytes]
    request_text: dict[str, Column]
    request_ints: dict[str, bytes]
    request_reals: dict[str, bytes]
    features: list[Features]


class Scan(NamedTuple):
    """What the bytes of a segment hold.

    Parameters
    ----------
    frames
        Offset and payload of each whole frame.
    end
        Offset after the last whole frame.
    n_damaged
        Places that hold no frame although one follows.
    n_torn
        1 if an unfinished frame ends the bytes, else 0.
    n_damaged_at_end
        1 if bytes that are no beginning of a frame end the bytes, else 0.
    """

    frames: list[tuple[int, memoryview]]
    end: int
    n_damaged: int = 0
    n_torn: int = 0
    n_damaged_at_end: int = 0


_texts, _long_texts = attrgetter(*TEXT), attrgetter(*LONG_TEXT)
_ints, _reals = attrgetter(*INTS), attrgetter(*REALS)
_decoder = msgspec.msgpack.Decoder(Frame)


class FrameEncoder:
    """Encodes batches, one at a time, into a buffer of its own."""

    def __init__(self) -> None:
        self._encoder = msgspec.msgpack.Encoder()
        self._buffer = bytearray(HEADER.size)

    def encode(
        self, batch: LogBatch, weights: npt.NDArray[np.float64] | None = None, *, n_dropped: int, n_sampled_out: int
    ) -> bytearray:
        """Return the frame of a batch; the next call overwrites it.

        Parameters
        ----------
        batch
            At least one row.
        weights
            Items that each row stands for, shape `(n,)`; None: one each.
        n_dropped, n_sampled_out
            What the writer lost and left out so far.

        Raises
        ------
        ValueError
            If columns differ in length, or text holds surrogates.
        TypeError
            If a value is none that the log can hold.
        """
        n = len(batch)
        texts, long_texts, ints, reals = _texts(batch), _long_texts(batch), _ints(batch), _reals(batch)
        if set(map(len, (*texts, *long_texts, *ints, *reals, *batch.request.values()))) != {n}:
            _refuse_lengths(batch, n)
        text = {name: _shared(values, n) for name, values in zip(TEXT, texts, strict=True)}
        for name, values in zip(LONG_TEXT, long_texts, strict=True):
            text[name] = _code(_shared(values, n))
        real = {name: _raw(values, FLOAT64) for name, values in zip(REALS, reals, strict=True)}
        if batch.model_ms is not None:
            _require(MODEL_MS, len(batch.model_ms), n)
            real[MODEL_MS] = _raw(batch.model_ms, FLOAT64)
        if weights is not None:
            real[WEIGHT] = _raw(weights, FLOAT64)
        request_text, request_ints, request_reals = _request(batch, n)
        frame = {
            "n": n,
            "n_dropped": n_dropped,
            "n_sampled_out": n_sampled_out,
            "text": text,
            "ints": {name: _raw(values, INT64) for name, values in zip(INTS, ints, strict=True)},
            "reals": real,
            "request_text": request_text,
            "request_ints": request_ints,
            "request_reals": request_reals,
            "features": [_features(group, n) for group in batch.features],
        }
        buffer = self._buffer
        self._encoder.encode_into(frame, buffer, HEADER.size)
        with memoryview(buffer) as view:
            HEADER.pack_into(buffer, 0, MAGIC, len(buffer) - HEADER.size, zlib.crc32(view[HEADER.size :]))
        return buffer


def scan(content: bytes) -> Scan:
    """Find all whole frames in the bytes of a segment, beginning at a frame."""
    view, place, n_damaged = memoryview(content), 0, 0
    frames: list[tuple[int, memoryview]] = []
    while place < len(view):
        end = _frame_end(view, place)
        if end is None:
            following = _next_frame(content, view, place + 1)
            if following is None:
                n_torn = int(_is_torn(view, place))
                return Scan(frames, place, n_damaged, n_torn, 1 - n_torn)
            n_damaged, place = n_damaged + 1, following
            continue
        frames.append((place, view[place + HEADER.size : end]))
        place = end
    return Scan(frames, place, n_damaged)


def decode(payload: bytes | memoryview) -> Frame:
    """Return the content of a frame.

    Raises
    ------
    ValueError
        If it is none that a writer makes.
    """
    try:
        frame = _decoder.decode(payload)
    except msgspec.DecodeError as error:
        raise ValueError(f"reading a frame of the prediction log: {error}") from error
    _check(frame)
    return frame


def _frame_end(view: memoryview, place: int) -> int | None:
    """Return where the whole frame at `place` ends, None if there is none."""
    if len(view) - place < HEADER.size:
        return None
    magic, length, checksum = HEADER.unpack_from(view, place)
    start, end = place + HEADER.size, place + HEADER.size + length
    is_whole = magic == MAGIC and end <= len(view) and zlib.crc32(view[start:end]) == checksum
    return end if is_whole else None


def _next_frame(content: bytes, view: memoryview, place: int) -> int | None:
    """Return where the next whole frame begins at or after `place`."""
    while (place := content.find(MAGIC, place)) >= 0:
        if _frame_end(view, place) is not None:
            return place
        place += 1
    return None


def _is_torn(view: memoryview, place: int) -> bool:
    """Tell whether the rest is the beginning of a frame."""
    n_left = len(view) - place
    if n_left < HEADER.size:
        return MAGIC.startswith(view[place : place + len(MAGIC)].tobytes())
    magic, length, _ = HEADER.unpack_from(view, place)
    return bool(magic == MAGIC and n_left < HEADER.size + length)


def _shared(values: Sequence[Any], n: int) -> Any:
    """Return one value that all rows share, or a list."""
    first = values[0]
    if n == 1 or (first == values[-1] and values.count(first) == n):
        return first
    return values if isinstance(values, list) else list(values)


def _code(values: Any) -> Any:
    """Write few distinct long values once each."""
    if not isinstance(values, list):
        return values
    codes = {value: code for code, value in enumerate(dict.fromkeys(values))}
    if 2 * len(codes) > len(values) or len(codes) > MOST_CODES:
        return values
    return {"of": list(codes), "at": bytes([codes[value] for value in values])}


def _raw(values: npt.NDArray[Any], kind: np.dtype[Any]) -> bytes:
    return values.tobytes() if values.dtype is kind else values.astype(kind).tobytes()


def _request(batch: LogBatch, n: int) -> tuple[dict[str, Any], dict[str, bytes], dict[str, bytes]]:
    text: dict[str, Any] = {}
    ints: dict[str, bytes] = {}
    reals: dict[str, bytes] = {}
    for name, values in batch.request.items():
        kind = values.dtype.kind
        if name == "request_us":
            continue
        if kind in "OU":
            text[name] = _shared(values.tolist(), n)
        elif kind in "biu":
            ints[name] = _raw(values, INT64)
        elif kind == "f":
            reals[name] = _raw(values, FLOAT64)
        else:
            raise TypeError(f"logging a prediction: request column {name} is {values.dtype}, not text or numbers")
    return text, ints, reals


def _features(group: FeatureGroup, n: int) -> dict[str, Any]:
    digest, values, rows = group
    _require("features", len(values), n if rows is None else len(rows))
    return {
        "digest": digest,
        "n_features": values.shape[1],
        "values": _raw(values, FLOAT32),
        "rows": None if rows is None else rows.astype(ROW).tobytes(),
    }


def _refuse_lengths(batch: LogBatch, n: int) -> NoReturn:
    lengths = {name: len(getattr(batch, name)) for name in (*TEXT, *LONG_TEXT, *INTS, *REALS)}
    lengths |= {name: len(values) for name, values in batch.request.items()}
    wrong = some(f"{name} has {found} values" for name, found in lengths.items() if found != n)
    raise ValueError(f"logging predictions: {wrong} for {n} rows")


def _require(name: str, found: int, n: int) -> None:
    if found != n:
        raise ValueError(f"logging predictions: {name} has {found} values for {n} rows")


def _check(frame: Frame) -> None:
    """Refuse columns of another length than the frame has rows."""
    n = frame.n
    for column in (*frame.text.values(), *frame.request_text.values()):
        if isinstance(column, list):
            _require("text", len(column), n)
        elif isinstance(column, Coded):
            _require("text", len(column.at), n)
            if max(column.at, default=0) >= len(column.of):
                raise ValueError("reading a frame of the prediction log: a code stands for no value")
    for raw in (frame.ints, frame.reals, frame.request_ints, frame.request_reals):
        for name, values in raw.items():
            _require(name, len(values), 8 * n)
    for group in frame.features:
        n_rows = n if group.rows is None else len(group.rows) // ROW.itemsize
        _require("features", len(group.values), FLOAT32.itemsize * group.n_features * n_rows)
        if group.rows and int(np.frombuffer(group.rows, ROW).max()) >= n:
            raise ValueError("reading a frame of the prediction log: features of a row that is not there")
