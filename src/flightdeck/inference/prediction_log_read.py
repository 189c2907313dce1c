"""The prediction log, reading side: what is columnar already and the rest of the segments, each record once.

May run while processes write and another makes parts. A segment that was made columnar and deleted after it was listed
is read on in the parts that it left.
"""

import json
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from flightdeck.core.errors import some
from flightdeck.inference.prediction_log_folder import FORMER, Part, Source, list_parts, list_sources
from flightdeck.inference.prediction_log_frame import Frame, Scan, decode, scan
from flightdeck.inference.prediction_log_table import to_tables

NOTE = b"flightdeck"
logger = logging.getLogger(__name__)


class Lost(NamedTuple):
    """What the writers and the reader did not get into tables.

    Parameters
    ----------
    n_torn
        Unfinished frames at the end of segments; never acknowledged.
    n_damaged
        Places in segments that hold no readable frame.
    n_dropped, n_sampled_out
        Records that the writers had dropped or left out when they wrote their last frame.
    """

    n_torn: int = 0
    n_damaged: int = 0
    n_dropped: int = 0
    n_sampled_out: int = 0


class Rest(NamedTuple):
    """The frames of a segment from some offset on.

    Parameters
    ----------
    frames
        Offset and content of each.
    end
        Offset after the last whole frame, or where reading began.
    lost
        What is damaged before `end`, and the counts of the last frame.
    n_torn, n_damaged_at_end
        What lies at and after `end`: nothing, an unfinished frame, or damage.
    """

    frames: list[tuple[int, Frame]]
    end: int
    lost: Lost
    n_torn: int
    n_damaged_at_end: int


@dataclass(frozen=True)
class PredictionLog:
    """The records of a log, in tables of the columns of `prediction_log_table.SCHEMA` and those of the requests."""

    tables: Sequence[pa.Table]
    lost: Lost


def read_log(folder: Path) -> PredictionLog:
    """Read all of a prediction log.

    Parameters
    ----------
    folder
        Folder of segments and parts; a missing one is an empty log. JSON lines of former releases are named in a
        warning and not read.

    Raises
    ------
    OSError
        If a file cannot be read.
    """
    warn_of_former(folder)
    tables: list[pa.Table] = []
    n_torn, n_damaged = 0, 0
    dropped: Counter[str] = Counter()
    sampled_out: Counter[str] = Counter()
    for source in list_sources(folder):
        for found, lost in _pieces(source):
            tables += found
            n_torn += lost.n_torn
            n_damaged += lost.n_damaged
            dropped[source.writer] = max(dropped[source.writer], lost.n_dropped)  # a writer's counts only grow
            sampled_out[source.writer] = max(sampled_out[source.writer], lost.n_sampled_out)
    return PredictionLog(tables, Lost(n_torn, n_damaged, dropped.total(), sampled_out.total()))


def read_rest(path: Path, start: int) -> Rest:
    """Read the whole frames of a segment from `start` on.

    Damage is believed when a second look finds the same bytes: a frame that is taken back and replaced while it is read
    looks like damage once.
    """
    content = _read_from(path, start)
    found = scan(content)
    while found.n_damaged or found.n_damaged_at_end:
        again = _read_from(path, start)
        if again[: len(content)] == content:
            break
        content, found = again, scan(again)
    return _decode(found, start)


def read_note(part: Part) -> Lost:
    """Return what a part says about damage in its bytes and the counts of its last frame."""
    return Lost(**json.loads((pq.read_schema(part.path).metadata or {}).get(NOTE, b"{}")))


def warn_of_former(folder: Path) -> None:
    """Name the files of former releases, which are not read."""
    former = sorted(path.name for path in folder.glob(f"*{FORMER}"))
    if former:
        logger.warning(
            "prediction log %s: %d files of JSON lines from a former release are not read: %s; move them away",
            folder,
            len(former),
            some(former),
        )


def _read_from(path: Path, start: int) -> bytes:
    with path.open("rb") as stream:
        stream.seek(start)
        return stream.read()


def _decode(found: Scan, start: int) -> Rest:
    frames, n_damaged = [], found.n_damaged
    for place, payload in found.frames:
        try:
            frames.append((start + place, decode(payload)))
        except ValueError:
            n_damaged += 1
    last = frames[-1][1] if frames else None
    lost = Lost(0, n_damaged, last.n_dropped, last.n_sampled_out) if last else Lost(n_damaged=n_damaged)
    return Rest(frames, start + found.end, lost, found.n_torn, found.n_damaged_at_end)


def _pieces(source: Source) -> Iterator[tuple[Sequence[pa.Table], Lost]]:
    """Yield the tables of each part of a segment, then those of the rest."""
    yield from map(_read_part, source.parts)
    if source.path is None:
        return
    try:
        rest = read_rest(source.path, source.covered)
    except FileNotFoundError:
        parts = list_parts(source.path.parent, source.name)
        yield from (_read_part(part) for part in parts if part.first >= source.covered)
        return
    lost = rest.lost._replace(n_torn=rest.n_torn, n_damaged=rest.lost.n_damaged + rest.n_damaged_at_end)
    yield list(to_tables(source.name, rest.frames)), lost


def _read_part(part: Part) -> tuple[Sequence[pa.Table], Lost]:
    return [pq.ParquetFile(part.path).read()], read_note(part)
