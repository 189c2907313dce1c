"""Whether the ledger is what was written: its rows against themselves, their meaning, and the signed checkpoints.

Pure: rows and lines come in, findings go out. One pass; the memory is that of the state that the records amount to.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from flightdeck.core.errors import LedgerCorrupt
from flightdeck.release.checkpoints import Checkpoint, read_checkpoints
from flightdeck.release.record import INERT, Record, Row, follow_chain, from_row
from flightdeck.release.signing import PublicKey
from flightdeck.release.state import fold


@dataclass(frozen=True)
class Audit:
    """What an audit found.

    Parameters
    ----------
    n_records, n_checkpoints
        How many were compared before the first that was wrong.
    n_uncovered
        Decisions after the newest checkpoint: nothing outside the database knows them.
    problems
        What is wrong; empty: all is as it was written.
    """

    n_records: int
    n_checkpoints: int
    n_uncovered: int
    problems: tuple[str, ...]


def audit(rows: Iterable[Row], lines: Sequence[bytes], key: PublicKey, *, copy: Sequence[bytes] = ()) -> Audit:
    """Compare a ledger with its checkpoints.

    Parameters
    ----------
    rows
        All rows, oldest first, read after `lines`.
    lines
        Lines of the file of checkpoints.
    key
        Who may have signed them.
    copy
        Lines of a copy of that file, as old as it may be, kept where nobody could change both.

    Notes
    -----
    A record after the newest checkpoint can be forged by whoever can write to the database: sign often, copy often.
    """
    checkpoints, problems = read_checkpoints(lines, key)
    problems += _compare_copy(lines, copy, key)
    walk = _Walk(checkpoints)
    try:
        fold(walk.decisions(rows))
    except LedgerCorrupt as error:
        problems.append(error.message)
    else:
        beyond = [checkpoint for checkpoint in checkpoints if checkpoint.seq > walk.n_records]
        if beyond:
            problems.append(
                f"the ledger ends at record {walk.n_records}, a checkpoint of {beyond[0].at.isoformat()} names record "
                f"{beyond[0].seq}: it was cut short, or is an old backup"
            )
        if walk.n_records and not lines:
            problems.append("there is no checkpoint, and the ledger has records: the file is gone")
    return Audit(walk.n_records, len(checkpoints), walk.n_uncovered, (*problems, *walk.problems))


class _Walk:
    """One pass over the rows, comparing those that a checkpoint names."""

    def __init__(self, checkpoints: Sequence[Checkpoint]) -> None:
        self._named = {checkpoint.seq: checkpoint for checkpoint in checkpoints}
        self._first = {checkpoint.ledger for checkpoint in checkpoints}
        self._newest = checkpoints[-1].seq if checkpoints else 0
        self.n_records = 0
        self.n_uncovered = 0
        self.problems: list[str] = []

    def decisions(self, rows: Iterable[Row]) -> Iterator[Record]:
        """Yield what means something to the fold, everything compared on the way."""
        for row in follow_chain(rows):
            self.n_records = seq = row[0]
            if seq in self._named and self._named[seq].digest != row[7]:
                self.problems.append(f"record {seq} is another one than its checkpoint says: the ledger was forked")
            if seq == 1 and self._first - {row[7]}:
                self.problems.append("the checkpoints are those of another ledger: it was replaced")
            if row[2] not in INERT:
                self.n_uncovered += seq > self._newest
                yield from_row(row)


def _compare_copy(lines: Sequence[bytes], copy: Sequence[bytes], key: PublicKey) -> list[str]:
    """Return what is wrong between the file and its copy: the copy is how the file once was."""
    if list(lines[: len(copy)]) == list(copy):
        return []
    _, problems = read_checkpoints(copy, key)
    if problems:
        return [f"the copy: {problem}" for problem in problems]
    if list(copy[: len(lines)]) == list(lines):
        return [f"the file has {len(lines)} checkpoints, its copy {len(copy)}: lines were taken off its end"]
    return ["the file of checkpoints and its copy differ: one of them was written anew"]
