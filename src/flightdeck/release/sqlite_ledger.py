"""The ledger in one SQLite file: WAL, `synchronous=FULL`, triggers that refuse changes.

Every call opens a connection of its own. A file whose write met an input/output error is not written to again by this
process: what the disk holds of it is not known.
"""

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from flightdeck.core.clock import Clock
from flightdeck.core.errors import FlightdeckError, LedgerCorrupt, LedgerUnusable
from flightdeck.core.failpoints import failpoint
from flightdeck.core.files import sync_folder
from flightdeck.release.checkpoints import CheckpointLog
from flightdeck.release.ledger import Ledger
from flightdeck.release.record import RESTORE, Row
from flightdeck.release.session import ROWS, Session

BUSY_TIMEOUT_S = 10.0
WAL_LIMIT_BYTES = 1 << 30
GUARDS = {
    f"records_no_{event.lower()}": f"CREATE TRIGGER records_no_{event.lower()} BEFORE {event} ON records\n"
    "    BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END"
    for event in ("UPDATE", "DELETE")
}
TABLE = """
CREATE TABLE records (
    seq INTEGER PRIMARY KEY, recorded_at TEXT NOT NULL, action TEXT NOT NULL, actor TEXT NOT NULL,
    subject TEXT NOT NULL, detail TEXT NOT NULL, previous_digest TEXT NOT NULL, digest TEXT NOT NULL UNIQUE
) STRICT;
"""
_HALF_DONE = {sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_DIR_FSYNC, sqlite3.SQLITE_IOERR_WRITE}
_distrusted: set[Path] = set()


class SqliteLedger(Ledger):
    """Records in the SQLite file at `path`.

    Parameters
    ----------
    path
        Path of the file.
    clock, checkpoints
        As of every ledger.
    """

    def __init__(self, path: Path, clock: Clock, checkpoints: CheckpointLog | None = None) -> None:
        super().__init__(str(path), clock, checkpoints)
        self.path = path

    def exists(self) -> bool:
        """Tell whether anything was ever appended here."""
        return self.path.is_file()

    def _create(self) -> None:
        """Make an empty ledger beside the path and link it there: another process sees all of it or nothing."""
        self._refuse_leftovers()
        beside = self.path.with_name(f".{self.path.name}.{os.getpid()}.{threading.get_ident()}")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(beside)) as connection:
                connection.execute("PRAGMA journal_mode=WAL")
                connection.executescript(TABLE + "".join(f"{guard};\n" for guard in GUARDS.values()))
            failpoint("ledger.prepared")
            with suppress(FileExistsError):
                os.link(beside, self.path)
            failpoint("ledger.linked")
            sync_folder(self.path.parent)
        except (sqlite3.OperationalError, OSError) as error:
            raise self._unusable("making", error) from error
        finally:
            with suppress(OSError):
                beside.unlink()

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
    def _reading(self, doing: str) -> Iterator[Session]:
        with self._connect(doing) as connection:
            connection.execute("BEGIN")
            yield _SqliteSession(connection)

    @contextmanager
    def _writing(self) -> Iterator[Session]:
        if self.path in _distrusted:
            raise LedgerUnusable(
                f"writing the ledger {self.path}: an earlier write of this process met an error of the disk; "
                "nothing was recorded",
                next_step="mend the disk, run kedro audit verify, then start this process again",
            )
        with self._connect("writing") as connection:
            self._bound_log(connection)
            connection.execute("BEGIN IMMEDIATE")
            yield _SqliteSession(connection)
            connection.execute("COMMIT")

    def _bound_log(self, connection: sqlite3.Connection) -> None:
        """Fold a write-ahead log that grew past 1 GiB into the file, and refuse where a reader hinders that."""
        log = self.path.with_name(f"{self.path.name}-wal")
        if not log.exists() or log.stat().st_size <= WAL_LIMIT_BYTES:
            return
        (is_busy, *_) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if is_busy:
            raise LedgerUnusable(
                f"writing the ledger {self.path}: its log {log.name} has {log.stat().st_size:,} bytes, at most "
                f"{WAL_LIMIT_BYTES:,} are allowed, and a reader keeps it from being folded in; nothing was recorded",
                next_step=f"end the process that holds {self.path.name} open, then repeat the command",
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
        if doing == "writing" and getattr(error, "sqlite_errorcode", 0) in _HALF_DONE:
            _distrusted.add(self.path)
            return LedgerUnusable(
                f"writing the ledger {self.path}: {error}; whether the record is on the disk is not known, and this "
                "process writes no more to this file",
                next_step="mend the disk, run kedro audit verify and kedro release list, then decide again",
            )
        return LedgerUnusable(
            f"{doing} the ledger {self.path}: {error}; nothing was recorded",
            next_step="free the disk or wait for the other writer, then repeat the command",
        )


class _SqliteSession(Session):
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def execute(self, statement: str, *values: object) -> Any:
        return self._connection.execute(statement, values)

    def rows(self, from_seq: int) -> Iterator[Row]:
        return iter(self._connection.execute(ROWS, (from_seq,)))

    def problems(self) -> list[str]:
        damage = [row[0] for row in self._connection.execute("PRAGMA integrity_check")]
        found = [] if damage == ["ok"] else [f"SQLite finds {damage[0]}"]
        triggers = dict(self._connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"))
        altered = [name for name, guard in GUARDS.items() if _words(triggers.get(name, "")) != _words(guard)]
        found += [f"the guards {altered} are gone or altered"] if altered else []
        foreign = sorted(triggers.keys() - GUARDS.keys())
        return [*found, f"there are triggers of somebody else: {foreign}"] if foreign else found


def _words(statement: str) -> list[str]:
    return statement.split()
