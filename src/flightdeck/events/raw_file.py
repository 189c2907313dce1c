"""Reading a source file as it is: every cell a string, every row with its offset, nothing lost before the contract.

The file lands in `data/01_raw` once, copied from the Python distribution that carries it, and stays there: replacing it
is how a new delivery arrives.
"""

import io
import logging
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from flightdeck.core.errors import ContractViolation, NotFoundError, some
from flightdeck.core.files import write_atomically
from flightdeck.core.identifiers import digest_bytes

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RawRows:
    """The rows of one file, before any contract.

    Parameters
    ----------
    source
        Name of the source.
    cells
        One string column a header, null where the cell is empty or `NA`; row i of the table has offset `offsets[i]`.
    offsets
        Line number of each row in the file (the header is line 1); int64, shape `(n_rows,)`.
    ragged
        Lines with another number of cells than the header: line number and text.
    digest
        SHA-256 of the file.
    path
        The file; None where the rows came another way.
    quarantine
        Folder where a file goes that is refused as a whole; None keeps none.
    """

    source: str
    cells: pa.Table
    offsets: pa.Array
    ragged: tuple[tuple[int, str], ...]
    digest: str
    path: Path | None = None
    quarantine: Path | None = None

    @property
    def n_rows(self) -> int:
        """Number of rows in the file, ragged ones included."""
        return int(self.cells.num_rows) + len(self.ragged)


def land(target: Path, *, distribution: str, member: str) -> None:
    """Copy `member` (a file of an installed Python distribution, unzipped if need be) to `target` unless it is there.

    Raises
    ------
    NotFoundError
        If the distribution or the member is not installed.
    """
    if target.exists():
        return
    try:
        carried = {str(path): path for path in files(distribution) or ()}
        content = Path(str(carried[member].locate())).read_bytes()
    except (PackageNotFoundError, KeyError, FileNotFoundError) as error:
        raise NotFoundError(
            f"landing {target.name}: the distribution {distribution!r} with {member!r} is not installed",
            next_step=f"install the pinned packages (make setup), or put your own file at {target}",
        ) from error
    if member.endswith(".zip"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            content = archive.read(archive.namelist()[0])
    write_atomically(target, content)
    logger.info("landed %s (%.1f MB)", target.name, len(content) / 1e6)


def read_rows(path: Path, source: str) -> RawRows:
    """Read a CSV file with a header line into strings.

    Raises
    ------
    ContractViolation
        If the file is empty, has no row, is not UTF-8 or its header repeats a name.
    """
    content = path.read_bytes()
    header = content.partition(b"\n")[0].decode("utf-8", errors="replace").strip().lstrip("\ufeff")
    names = [name.strip().strip('"') for name in header.split(",")]
    if not header or len(set(names)) != len(names):
        raise ContractViolation(
            f"source {source}: {path} has {'a repeated name in its header' if header else 'no header line'}",
            next_step="deliver the file again, with one header line of unique names",
        )
    ragged: list[tuple[int, str]] = []

    def set_aside(row: pacsv.InvalidRow) -> str:
        ragged.append((row.number, row.text or ""))
        return "skip"

    try:
        cells = pacsv.read_csv(
            io.BytesIO(content),
            read_options=pacsv.ReadOptions(column_names=names, skip_rows=1, use_threads=False, block_size=1 << 24),
            parse_options=pacsv.ParseOptions(invalid_row_handler=set_aside, ignore_empty_lines=False),
            convert_options=pacsv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()),
                null_values=["", "NA"],
                strings_can_be_null=True,
                quoted_strings_can_be_null=True,
            ),
        )
    except pa.ArrowInvalid as error:
        raise ContractViolation(
            f"source {source}: {path} cannot be read as UTF-8 CSV: {error}", next_step="deliver the file again"
        ) from error
    if not cells.num_rows and not ragged:
        raise ContractViolation(f"source {source}: {path} has a header and no row", next_step="deliver the file again")
    offsets = _offsets(cells.num_rows, [number for number, _ in ragged])
    return RawRows(source, cells, offsets, tuple(ragged), digest_bytes(content), path)


def keep_rows(rows: RawRows, only: Mapping[str, Sequence[str]]) -> RawRows:
    """Return the rows whose cells are among the given texts, with the offsets that they have in the file.

    Parameters
    ----------
    rows
        Rows of a file.
    only
        Allowed texts by column, for example `{"month": ["1", "2"]}`: how a small environment gets a small source.

    Raises
    ------
    ContractViolation
        If a column is not in the file.
    """
    missing = [name for name in only if name not in rows.cells.column_names]
    if missing:
        raise ContractViolation(
            f"source {rows.source}: the file has no column {some(missing)} to choose rows by",
            next_step="correct `only` of the source in the catalog",
        )
    kept = pa.array([True] * rows.cells.num_rows)
    for name, texts in only.items():
        kept = pc.and_(kept, pc.is_in(rows.cells[name].combine_chunks(), value_set=pa.array(texts, pa.string())))
    return replace(rows, cells=rows.cells.filter(kept), offsets=rows.offsets.filter(kept))


def _offsets(n_rows: int, ragged: list[int]) -> pa.Array:
    """Return the line number of each kept row, the lines of the ragged ones left out."""
    lines = pa.array(range(2, n_rows + len(ragged) + 2), pa.int64())
    if not ragged:
        return lines
    taken = set(ragged)
    return pa.array([line for line in lines.to_pylist() if line not in taken], pa.int64())
