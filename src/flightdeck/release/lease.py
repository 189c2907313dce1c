"""The controller's lease: of two controllers that act by themselves, one decides and the other is told so.

A lease is a record of the ledger; its sequence number is the fencing token. Whoever holds it appends through `ledger`,
which refuses once another lease was taken, however late the holder wakes up: the check is made in the transaction that
appends. The time only says when another one may take over. People need no lease.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self

from flightdeck.core.clock import Clock
from flightdeck.core.errors import LedgerConflict
from flightdeck.core.failpoints import failpoint
from flightdeck.release.ledger import Ledger, LedgerMoved
from flightdeck.release.record import Record

ACTION, SUBJECT = "lease", "-"


@dataclass(frozen=True)
class Lease:
    """The right to decide by itself, until somebody else takes it after `expires_at`.

    Parameters
    ----------
    ledger
        The ledger, fenced: give it to the commands.
    holder
        Who holds it: a name of this process and no other.
    token
        Sequence number of the lease's record.
    expires_at
        From when on another holder may take it.
    """

    ledger: Ledger
    holder: str
    token: int
    expires_at: datetime

    @classmethod
    def take(cls, ledger: Ledger, holder: str, ttl_s: float, clock: Clock) -> Self:
        """Take the lease, or take it anew under a new token where this holder has it already.

        Parameters
        ----------
        ledger
            Where it is recorded.
        holder
            Who takes it.
        ttl_s
            How long nobody else may, seconds; minutes rather than seconds, for every lease is a record.
        clock
            What time it is.

        Raises
        ------
        LedgerConflict
            If another holder has it, or has just taken it.
        """
        head, now = ledger.head(), clock.now()
        held = ledger.newest(ACTION)  # read last: where it is beyond the head, the head has moved
        if held is not None and held.actor != holder and now < _expiry(held):
            raise LedgerConflict(
                f"taking the lease as {holder!r}: {held.actor!r} holds it under token {held.seq} "
                f"until {held.detail['expires_at']}",
                next_step="let that controller decide, end it, or wait until then",
            )
        expires_at = now + timedelta(seconds=ttl_s)
        return cls._record(ledger, holder, expires_at, expected_seq=head)

    def append(self, action: str, **rest: Any) -> Record:
        """Append a record under this lease, as `Ledger.append` does.

        Raises
        ------
        LedgerConflict
            If another lease was taken since.
        """
        return self.ledger.append(action, **rest)

    def release(self, clock: Clock) -> None:
        """Give the lease up: anybody may take it from now on, and this one appends nothing more.

        Raises
        ------
        LedgerConflict
            If another lease was taken since.
        """
        self._record(self.ledger, self.holder, clock.now(), expected_seq=None)

    @classmethod
    def _record(cls, ledger: Ledger, holder: str, expires_at: datetime, *, expected_seq: int | None) -> Self:
        detail = {"holder": holder, "expires_at": expires_at.isoformat()}
        try:
            record = ledger.append(ACTION, actor=holder, subject=SUBJECT, detail=detail, expected_seq=expected_seq)
        except LedgerMoved as error:
            raise LedgerConflict(
                f"taking the lease as {holder!r}: the ledger moved meanwhile ({error.message})",
                next_step="look at the new state, then take it again",
            ) from error
        failpoint("lease.recorded")
        return cls(ledger.fenced(record.seq), holder, record.seq, expires_at)


def _expiry(record: Record) -> datetime:
    return datetime.fromisoformat(record.detail["expires_at"])
