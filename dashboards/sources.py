"""Reading the small tables that pipelines leave behind: there, missing or damaged, and never a traceback.

What is missing raises `NotFoundError` with the command that makes it; what cannot be read raises `Unreadable`. The
pages show both in place of the table (`panels.explained`).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flightdeck.core.errors import FlightdeckError, NotFoundError, some

T = TypeVar("T")
N_QUARANTINED_SHOWN = 200


class Unreadable(FlightdeckError):
    """A file that is there and is not what it should be."""


def read_table(path: Path, kinds: Mapping[str, str], *, made_by: str) -> pd.DataFrame:
    """Return the Parquet table at `path` with the columns of `kinds`, cast to them.

    Parameters
    ----------
    path
        The file.
    kinds
        Type (as pandas names it) by column.
    made_by
        Command that makes the file.

    Raises
    ------
    NotFoundError
        If there is no such file.
    Unreadable
        If it is no Parquet file, lacks a column or holds values of another type.
    """
    _require(path, made_by)
    try:
        frame = pd.read_parquet(path)
        missing = [name for name in kinds if name not in frame]
        if not missing:
            return frame[list(kinds)].astype(dict(kinds))
    except (OSError, ValueError, TypeError, pa.ArrowException) as error:
        raise _unreadable(path, error, made_by) from error
    raise _unreadable(path, f"the columns {some(missing)} are missing", made_by)


def read_record(path: Path, kind: type[T], *, made_by: str) -> T:
    """Return the JSON file at `path` as `kind`; fields that came later than this reader are ignored.

    Raises
    ------
    NotFoundError
        If there is no such file.
    Unreadable
        If it is not JSON or not of that form.
    """
    _require(path, made_by)
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _unreadable(path, error, made_by) from error


def readable_page(path: Path, *, made_by: str) -> Path:
    """Return `path` if it is an HTML page that can be shown.

    Raises
    ------
    NotFoundError
        If there is no such file.
    Unreadable
        If it is empty or not text.
    """
    _require(path, made_by)
    try:
        is_empty = not path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error, made_by) from error
    if is_empty:
        raise _unreadable(path, "it is empty", made_by)
    return path


@dataclass(frozen=True)
class Quarantined:
    """Rows that broke their contract.

    Parameters
    ----------
    rows
        The first rows: line in the source file, reason, and the fields as they arrived.
    n_rows
        Number of all rows that match.
    """

    rows: pd.DataFrame
    n_rows: int


def read_quarantine(path: Path, *, reason: str | None, made_by: str) -> Quarantined:
    """Return the first rows of a source's quarantine, only those of `reason` where given.

    Raises
    ------
    NotFoundError
        If there is no such file.
    Unreadable
        If it is no quarantine.
    """
    _require(path, made_by)
    try:
        table = pq.read_table(path, columns=["source_offset", "reason", "row"])
        if reason is not None:
            table = table.filter(pc.equal(table["reason"], reason))
        first = table.slice(0, N_QUARANTINED_SHOWN).to_pylist()
        rows = [
            {"line": row["source_offset"], "reason": row["reason"], **json.loads(row["row"] or "{}")} for row in first
        ]
    except (OSError, ValueError, TypeError, KeyError, pa.ArrowException) as error:
        raise _unreadable(path, error, made_by) from error
    return Quarantined(pd.DataFrame(rows), table.num_rows)


def _require(path: Path, made_by: str) -> None:
    if not path.is_file():
        raise NotFoundError(f"there is no {path.name} yet", next_step=made_by)


def _unreadable(path: Path, reason: object, made_by: str) -> Unreadable:
    said = " ".join(str(reason).split())[:200]
    return Unreadable(f"the file {path.name} cannot be read: {said}", next_step=made_by)
