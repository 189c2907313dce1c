"""New records of a prediction log, table by table, while its workers write.

A position is the offset up to which a segment was read. Positions are kept with whatever was computed from the records
before them, so that each record counts once, whenever the reader is killed.
"""

from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import pyarrow as pa

from flightdeck.inference.prediction_log_folder import list_sources
from flightdeck.inference.prediction_log_read import read_rest
from flightdeck.inference.prediction_log_table import to_tables

Positions = dict[str, int]


def positions_at(folder: Path, since: datetime) -> Positions:
    """Return positions that leave out what was written before `since`, as far as the files' times say so."""
    found = {}
    for source in list_sources(folder):
        if source.path is not None:
            with suppress(FileNotFoundError):  # made columnar and deleted meanwhile: its writer has ended
                status = source.path.stat()
                if status.st_mtime < since.timestamp():
                    found[source.name] = status.st_size
    return found


def read_new(folder: Path, positions: Mapping[str, int]) -> tuple[list[pa.Table], Positions]:
    """Return the records after `positions`, a segment after the other, and the positions after them.

    A segment that is not among the positions is read from its beginning. One that was made columnar and deleted before
    its end was read is left out: compaction deletes the segments of ended writers only, hours later.

    Raises
    ------
    OSError
        If a file cannot be read.
    """
    tables: list[pa.Table] = []
    reached = dict(positions)
    for source in list_sources(folder):
        if source.path is None:
            continue
        start = reached.get(source.name, 0)
        try:
            if source.path.stat().st_size <= start:
                continue
            rest = read_rest(source.path, start)
        except FileNotFoundError:
            continue
        tables += to_tables(source.name, rest.frames)
        reached[source.name] = rest.end
    return tables, reached
