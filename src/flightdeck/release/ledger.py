"""The ledger: every step of every release, append-only and hash-chained, in one SQLite file.

A record is on the disk before `append` returns (WAL with `synchronous=FULL`); triggers refuse changing or deleting one,
and the hash chain shows it where somebody did it anyway. What the records mean is the business of `state`; who may
write which is that of `commands`.

A chain cannot see that its newest records were cut off: compare the last digest with a copy kept elsewhere (the
reconciler keeps one in MLflow's registry).
"""

import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from flightdeck.core.clock import Clock
from flightdeck.core.errors import FlightdeckError, LedgerCorrupt, ReleaseRefused
from flightdeck.core.files import sync_folder
from flightdeck.release.record import GENESIS, RESTORE, Record, compare_chain, from_row, make_record, to_row

BUSY_TIMEOUT_S = 10.0

_SCHEMA = """
CREATE TABLE records (
    seq INTEGER PRIMARY KEY, recorded_at TEXT NOT NULL, action TEXT NOT NULL, actor TEXT NOT NULL,
    subject TEXT NOT NULL, detail TEXT NOT NULL, previous_digest TEXT NOT NULL, digest TEXT NOT NULL UNIQUE
) STRICT;
CREATE TRIGGER records_no_update BEFORE UPDATE ON records
    BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER records_no_delete BEFORE DELETE ON records
    BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
"""
_SELECT = "SELECT seq, recorded_at, action, actor, subject, detail, previous_digest, digest FROM records"
_INSERT = "INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?)"


class LedgerMoved(ReleaseRefused):
    """Another record was appended between reading the ledger and writing to it."""


class Ledger:
    """Append-only records in the SQLite file at `path`; the file is made by the first append.

    Every call opens a connection of its own: processes and threads may share the path freely.

    Parameters
    ----------
    path
        Path of the SQLite file.
    clock
        Where `recorded_at` comes from.
    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self.path = path
        self.clock = clock

    def exists(self) -> bool:
        """Tell whether anything was ever appended here."""
        return self.path.is_file()

    def append(
        self,
        action: str,
        *,
        actor: str,
        subject: str,
        detail: Mapping[str, object],
        expected_seq: int | None = None,
    ) -> Record:
        """Append one record and return it once it is on the disk.

        Parameters
        ----------
        action
            What was done: `registered`, `verdict`, `approved`, `rejected`, `promoted`, `rolled_back`, `routed`,
            `alert`, ...
        actor
            Who did it.
        subject
            Model version as text, or `-` where no version is concerned.
        detail
            JSON values; NaN is refused.
        expected_seq
            Sequence number of the last record that the caller has seen: the decision holds only if it is still last.

        Raises
        ------
        LedgerMoved
            If the last record is not `expected_seq`.
        ReleaseRefused
            If the file cannot be written or stays locked for 10 s.
        """
        try:
            if not self.exists():
                self._create()
        except (sqlite3.OperationalError, OSError) as error:
            raise self._unusable("making", error) from error
        with self._connect("writing") as connection:
            connection.execute("BEGIN IMMEDIATE")
            seq, digest = _last(connection)
            if expected_seq is not None and seq != expected_seq:
                raise LedgerMoved(
                    f"writing {action!r} to the ledger: record {expected_seq} was the last one seen, now {seq} is",
                    next_step="look at the new state and decide again: kedro release list",
                )
            record = make_record(seq + 1, self.clock.now(), action, actor, subject, detail, digest)
            connection.execute(_INSERT, to_row(record))
            connection.execute("COMMIT")
        return record

    def records(self, after_seq: int = 0, *, after_digest: str | None = None) -> list[Record]:
        """Return the records after `after_seq`, oldest first, their chain compared; [] where there is no ledger.

        Parameters
        ----------
        after_seq
            Sequence number of the last record that the caller knows, 0 for none.
        after_digest
            Digest that the caller knows it by: a whole chain that forked before it is found even if nothing is new.

        Raises
        ------
        LedgerCorrupt
            If a record was altered, is missing or does not follow the one before it, or record `after_seq` is another
            one than the caller knows.
        """
        if not self.exists() and after_seq <= 0:
            return []
        with self._connect("reading") as connection:
            found = [
                from_row(row) for row in connection.execute(f"{_SELECT} WHERE seq >= ? ORDER BY seq", (after_seq,))
            ]
        if after_seq > 0 and not found:
            raise LedgerCorrupt(f"reading the ledger {self.path}: record {after_seq} is gone", next_step=RESTORE)
        compare_chain(found, starts_at=max(after_seq, 1))
        if after_seq > 0 and after_digest not in (None, found[0].digest):
            raise LedgerCorrupt(
                f"reading the ledger {self.path}: record {after_seq} is another one than was read before: "
                "the file was replaced",
                next_step=RESTORE,
            )
        return [record for record in found if record.seq > after_seq]

    def head(self) -> int:
        """Return the sequence number of the last record, 0 if there is none."""
        if not self.exists():
            return 0
        with self._connect("reading") as connection:
            return _last(connection)[0]

    def verify(self) -> None:
        """Compare every digest, the order of all records, the guards and the file itself.

        Raises
        ------
        LedgerCorrupt
            Naming the first record that breaks the chain, or the missing guard.
        """
        if not self.exists():
            return
        with self._connect("verifying") as connection:
            problems = [row[0] for row in connection.execute("PRAGMA integrity_check")]
            triggers = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")}
        if problems != ["ok"]:
            raise LedgerCorrupt(f"verifying {self.path}: SQLite finds {problems[0]}", next_step=RESTORE)
        missing = {"records_no_update", "records_no_delete"} - triggers
        if missing:
            raise LedgerCorrupt(f"verifying {self.path}: the guards {sorted(missing)} are gone", next_step=RESTORE)
        self.records()

    def _create(self) -> None:
        """Make an empty ledger beside the path and link it there: another process sees all of it or nothing."""
        self._refuse_leftovers()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_name(f".{self.path.name}.{os.getpid()}.{threading.get_ident()}")
        try:
            with closing(sqlite3.connect(beside)) as connection:
                connection.execute("PRAGMA journal_mode=WAL")
                connection.executescript(_SCHEMA)
            with suppress(FileExistsError):
                os.link(beside, self.path)
            sync_folder(self.path.parent)
        finally:
            beside.unlink(missing_ok=True)

    def _refuse_leftovers(self) -> None:
        """Refuse to make a ledger where SQLite would bring the records of a deleted one back from its log."""
        beside = [self.path.with_name(f"{self.path.name}{suffix}") for suffix in ("-wal", "-shm")]
        found = [path.name for path in beside if path.exists()]
        if found and not self.exists():  # asked last: another process that has just made it has its log there too
            raise LedgerCorrupt(
                f"making the ledger {self.path}: {' and '.join(found)} of a deleted ledger is still there; "
                "nothing was recorded",
                next_step="restore the ledger from a backup; to begin a new one, move these files away first",
            )

    @contextmanager
    def _connect(self, doing: str) -> Iterator[sqlite3.Connection]:
        address = f"{self.path.absolute().as_uri()}?mode=rw"
        try:
            connection = sqlite3.connect(address, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None)
            with closing(connection):
                connection.execute("PRAGMA synchronous=FULL")
                yield connection
        except sqlite3.OperationalError as error:
            raise self._unusable(doing, error) from error
        except sqlite3.DatabaseError as error:
            raise LedgerCorrupt(f"{doing} the ledger {self.path}: {error}", next_step=RESTORE) from error

    def _unusable(self, doing: str, error: Exception) -> FlightdeckError:
        if "no such table" in str(error) or (doing != "making" and not self.exists()):
            return LedgerCorrupt(f"{doing} the ledger {self.path}: its records are gone ({error})", next_step=RESTORE)
        return ReleaseRefused(
            f"{doing} the ledger {self.path}: {error}; nothing was recorded",
            next_step="free the disk or wait for the other writer, then repeat the command",
        )


def _last(connection: sqlite3.Connection) -> tuple[int, str]:
    row = connection.execute("SELECT seq, digest FROM records ORDER BY seq DESC LIMIT 1").fetchone()
    return (int(row[0]), str(row[1])) if row else (0, GENESIS)
