"""Row contracts: each row of a source is accepted with its types or quarantined with its reasons; none disappears.

Pandera states and evaluates the rules. Its `drop_invalid_rows` is not used: with a repeated index it drops valid rows
too. Failures are taken from `failure_cases` under a unique row number instead, and the counts are compared at the end.
"""

from dataclasses import dataclass
from typing import NoReturn

import numpy as np
import numpy.typing as npt
import pandas as pd
import pandera.pandas as pa_schema
import pyarrow as pa
from pandera.errors import SchemaErrors

from flightdeck.core.clock import SystemClock
from flightdeck.core.errors import ContractViolation, nearest, some
from flightdeck.core.files import write_atomically
from flightdeck.events.delivery import MIN_ROWS
from flightdeck.events.raw_file import RawRows
from flightdeck.events.schema_history import RUNBOOK, SchemaChange, SchemaHistory

Booleans = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class SourceContract:
    """What a source promises.

    Parameters
    ----------
    source
        Name of the source.
    owner
        Who answers for it.
    schema
        Pandera schema of the typed columns; numeric columns are parsed from text first.
    key
        Columns that name a row; a repeated key is a duplicate, the first sound row counts.
    """

    source: str
    owner: str
    schema: pa_schema.DataFrameSchema
    key: tuple[str, ...]


@dataclass(frozen=True)
class Checked:
    """The two parts of a source after its contract.

    Parameters
    ----------
    source
        Name of the source.
    accepted
        Typed rows with a column `source_offset` (line number in the file).
    quarantined
        Columns `source`, `source_offset`, `reason`, `row` (the row as it was, JSON or text).
    n_rows
        Rows of the file: always `len(accepted) + len(quarantined)`.
    """

    source: str
    accepted: pd.DataFrame
    quarantined: pd.DataFrame
    n_rows: int

    def set_aside(self, reasons: "pd.Series[str]") -> "Checked":
        """Move further accepted rows to quarantine: those with a non-empty reason (aligned with `accepted`)."""
        bad = reasons.ne("").to_numpy()
        if not bad.any():
            return self
        moved = quarantine_rows(self.source, self.accepted[bad], reasons[bad])
        kept = self.accepted[~bad].reset_index(drop=True)
        return _balanced(
            Checked(self.source, kept, pd.concat([self.quarantined, moved], ignore_index=True), self.n_rows)
        )


def check_rows(raw: RawRows, contract: SourceContract) -> Checked:
    """Split the rows of a source by its contract.

    Raises
    ------
    ContractViolation
        If a promised column is missing, or none of a column's cells has its type: the file as a whole is refused,
        since no row of it can be trusted. It is kept in `raw.quarantine`, with an alert.
    """
    promised = list(contract.schema.columns)
    missing = [name for name in promised if name not in raw.cells.column_names]
    unseen = [name for name in raw.cells.column_names if name not in promised]
    further = [SchemaChange(raw.source, "additive", f"new column {name}", "1") for name in unseen]
    if missing:
        hints = [f"{name!r}{nearest(name, unseen)}" for name in missing]
        what = [f"column {name} is missing{nearest(name, unseen)}" for name in missing]
        _refuse_file(
            raw,
            contract,
            [SchemaChange(raw.source, "breaking", text, "1") for text in what],
            f"the file lacks promised columns: {some(hints)}; unseen columns: {some(unseen) or 'none'}",
        )
    typed, reasons = _parse(raw.cells, contract.schema)
    changed = _changed_types(raw, typed)
    if changed:
        what = [f"column {name} has become another type" for name in changed]
        _refuse_file(
            raw,
            contract,
            [SchemaChange(raw.source, "breaking", text, "2") for text in what],
            f"no cell of {some(changed)} has the promised type",
        )
    if raw.quarantine and further:
        SchemaHistory(raw.quarantine).record(further, SystemClock().now())
    reasons = _add(reasons, _schema_failures(typed, contract.schema))
    sound = np.flatnonzero(reasons == "")
    repeated = typed.iloc[sound].duplicated(list(contract.key), keep="first").to_numpy()
    reasons[sound[repeated]] = f"duplicate of {'+'.join(contract.key)}"
    bad = reasons != ""
    typed["source_offset"] = raw.offsets.to_numpy()
    text = raw.cells.select(promised).filter(pa.array(bad)).to_pandas()
    text["source_offset"] = typed["source_offset"].to_numpy()[bad]
    ragged = pd.DataFrame(
        [(raw.source, line, "number of cells differs from the header", row) for line, row in raw.ragged],
        columns=["source", "source_offset", "reason", "row"],
    )
    quarantined = quarantine_rows(raw.source, text, pd.Series(reasons[bad]))
    accepted = typed[~bad].reset_index(drop=True)
    parts = [part for part in (quarantined, ragged) if len(part)] or [quarantined]
    return _balanced(Checked(raw.source, accepted, pd.concat(parts, ignore_index=True), raw.n_rows))


def quarantine_rows(source: str, rows: pd.DataFrame, reasons: "pd.Series[str]") -> pd.DataFrame:
    """Return quarantine records for `rows`, which carry `source_offset`; `reasons` is aligned with them."""
    content = rows.drop(columns="source_offset")
    return pd.DataFrame(
        {
            "source": np.full(len(rows), source, dtype=object),
            "source_offset": rows["source_offset"].to_numpy(np.int64),
            "reason": reasons.to_numpy(object),
            "row": [row.to_json(date_format="iso") for _, row in content.iterrows()],
        }
    )


def _changed_types(raw: RawRows, typed: pd.DataFrame) -> list[str]:
    """Return the columns of which no cell could be parsed, of files that are long enough to tell."""
    n_given = {name: raw.cells.num_rows - raw.cells[name].null_count for name in typed.columns}
    return [name for name, n in n_given.items() if n >= MIN_ROWS and typed[name].isna().all()]


def _refuse_file(raw: RawRows, contract: SourceContract, changes: list[SchemaChange], why: str) -> NoReturn:
    kept = ""
    if raw.quarantine:
        SchemaHistory(raw.quarantine).record(changes, SystemClock().now())
        if raw.path:
            target = raw.quarantine / "refused" / f"{raw.source}-{raw.digest[:12]}{raw.path.suffix}"
            write_atomically(target, raw.path.read_bytes())
            kept = f"; the file is kept as {target}"
    raise ContractViolation(
        f"source {raw.source}: {why}; all {raw.n_rows:,} rows are refused{kept}",
        next_step=f"ask the owner ({contract.owner}) for a file as promised, or change the contract; see {RUNBOOK}",
    )


def _balanced(checked: Checked) -> Checked:
    """Hold the law: rows in = accepted + quarantined."""
    if len(checked.accepted) + len(checked.quarantined) != checked.n_rows:
        raise ContractViolation(
            f"checking a source: {checked.n_rows} rows in, {len(checked.accepted)} accepted and "
            f"{len(checked.quarantined)} quarantined do not add up",
            next_step="report this as a bug, with the file",
        )
    return checked


def _parse(cells: pa.Table, schema: pa_schema.DataFrameSchema) -> tuple[pd.DataFrame, npt.NDArray[np.object_]]:
    """Turn text into the types of the schema; say which cells are no numbers or no instants."""
    reasons = np.full(cells.num_rows, "", dtype=object)
    typed = {}
    for name, column in schema.columns.items():
        kind = str(column.dtype)
        if kind.startswith("float"):
            values = _numbers(cells[name])
            rule = "is not a finite number"
        elif kind.startswith("datetime"):
            text = cells[name].to_pandas()
            values = pd.to_datetime(text, format="%Y-%m-%dT%H:%M:%SZ", errors="coerce", utc=True)
            rule = "is not an instant like 2013-01-01T10:00:00Z"
        else:
            typed[name] = cells[name].to_pandas()
            continue
        typed[name] = values
        for row in np.flatnonzero(values.isna().to_numpy() & cells[name].is_valid().to_numpy()):
            reasons[row] = _join(reasons[row], f"{name} {cells[name][int(row)].as_py()!r} {rule}")
    return pd.DataFrame(typed), reasons


def _numbers(column: pa.ChunkedArray) -> "pd.Series[float]":
    """Return a text column as float64, NaN where a cell is missing or is no finite number."""
    try:
        values: pd.Series[float] = column.cast(pa.float64()).to_pandas()
    except pa.ArrowInvalid:  # at least one cell is no number: go on cell by cell
        values = pd.to_numeric(column.to_pandas(), errors="coerce").astype("float64")
    return values.where(np.isfinite(values))


def _schema_failures(typed: pd.DataFrame, schema: pa_schema.DataFrameSchema) -> dict[int, list[str]]:
    """Return the failed rules of each row number."""
    try:
        schema.validate(typed, lazy=True)
    except SchemaErrors as errors:
        cases = errors.failure_cases
        unplaced = cases[cases["index"].isna()]
        if len(unplaced):
            raise ContractViolation(
                f"checking a source: rule {some(unplaced['check'].unique())} failed for the file as a whole",
                next_step="ask the owner of the source for a correct file",
            ) from errors
        found: dict[int, list[str]] = {}
        for row, column, check, value in zip(
            cases["index"], cases["column"], cases["check"], cases["failure_case"], strict=True
        ):
            rule = "is missing" if check == "not_nullable" else f"{value!r} breaks {check}"
            found.setdefault(int(row), []).append(f"{column} {rule}")
        return found
    return {}


def _add(reasons: npt.NDArray[np.object_], failures: dict[int, list[str]]) -> npt.NDArray[np.object_]:
    """Return `reasons` with the failed rules of each row appended; a cell that did not parse is not named twice."""
    combined = reasons.copy()
    for row, rules in failures.items():
        for rule in rules:
            if not (rule.endswith("is missing") and rule.split(" ")[0] in combined[row]):
                combined[row] = _join(combined[row], rule)
    return combined


def _join(reason: str, further: str) -> str:
    return f"{reason}; {further}" if reason else further
