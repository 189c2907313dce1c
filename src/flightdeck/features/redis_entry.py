"""One entry of a Redis stream: a batch of events of one stream, as Arrow or JSON, and what is known about it.

Fields: `s` name of the stream (empty: a heartbeat), `f` "arrow" or "json", `d` the rows, `n` their number and `w` the
watermark in UTC microseconds (both may be missing). Producers without Arrow write `s`, `f`=json and `d` only.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias
from zlib import crc32

import msgspec
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from flightdeck.core.errors import some

Rows: TypeAlias = pa.Table | list[Any]
NO_ID = np.uint64(0)


@dataclass(frozen=True)
class Entry:
    """One entry, decoded.

    Parameters
    ----------
    entry_id
        Its id in the Redis stream.
    stream
        Name of the event stream; empty for a heartbeat.
    rows
        Table or rows. What cannot be decoded is a text that says why, for the dead letters.
    n_counted
        Number of rows that the producer counted.
    watermark_us
        The producer's watermark, None if it gave none.
    """

    entry_id: bytes
    stream: str
    rows: Rows
    n_counted: int
    watermark_us: int | None

    def fits(self, rows: Rows) -> bool:
        """Tell whether its rows can be put after others without changing a type."""
        if isinstance(rows, list) or isinstance(self.rows, list):
            return isinstance(rows, list) and isinstance(self.rows, list)
        return bool(rows.schema.equals(self.rows.schema))


def encode(stream: str, rows: Rows, watermark_us: int | None) -> list[Any]:
    """Return the fields and values of an entry."""
    if isinstance(rows, list):
        kind, payload, n_rows = b"json", msgspec.json.encode(rows), len(rows)
    else:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, rows.schema) as writer:
            writer.write_table(rows)
        kind, payload, n_rows = b"arrow", sink.getvalue().to_pybytes(), rows.num_rows
    fields: list[Any] = ["s", stream, "f", kind, "d", payload, "n", n_rows]
    return fields if watermark_us is None else [*fields, "w", watermark_us]


def heartbeat(watermark_us: int) -> list[Any]:
    """Return the fields and values of an entry that only moves the watermark."""
    return ["s", "", "w", watermark_us]


def decode(entry_id: bytes, fields: Mapping[bytes, bytes]) -> Entry:
    """Return an entry; whatever is wrong with it becomes a row for the dead letters."""
    stream = fields.get(b"s", b"").decode(errors="replace")
    n_counted, watermark_us = _number(fields.get(b"n")) or 0, _number(fields.get(b"w"))
    n_counted = n_counted if 0 <= n_counted <= _MOST_ROWS else 0
    payload = fields.get(b"d", b"")
    rows: Rows
    try:
        if not stream and not payload:
            rows = []
        elif fields.get(b"f") == b"arrow":
            rows = _plain(pa.ipc.open_stream(payload).read_all())
        elif fields.get(b"f") == b"json":
            rows = msgspec.json.decode(payload, type=list[Any])
        else:
            rows = [f"format {fields.get(b'f', b'')!r} is not arrow or json: {base64.b64encode(payload).decode()}"]
    except (pa.ArrowException, msgspec.MsgspecError, ValueError, OSError, RecursionError) as error:
        rows = [f"undecodable, {type(error).__name__}: {error}: {base64.b64encode(payload).decode()}"]
    return Entry(entry_id, stream, rows, n_counted, watermark_us)


def joined(parts: Sequence[Rows]) -> Rows:
    """Return rows of several entries that fit each other."""
    if len(parts) == 1:
        return parts[0]
    if isinstance(parts[0], list):
        return [row for part in parts for row in part]
    return pa.concat_tables(parts)


def ids_of(stream: str, rows: Rows) -> npt.NDArray[np.uint64]:
    """Return 64 bits of each event id, shape `(n_rows,)`; `NO_ID` where a row has none."""
    if isinstance(rows, list):
        ids = [row.get("event_id") if isinstance(row, dict) else None for row in rows]
        values = np.array([i if isinstance(i, str) else "" for i in ids], dtype=object)
    else:
        has_ids = "event_id" in rows.column_names and _is_text(rows.schema.field("event_id").type)
        ids = rows["event_id"].cast(pa.string()).fill_null("") if has_ids else pa.repeat("", rows.num_rows)
        values = ids.to_numpy(zero_copy_only=False)
    if not len(values):
        return np.empty(0, dtype=np.uint64)
    seed = np.uint64(crc32(stream.encode()))
    hashed: npt.NDArray[np.uint64] = pd.util.hash_array(values, categorize=False)
    return np.where(values == "", NO_ID, hashed ^ seed)


def without_views(rows: Rows) -> Rows:
    """Return rows whose columns hold text and bytes and no views of them, which Arrow cannot filter."""
    if isinstance(rows, list):
        return rows
    plain = {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}
    fields = [field.with_type(plain.get(field.type, field.type)) for field in rows.schema]
    return rows.cast(pa.schema(fields, rows.schema.metadata))


def kept(rows: Rows, mask: npt.NDArray[np.bool_]) -> Rows:
    """Return some rows."""
    if isinstance(rows, list):
        return [row for row, is_kept in zip(rows, mask.tolist(), strict=True) if is_kept]
    return rows.filter(pa.array(mask))


def _plain(table: pa.Table) -> pa.Table:
    """Return a table of sound values in columns that can be taken apart row by row; views become plain text or bytes.

    Raises
    ------
    ValueError, pa.ArrowException
        If a column comes twice, is damaged, or is of a kind that cannot be taken apart.
    """
    table.validate(full=True)
    twice = {name for name in table.column_names if table.column_names.count(name) > 1}
    if twice:
        raise ValueError(f"columns come twice: {some(sorted(twice))}")
    for place, name in enumerate(table.column_names):
        plain = _PLAIN.get(table.schema.field(name).type)
        if plain is not None:
            table = table.set_column(place, name, table[name].cast(plain))
    table.slice(0, 0).take(pa.array([], pa.int64()))  # fails where the rows could not be chosen either
    return table


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _number(text: bytes | None) -> int | None:
    """Return a whole number of 64 bits."""
    try:
        number = None if text is None else int(text)
    except ValueError:
        return None
    return number if number is not None and abs(number) < 2**63 else None


_PLAIN = {pa.string_view(): pa.string(), pa.binary_view(): pa.binary()}
_MOST_ROWS = 10**9  # that an entry may say it has
