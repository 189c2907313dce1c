"""The ledger: every step of every release, append-only and hash-chained, in one SQLite file or in PostgreSQL.

A record is on the disk before `append` returns; guards in the database refuse changing or deleting one, and the hash
chain shows it where somebody did it anyway. What the records mean is the business of `state`; who may write which is
that of `commands`.

A chain cannot see that its newest records were cut off: signed checkpoints kept outside the database do
(`checkpoints`). Nothing is appended to a ledger that its newest checkpoint contradicts.
"""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Self, TypeVar

from flightdeck.core.clock import Clock
from flightdeck.core.errors import LedgerConflict, LedgerCorrupt, NotFoundError
from flightdeck.core.failpoints import failpoint
from flightdeck.release.checkpoints import Checkpoint, CheckpointLog
from flightdeck.release.record import (
    ESCAPES,
    INERT,
    RESTORE,
    Record,
    follow_chain,
    from_row,
    make_record,
    to_row,
)
from flightdeck.release.session import Session

State = TypeVar("State")
SCHEMES = ("postgresql://", "postgres://")


class LedgerMoved(LedgerConflict):
    """Another record was appended between reading the ledger and writing to it."""


class Ledger(ABC):
    """Append-only records; made by the first append. `open_ledger` opens one.

    Processes and threads may share the place freely: every call is a transaction of its own.

    Parameters
    ----------
    place
        Path or address, without a password, for messages.
    clock
        Where `recorded_at` comes from.
    checkpoints
        Signed checkpoints outside the database: compared before each append, written after each decision. None: none.
    """

    def __init__(self, place: str, clock: Clock, checkpoints: CheckpointLog | None = None) -> None:
        self.place = place
        self.clock = clock
        self.orders: Path | None = None
        """Folder of the rollbacks that wait for their record here (`orders`); None: nobody looks for any."""
        self._checkpoints = checkpoints
        self._fence: int | None = None

    @abstractmethod
    def exists(self) -> bool:
        """Tell whether anything was ever appended here."""

    @abstractmethod
    def _create(self) -> None:
        """Make an empty ledger; where another process has just made it, nothing is done."""

    @abstractmethod
    def _reading(self, doing: str) -> AbstractContextManager[Session]:
        """Give a session to read from."""

    @abstractmethod
    def _writing(self) -> AbstractContextManager[Session]:
        """Give a session that nobody else writes beside; what it wrote is on the disk when it ends."""

    def append(
        self,
        action: str,
        *,
        actor: str,
        subject: str,
        detail: Mapping[str, object],
        expected_seq: int | None = None,
        holds: Callable[[datetime], None] | None = None,
    ) -> Record:
        """Append one record and return it once it is on the disk.

        Parameters
        ----------
        action
            What was done: `registered`, `verdict`, `approved`, `rejected`, `promoted`, `rolled_back`, `routed`,
            `alert`, `lease`, ...
        actor
            Who did it.
        subject
            Model version as text, or `-` where no version is concerned.
        detail
            JSON values; NaN is refused.
        expected_seq
            Sequence number of the last record that the caller has seen: the decision holds only if it is still last.
        holds
            Called with the time of the record before it is written, while nobody else can write; what it raises keeps
            the record from being written.

        Raises
        ------
        LedgerMoved
            If the last record is not `expected_seq`.
        LedgerConflict
            If this ledger is fenced and another lease was taken since.
        LedgerCorrupt
            If the newest checkpoint names a record that is not there.
        ReleaseRefused
            If the ledger cannot be written or stays locked for 10 s; or if no checkpoint could be written, unless the
            record takes a release out or decides nothing.
        """
        known = self._newest_checkpoint(is_strict=action not in INERT | ESCAPES)  # read first: it was committed before
        if not self.exists():
            if known is not None:
                raise _contradicted(known, self.place)
            self._create()
            failpoint("ledger.created")
        if self._fence is not None:
            detail = {**detail, "lease": self._fence}
        with self._writing() as session:
            seq, digest = session.last()
            if known is not None:
                _require(known, session, self.place)
            if self._fence is not None:
                self._require_fence(action, session)
            if expected_seq is not None and seq != expected_seq:
                raise LedgerMoved(
                    f"writing {action!r} to the ledger: record {expected_seq} was the last one seen, now {seq} is",
                    next_step="look at the new state and decide again: kedro release list",
                )
            now = self.clock.now()
            if holds is not None:
                holds(now)
            record = make_record(seq + 1, now, action, actor, subject, detail, digest)
            session.insert(to_row(record))
            failpoint("ledger.inserted")
            first = session.digest_at(1)
        failpoint("ledger.committed")
        if self._checkpoints is not None and action not in INERT:
            self._checkpoints.extend_or_warn(record.seq, record.digest, first, self.clock.now())
        failpoint("ledger.signed")
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
            If a record was altered, is missing or does not follow the one before it, record `after_seq` is another
            one than the caller knows, or, where all are read, the newest checkpoint names one that is not there.
        """
        known = self._newest_checkpoint(is_strict=False) if after_seq <= 0 else None
        if after_seq <= 0 and not self.exists():
            if known is not None:
                raise _contradicted(known, self.place)
            return []
        with self._reading("reading") as session:
            if known is not None:
                _require(known, session, self.place)
            chain = follow_chain(session.rows(after_seq), starts_at=max(after_seq, 1))
            found = [from_row(row) for row in chain]
        if after_seq > 0 and not found:
            raise LedgerCorrupt(f"reading the ledger {self.place}: record {after_seq} is gone", next_step=RESTORE)
        if after_seq > 0 and after_digest not in (None, found[0].digest):
            raise LedgerCorrupt(
                f"reading the ledger {self.place}: record {after_seq} is another one than was read before: "
                "the file was replaced",
                next_step=RESTORE,
            )
        return [record for record in found if record.seq > after_seq]

    def folded(self, fold: Callable[[Iterable[Record], State | None], State]) -> State:
        """Return what `fold` makes of all records; its second argument is a state to go on from, None for none."""
        return fold(self.records(), None)

    def head(self) -> int:
        """Return the sequence number of the last record, 0 if there is none."""
        if not self.exists():
            return 0
        with self._reading("reading") as session:
            return session.last()[0]

    def newest(self, action: str) -> Record | None:
        """Return the newest record of an action, None without one; the records before it are not read."""
        if not self.exists():
            return None
        with self._reading("reading") as session:
            seq = session.newest(action)
            return from_row(next(follow_chain(session.rows(seq), starts_at=seq))) if seq else None

    def verify(self) -> None:
        """Compare every digest, the order of all records, the guards and the database itself.

        Raises
        ------
        LedgerCorrupt
            Naming the first record that breaks the chain, or the missing guard.
        """
        if not self.exists():
            return
        with self.snapshot() as session:
            problems = session.problems()
            if problems:
                raise LedgerCorrupt(f"verifying {self.place}: {'; '.join(problems)}", next_step=RESTORE)
            for _ in follow_chain(session.rows(1)):
                pass

    def snapshot(self) -> AbstractContextManager[Session]:
        """Give a session to look at everything from."""
        return self._reading("verifying")

    def checkpoint(self) -> Checkpoint | None:
        """Sign the last record where no checkpoint names it yet; return the newest checkpoint, None without records.

        Raises
        ------
        NotFoundError
            If this ledger was opened without a place for checkpoints.
        LedgerCorrupt
            If the newest checkpoint names a record that is not there, or is damaged itself.
        ReleaseRefused, ConfigError
            If it cannot be written, or the key that signs cannot be used.
        """
        if self._checkpoints is None:
            raise NotFoundError(f"signing the ledger {self.place}: it was opened without a place for checkpoints")
        known = self._checkpoints.newest()
        if known is None and not self.exists():
            return None
        with self._reading("signing") as session:
            if known is not None:
                _require(known, session, self.place)
            (seq, digest), first = session.last(), session.digest_at(1)
        return self._checkpoints.extend(seq, digest, first, self.clock.now()) if seq else None

    def checkpoint_or_warn(self) -> None:
        """Sign the last record where there is a place for checkpoints; what hinders it is logged."""
        if self._checkpoints is not None:
            self._checkpoints.warn_of(self.checkpoint)

    def fenced(self, token: int) -> Self:
        """Return this ledger for the holder of lease `token`: it appends nothing once another lease was taken."""
        fenced = copy.copy(self)
        fenced._fence = token
        return fenced

    def _newest_checkpoint(self, *, is_strict: bool) -> Checkpoint | None:
        if self._checkpoints is None:
            return None
        if is_strict:
            self._checkpoints.require_room()
            return self._checkpoints.newest()
        return self._checkpoints.warn_of(self._checkpoints.newest)

    def _require_fence(self, action: str, session: Session) -> None:
        newest = session.newest("lease")
        if newest != self._fence:
            raise LedgerConflict(
                f"writing {action!r} to the ledger: another controller took lease {newest} after {self._fence}",
                next_step="leave the decision to that one, or take the lease again once it is over",
            )


def open_ledger(where: Path | str, clock: Clock, *, checkpoints: CheckpointLog | None = None) -> Ledger:
    """Open the ledger at a path (SQLite) or an address (`postgresql://`); nothing is read or made yet.

    Raises
    ------
    ConfigError
        If PostgreSQL's driver is not installed.
    """
    if isinstance(where, str) and where.startswith(SCHEMES):
        from flightdeck.release.postgres_ledger import PostgresLedger

        return PostgresLedger(where, clock, checkpoints)
    from flightdeck.release.sqlite_ledger import SqliteLedger

    return SqliteLedger(Path(where), clock, checkpoints)


def _require(known: Checkpoint, session: Session, place: str) -> None:
    """Refuse a ledger that the newest checkpoint is not about."""
    if session.digest_at(known.seq) != known.digest or session.digest_at(1) != known.ledger:
        raise _contradicted(known, place)


def _contradicted(known: Checkpoint, place: str) -> LedgerCorrupt:
    return LedgerCorrupt(
        f"using the ledger {place}: the checkpoint of {known.at:%Y-%m-%d %H:%M:%S} UTC names record {known.seq} "
        f"({known.digest[:16]}), which is not there: cut short, replaced, or an old backup",
        next_step="look: kedro audit verify; restore the newest backup, release nothing meanwhile",
    )
