"""Checking events at the door: each one is accepted or becomes a dead letter with its reasons; none disappears.

Good batches are checked a column at a time; only what looks wrong is looked at row by row. Types are strict: text is no
number, a fraction is no whole number, a boolean is neither. NaN and infinity are no value, like null
(docs/features.md). What lies in the event log counts, whatever its values: of such events only the types are checked.
"""

import base64
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from flightdeck.core.errors import ContractViolation, nearest
from flightdeck.events.dead_letters import DeadLetter
from flightdeck.events.incoming_columns import Column, cell_of, column_of_rows, column_of_table
from flightdeck.events.schema_history import SchemaChange
from flightdeck.events.stream import COMMON, Stream

SEPARATOR = "\x1f"  # joins the parts of an entity key
NO_OBJECT = "is no JSON object"
UNDECLARED = "undeclared"  # a stream's name that came from outside is no name of a file
LONGEST_NAME = 100  # of such a name, so much is kept
Reasons = dict[int, list[str]]


@dataclass(frozen=True)
class Rules:
    """What an event must keep to beside its types.

    Parameters
    ----------
    now_us
        The present, UTC microseconds; None where time is not known (then no event lies in the future).
    skew_us
        How far a clock of a source may be ahead.
    ahead_us
        How long after it became known an event may happen (a plan says so: `scheduled_departure` is another column).
    earliest_us
        Nothing became known before; a time that was given in seconds or milliseconds lies before.
    longest_text
        Most characters of a text.
    is_logged
        Whether the events lie in the event log: then they count whatever their values are, as they do in every
        recomputation, and none of these bounds matters.
    """

    now_us: int | None = None
    skew_us: int = 60_000_000
    ahead_us: int = 86_400_000_000
    earliest_us: int = 31_536_000_000_000
    longest_text: int = 512
    is_logged: bool = False


@dataclass(frozen=True)
class Incoming:
    """A batch after its contract.

    Parameters
    ----------
    accepted
        Events with exactly the columns and types of the stream.
    dead
        The others; `accepted.num_rows + len(dead)` is the number of rows that came.
    changes
        How the columns of the whole batch differ from the declaration.
    partly
        Breaking changes that some rows of the batch show and others do not (a second producer), with how many do.
    """

    accepted: pa.Table
    dead: list[DeadLetter]
    changes: list[SchemaChange]
    partly: Mapping[SchemaChange, int] = field(default_factory=dict)


def check_events(
    stream: Stream,
    rows: pa.Table | Sequence[Any],
    *,
    rules: Rules | None = None,
    offsets: Sequence[str] | None = None,
) -> Incoming:
    """Split the events of a batch by the stream's declaration.

    Parameters
    ----------
    stream
        Declaration of the stream.
    rows
        A table, or rows as decoded (anything that is no object becomes a dead letter); instants are `datetime`, ISO
        8601 text with an offset, or whole microseconds.
    rules
        Bounds (default: those that need no clock).
    offsets
        Where each row came from (default: its `source_offset`, else its place).
    """
    rules = rules or Rules()
    n_rows = len(rows)
    if not n_rows:
        return Incoming(stream.schema.empty_table(), [], [])
    reasons: Reasons = {}
    columns: dict[str, Column] = {}
    if isinstance(rows, pa.Table):
        names = set(rows.column_names)
        columns = {name: column_of_table(rows, name, kind) for name, kind in _types(stream).items()}
    else:
        objects = [row if isinstance(row, dict) else {} for row in rows]
        reasons = {place: [NO_OBJECT] for place, row in enumerate(rows) if not isinstance(row, dict)}
        names = set().union(*{tuple(row) for row in objects}) if len(reasons) < n_rows else set(stream.schema.names)
        columns = {name: column_of_rows(objects, name, kind) for name, kind in _types(stream).items()}
    changes = _changes(stream, names, columns, n_rows)
    for name, column in columns.items():
        for place, reason in column.wrong.items():
            if reasons.get(place) != [NO_OBJECT]:
                reasons.setdefault(place, []).append(f"{name} {reason}")
    table = pa.table({name: column.values for name, column in columns.items()}, schema=stream.schema)
    _check_nulls(table, reasons)
    if not rules.is_logged:
        _check_values(stream, table, rules, reasons)
    broken = [change for change in changes if change.kind == "breaking"]
    if broken:
        why = "; ".join(change.what for change in broken)
        reasons = {place: [f"schema change: {why}"] for place in range(n_rows)}
    bad = np.zeros(n_rows, dtype=bool)
    bad[list(reasons)] = True
    places = sorted(reasons)
    letters = _letters(stream.name, rows, places, reasons, offsets)
    accepted = table.filter(pa.array(~bad)) if places else table
    if accepted.num_rows + len(letters) != n_rows:
        raise ContractViolation(
            f"stream {stream.name!r}: {n_rows} events in, {accepted.num_rows} accepted and {len(letters)} dead letters",
            next_step="report this as a bug, with the batch",
        )
    first = _offset(rows, 0, offsets)
    changes = [replace(change, offset=first) for change in changes]
    if broken or not letters:
        return Incoming(accepted, letters, changes)
    n_no_object = sum(why == [NO_OBJECT] for why in reasons.values())
    return Incoming(accepted, letters, changes, _partly(stream, names, columns, n_no_object, letters[0].offset))


def undeclared_letters(
    name: str, rows: pa.Table | Sequence[Any], declared: Collection[str], *, offsets: Sequence[str] | None = None
) -> list[DeadLetter]:
    """Return a dead letter for each event of a stream that nobody declares; they lie together under `UNDECLARED`."""
    name = name[:LONGEST_NAME]
    reason = f"no stream {name!r} is declared{nearest(name, declared)}"
    letters = _letters(UNDECLARED, rows, range(len(rows)), {place: [reason] for place in range(len(rows))}, offsets)
    return [replace(letter, named=name) for letter in letters]


def _types(stream: Stream) -> dict[str, pa.DataType]:
    return dict(zip(stream.schema.names, stream.schema.types, strict=True))


def _changes(stream: Stream, names: set[str], columns: Mapping[str, Column], n_rows: int) -> list[SchemaChange]:
    """Return how the columns of the batch as a whole differ from the declaration."""
    unseen = sorted(names - set(columns))
    found = [SchemaChange(stream.name, "additive", f"new column {name}") for name in unseen]
    for name, column in columns.items():
        if name not in names:
            found.append(SchemaChange(stream.name, "breaking", _what(name, "", unseen)))
        elif column.other_type and len(column.wrong) == n_rows:
            found.append(SchemaChange(stream.name, "breaking", _what(name, column.other_type, unseen)))
    return found


def _what(name: str, other_type: str, unseen: Collection[str]) -> str:
    """Return a breaking change in words: a column is missing, perhaps renamed, or of another type."""
    return f"column {name} {f'has become {other_type}' if other_type else f'is missing{nearest(name, sorted(unseen))}'}"


def _partly(
    stream: Stream, names: set[str], columns: Mapping[str, Column], n_no_object: int, first: str
) -> dict[SchemaChange, int]:
    """Return the breaking changes that some rows show, with how many; rows that are no object show none."""
    found = {}
    for name, column in columns.items():
        for other, n_cells in column.n_by_type.items():
            n_rows = n_cells if other else n_cells - n_no_object
            if n_rows:
                what = _what(name, other, names - set(columns))
                found[SchemaChange(stream.name, "breaking", what, first)] = n_rows
    return found


def _check_nulls(table: pa.Table, reasons: Reasons) -> None:
    """Add the reasons of rows in which a column is null that every stream has."""
    for name in COMMON:
        if table[name].null_count:
            already = {place for place, why in reasons.items() if any(text.startswith(name) for text in why)}
            for place in np.flatnonzero(table[name].is_null().to_numpy()).tolist():
                if place not in already and reasons.get(place) != [NO_OBJECT]:
                    reasons.setdefault(place, []).append(f"{name} is null")


def _check_values(stream: Stream, table: pa.Table, rules: Rules, reasons: Reasons) -> None:
    """Add the reasons of rows whose values break a rule."""

    def note(broken: npt.NDArray[np.bool_], reason: str) -> None:
        for place in np.flatnonzero(broken).tolist():
            reasons.setdefault(place, []).append(reason)

    for name, kind in _types(stream).items():
        if not pa.types.is_string(kind):
            continue
        column = table[name]
        size = _filled(pc.utf8_length(column))
        if name == "event_id" and (size == 0).any():
            note((size == 0) & column.is_valid().to_numpy(), "event_id is empty")
        if (size > rules.longest_text).any():
            note(size > rules.longest_text, f"{name} is longer than {rules.longest_text} characters")
        holds = pc.fill_null(pc.match_substring(column, SEPARATOR), False)
        if pc.any(holds).as_py():
            note(holds.to_numpy(), f"{name} holds the separator \\x1f")
    known = table["created_timestamp"].is_valid().to_numpy()
    created, happened = (_filled(table[name].cast(pa.int64())) for name in ("created_timestamp", "event_timestamp"))
    both = known & table["event_timestamp"].is_valid().to_numpy()
    for broken, reason in (
        (known & (created < rules.earliest_us), "created_timestamp is absurdly early"),
        (
            known & (created > (2**62 if rules.now_us is None else rules.now_us + rules.skew_us)),
            "created_timestamp lies in the future",
        ),
        (both & (happened > created + rules.ahead_us), "event_timestamp lies long after created_timestamp"),
        (both & (happened < rules.earliest_us), "event_timestamp is absurdly early"),
    ):
        if broken.any():
            note(broken, reason)


def _filled(column: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    return np.asarray(pc.fill_null(column, 0).to_numpy(), dtype=np.int64)


def _letters(
    stream: str,
    rows: pa.Table | Sequence[Any],
    places: Sequence[int],
    reasons: Reasons,
    offsets: Sequence[str] | None,
) -> list[DeadLetter]:
    if not places:
        return []
    content = [_row(rows, place) for place in places]
    letters = []
    for place, row in zip(places, content, strict=True):
        named = row.get("event_id") if isinstance(row, dict) else None
        offset = offsets[place] if offsets else _offset([row], 0, None, default=str(place))
        text = row if isinstance(row, str) else _as_json(row)
        event_id = named if isinstance(named, str) else ""
        letters.append(DeadLetter(stream, offset, event_id, "; ".join(reasons[place]), text))
    return letters


def _offset(
    rows: pa.Table | Sequence[Any], place: int, offsets: Sequence[str] | None, *, default: str | None = None
) -> str:
    if offsets:
        return offsets[place]
    row = _row(rows, place)
    found = row.get("source_offset") if isinstance(row, dict) else None
    return str(place if default is None else default) if found is None else str(found)


def _row(rows: pa.Table | Sequence[Any], place: int) -> Any:
    """Return one row as it came."""
    if isinstance(rows, pa.Table):
        return {name: cell_of(column[place]) for name, column in zip(rows.column_names, rows.columns, strict=True)}
    return rows[place]


def _as_json(row: object) -> str:
    try:
        return json.dumps(row, default=_as_text, skipkeys=True)
    except RecursionError:
        return "a row that is nested too deeply to be written down"


def _as_text(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)
