"""One column of incoming rows in the type that its stream declares, and which cells are of another."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pyarrow as pa

from flightdeck.core.clock import to_us

MISSING = object()


@dataclass(frozen=True)
class Column:
    """Values in the declared type, null where a cell is wrong.

    Parameters
    ----------
    values
        Arrow array of the declared type.
    wrong
        Reason by row.
    other_type
        Name of the type that the wrong cells have, empty where they have none in common.
    n_by_type
        Number of wrong cells by the type that they have, "" where they are missing; empty for a column of one type.
    """

    values: pa.Array | pa.ChunkedArray
    wrong: dict[int, str]
    other_type: str = ""
    n_by_type: Mapping[str, int] = field(default_factory=dict)


def column_of_table(table: pa.Table, name: str, kind: pa.DataType) -> Column:
    """Return a column of a table; only casts that lose nothing are made."""
    n_rows = table.num_rows
    if name not in table.column_names:
        return Column(pa.nulls(n_rows, kind), dict.fromkeys(range(n_rows), "is missing"))
    column = table[name]
    if column.type == kind and (not pa.types.is_string(kind) or _is_text(column)):
        return Column(column, {})
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if not _fits(column.type, kind):
        reason = f"is {column.type}, {kind} is promised"
        return Column(pa.nulls(n_rows, kind), dict.fromkeys(range(n_rows), reason), str(column.type))
    try:
        return Column(column.cast(kind), {})
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):  # some values do not fit: look at each
        return column_of_rows([{name: cell_of(value)} for value in column], name, kind)


def cell_of(value: pa.Scalar) -> Any:
    """Return a cell as Python has it; a time beyond the calendar as its number, text that is none as bytes.

    Examples
    --------
    >>> cell_of(pa.scalar(2**62, pa.timestamp("us", tz="UTC")))
    4611686018427387904
    """
    try:
        return value.as_py()
    except UnicodeDecodeError:
        return value.as_buffer().to_pybytes()
    except (ValueError, OverflowError, KeyError):  # the last: an unknown time zone
        return value.cast(pa.int64()).as_py()


def _is_text(column: pa.ChunkedArray) -> bool:
    """Tell whether the bytes of a text column are text."""
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def column_of_rows(rows: Sequence[dict[str, Any]], name: str, kind: pa.DataType) -> Column:
    """Return a column of decoded rows."""
    values = [row.get(name, MISSING) for row in rows]
    allowed, turn = _RULES[_family(kind)]
    types = set(map(type, values))
    if types <= {*allowed, type(None)}:
        try:
            return Column(_at_once(values, types, kind, whole=turn is not None), {})
        except (pa.ArrowInvalid, OverflowError, UnicodeEncodeError):
            pass
    return _by_cell(values, kind)


def _at_once(values: list[Any], types: set[type], kind: pa.DataType, *, whole: bool) -> pa.Array:
    """Return good cells in one go; Arrow refuses text that is no instant or lacks its offset from UTC."""
    if not whole:
        return pa.array(values, kind)
    if types <= {str, type(None)}:
        return pa.array(values, pa.string()).cast(kind)
    if types <= {int, type(None)}:
        return pa.array(values, pa.int64()).cast(kind)
    raise pa.ArrowInvalid("instants of several forms")


def _by_cell(values: list[Any], kind: pa.DataType) -> Column:
    allowed, turn = _RULES[_family(kind)]
    wrong: dict[int, str] = {}
    clean: list[Any] = []
    for place, value in enumerate(values):
        kept = None
        if value is MISSING:
            wrong[place] = "is missing"
        elif value is not None and type(value) not in allowed:
            wrong[place] = f"is {type(value).__name__} {_short(value)}, {kind} is promised"
        elif value is not None:
            try:
                kept = turn(value) if turn else value
                pa.scalar(kept, pa.int64() if turn else kind)
            except (ValueError, OverflowError, pa.ArrowInvalid, UnicodeEncodeError):
                wrong[place] = f"{_short(value)} is no {kind}"
                kept = None
        clean.append(kept)
    n_by_type = Counter("" if values[place] is MISSING else type(values[place]).__name__ for place in wrong)
    array = pa.array(clean, pa.int64()).cast(kind) if turn else pa.array(clean, kind)
    return Column(array, wrong, next(iter(n_by_type)) if len(n_by_type) == 1 else "", n_by_type)


def _fits(given: pa.DataType, kind: pa.DataType) -> bool:
    if pa.types.is_null(given):
        return True
    if pa.types.is_timestamp(kind):
        return bool(pa.types.is_timestamp(given) and given.tz) or given == pa.int64()
    if pa.types.is_floating(kind):
        return bool(pa.types.is_floating(given) or pa.types.is_integer(given))
    if pa.types.is_integer(kind):
        return bool(pa.types.is_integer(given))
    if pa.types.is_string(kind):
        return bool(pa.types.is_string(given) or pa.types.is_large_string(given))
    return bool(given == kind)


def _family(kind: pa.DataType) -> str:
    for family, holds in (
        ("instant", pa.types.is_timestamp),
        ("number", pa.types.is_floating),
        ("whole", pa.types.is_integer),
        ("text", pa.types.is_string),
        ("truth", pa.types.is_boolean),
    ):
        if holds(kind):
            return family
    raise TypeError(f"streams have no columns of type {kind}")


def _instant(value: datetime | str | int) -> int:
    at = datetime.fromisoformat(value) if isinstance(value, str) else value
    if isinstance(at, datetime):
        if at.tzinfo is None:
            raise ValueError("an instant needs an offset from UTC")
        return to_us(at)
    return at


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


_RULES: dict[str, tuple[tuple[type, ...], Any]] = {
    "instant": ((datetime, str, int), _instant),
    "number": ((float, int), None),
    "whole": ((int,), None),
    "text": ((str,), None),
    "truth": ((bool,), None),
}
