"""One transaction on the ledger's table: the few statements that every database understands alike."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

from flightdeck.release.record import GENESIS, Row

ROWS = (
    "SELECT seq, recorded_at, action, actor, subject, detail, previous_digest, digest FROM records "
    "WHERE seq >= ? ORDER BY seq"
)


class Session(ABC):
    """One transaction on the table of records."""

    @abstractmethod
    def execute(self, statement: str, *values: object) -> Any:
        """Run one statement, `?` standing for each value, and return its cursor."""

    @abstractmethod
    def rows(self, from_seq: int) -> Iterator[Row]:
        """Yield the rows from number `from_seq` on, oldest first, without holding all of them in memory."""

    @abstractmethod
    def problems(self) -> list[str]:
        """Return what is wrong with the table itself and the guards on it."""

    def last(self) -> tuple[int, str]:
        """Return number and digest of the last record, `(0, GENESIS)` without one."""
        row = self.execute("SELECT seq, digest FROM records ORDER BY seq DESC LIMIT 1").fetchone()
        return (int(row[0]), str(row[1])) if row else (0, GENESIS)

    def digest_at(self, seq: int) -> str:
        """Return the digest that record `seq` has, empty where there is none."""
        row = self.execute("SELECT digest FROM records WHERE seq = ?", seq).fetchone()
        return str(row[0]) if row else ""

    def newest(self, action: str) -> int:
        """Return the number of the newest record of an action, 0 without one."""
        statement = "SELECT seq FROM records WHERE action = ? ORDER BY seq DESC LIMIT 1"
        row = self.execute(statement, action).fetchone()
        return int(row[0]) if row else 0

    def insert(self, row: Row) -> None:
        """Append one row."""
        self.execute("INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?)", *row)
