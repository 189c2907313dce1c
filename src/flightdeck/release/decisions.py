"""How a decision becomes a record: fold the ledger, decide, append on the condition that nothing has moved in between.

Where the ledger has moved, the decision is made again on the new state. Of two people who promote at once one succeeds
and the other is told what is legal now.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from datetime import datetime
from itertools import takewhile
from typing import ParamSpec, TypeVar

from flightdeck.core.errors import LedgerConflict, NotFoundError, ReleaseRefused
from flightdeck.release.ledger import Ledger, LedgerMoved
from flightdeck.release.orders import read_orders
from flightdeck.release.people import MAX_NAME, ConsentVoid, PermissionDenied, Person, one_line
from flightdeck.release.record import MOVES, Record
from flightdeck.release.stages import ReleaseState
from flightdeck.release.state import fold

Decision = tuple[str, Mapping[str, object]]
N_ATTEMPTS = 20
P = ParamSpec("P")
R = TypeVar("R")


def current_state(ledger: Ledger) -> ReleaseState:
    """Return the state that the ledger amounts to, refusing an absent or altered one.

    Raises
    ------
    NotFoundError
        If there is no ledger: nothing was released yet, or the file is lost.
    LedgerCorrupt
        If the chain is broken.
    """
    if not ledger.exists():
        raise NotFoundError(
            f"no ledger at {ledger.place}: nothing has been released, or the file was lost",
            next_step="run kedro run --config kedro.yml, or restore the file from a backup if there was one",
        )
    return ledger.folded(fold)


def append_decision(
    ledger: Ledger,
    version: int | None,
    by: Person,
    decide: Callable[[ReleaseState], Decision],
    *,
    needs_ledger: bool = True,
    holds: Callable[[ReleaseState, Mapping[str, object], datetime], None] | None = None,
) -> Record:
    """Append what `decide` decides on the newest state; decide again whenever the ledger moves underneath.

    The record is about `version`, else about the version that the detail calls `from`, else about none. It says how the
    person's name was established. `holds` is asked once more with the state, the detail and the time of the record,
    while nobody else can write: what it refuses is not written.

    Raises
    ------
    ReleaseRefused
        Whatever `decide` refuses; or a move while a rollback that the service obeys waits for its record.
    LedgerConflict
        If the ledger keeps moving, or it is fenced and another controller took the lease.
    """
    for _ in range(N_ATTEMPTS):
        state = current_state(ledger) if needs_ledger or ledger.exists() else ReleaseState()
        action, detail = decide(state)
        if action in MOVES:
            _require_no_order(ledger)
        subject = str(version if version is not None else detail.get("from", "-"))
        detail = {**detail, "proof": by.proof}
        try:
            return ledger.append(
                action,
                actor=by.name,
                subject=subject,
                detail=detail,
                expected_seq=state.seq,
                holds=functools.partial(holds, state, detail) if holds is not None else None,
            )
        except LedgerMoved:
            continue
    raise LedgerConflict(
        f"the ledger moved {N_ATTEMPTS} times while this was being decided; nothing was recorded",
        next_step="see who else writes to it, then repeat the command",
    )


def _require_no_order(ledger: Ledger) -> None:
    """Refuse a move while a rollback waits for its record: the service has obeyed it, the ledger does not know yet."""
    waiting = read_orders(ledger.orders) if ledger.orders is not None else []
    if waiting:
        out = f"version {waiting[0].out}" if waiting[0].out is not None else "what was live"
        raise ReleaseRefused(
            f"{len(waiting)} rollbacks wait for their record, the oldest ordered by {waiting[0].by} at "
            f"{waiting[0].at:%Y-%m-%d %H:%M:%S} UTC ({out} out): the service has obeyed, the ledger does not know",
            next_step="kedro release reconcile records them; then look again: kedro release list",
        )


def record_refusal(ledger: Ledger, version: int | None, by: str, what: str, error: ReleaseRefused) -> None:
    """Leave a record that somebody was refused something that only consent may decide; once while nothing moves."""
    if not ledger.exists():
        return
    subject = str(version) if version is not None else "-"
    actor = one_line(by)[:MAX_NAME]
    detail = {"what": what, "reason": one_line(error.message)[:500]}
    since = takewhile(lambda record: record.action == "refused", reversed(ledger.records()))
    if all((r.actor, r.subject, r.detail) != (actor, subject, detail) for r in since):
        ledger.append("refused", actor=actor, subject=subject, detail=detail)


def records_refusals(command: Callable[P, R]) -> Callable[P, R]:
    """Let a command of the release desk leave a record where its person lacks the permission or consent is void."""
    signature = inspect.signature(command)

    @functools.wraps(command)
    def recorded(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except (PermissionDenied, ConsentVoid) as error:
            given = signature.bind(*args, **kwargs).arguments
            record_refusal(given["ledger"], given.get("version"), given["by"].name, command.__name__, error)
            raise

    return recorded
