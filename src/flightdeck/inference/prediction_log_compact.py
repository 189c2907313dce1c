"""Makes the prediction log columnar: Parquet parts beside the segments, by a process of its own.

A part is written under another name, flushed, and renamed. Its name says which bytes of which segment it holds, and the
next part begins where the last one ends, so a process that is killed between any two steps neither repeats nor loses a
record. One process does this at a time, by a lock that ends with it.
"""

import fcntl
import json
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq

from flightdeck.core.errors import FlightdeckError
from flightdeck.core.files import sync_folder
from flightdeck.inference.prediction_log_folder import Source, is_left, list_sources, part_path
from flightdeck.inference.prediction_log_read import NOTE, Lost, Rest, read_note, read_rest, warn_of_former
from flightdeck.inference.prediction_log_table import Placed, request_names, to_tables

LOCK = "compact.lock"
UNFINISHED = ".parquet.tmp"
logger = logging.getLogger(__name__)


class Compacted(NamedTuple):
    """What one round did."""

    n_parts: int = 0
    n_records: int = 0
    n_deleted: int = 0


@contextmanager
def compacting(folder: Path) -> Iterator[None]:
    """Be the one process that makes parts in `folder`, and clear away what a killed one left.

    Raises
    ------
    FlightdeckError
        If another process does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FlightdeckError(
                f"making the prediction log {folder} columnar: another process does that already",
                next_step="leave it to that one, or stop it",
            ) from None
        for path in folder.glob(f"*{UNFINISHED}"):
            path.unlink(missing_ok=True)
        warn_of_former(folder)
        yield
    finally:
        os.close(descriptor)


def compact(folder: Path, *, delete_segments: bool = False) -> Compacted:
    """Make parts of all whole frames that are in none; to be called inside `compacting`.

    Parameters
    ----------
    folder
        Folder of the log.
    delete_segments
        Whether to delete segments that nobody appends to and whose every readable byte is in parts.

    Raises
    ------
    OSError
        If the disk is full or the folder cannot be written; what is finished counts, and the next round goes on there.
    """
    n_parts, n_records, n_deleted = 0, 0, 0
    for source in list_sources(folder):
        if source.path is None:
            continue
        try:
            was_left = is_left(source.path)
            rest = read_rest(source.path, source.covered)
        except FileNotFoundError:
            continue
        for first, end, frames, lost in _pieces(source.covered, rest):
            n_records += _write_part(part_path(folder, source.name, first, end), source, frames, lost)
            n_parts += 1
        if delete_segments and was_left and _is_spent(source, rest):
            source.path.unlink()
            n_deleted += 1
    if n_deleted:
        sync_folder(folder)
    return Compacted(n_parts, n_records, n_deleted)


def _pieces(start: int, rest: Rest) -> Iterator[tuple[int, int, Sequence[Placed], Lost]]:
    """Cut the rest of a segment where its request columns change: first and last byte, frames, and what was lost."""
    runs = [list(run) for _, run in groupby(rest.frames, key=lambda placed: request_names(placed[1]))]
    starts = [run[0][0] for run in runs]
    for place, run in enumerate(runs):
        last, end = run[-1][1], [*starts, rest.end][place + 1]
        n_damaged = 0 if place else rest.lost.n_damaged
        yield start, end, run, Lost(0, n_damaged, last.n_dropped, last.n_sampled_out)
        start = end


def _write_part(path: Path, source: Source, frames: Sequence[Placed], lost: Lost) -> int:
    (table,) = to_tables(source.name, frames)
    table = table.replace_schema_metadata({NOTE: json.dumps(lost._asdict())})
    unfinished = path.with_suffix(UNFINISHED)
    try:
        with unfinished.open("wb") as stream:
            pq.write_table(table, stream, compression="zstd", coerce_timestamps="us")
            stream.flush()
            os.fsync(stream.fileno())
        unfinished.rename(path)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
    return int(table.num_rows)


def _is_spent(source: Source, rest: Rest) -> bool:
    """Tell whether a segment that was left before it was read holds nothing that is not in parts.

    One that is damaged anywhere is kept for people to look at; an unfinished frame was never acknowledged.
    """
    notes = [rest.lost, *(read_note(part) for part in source.parts)]
    if rest.n_damaged_at_end or any(note.n_damaged for note in notes):
        logger.warning("prediction log: segment %s is damaged and is not deleted", source.name)
        return False
    if rest.n_torn:
        logger.warning("prediction log: segment %s ended in a frame that was never acknowledged", source.name)
    return True
