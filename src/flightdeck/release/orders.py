"""Rollbacks that could not be recorded: an order in a file, which the service obeys and the ledger learns later.

A way back must not wait for a disk. Where the ledger cannot be written, or not even be read, the rollback becomes an
order in a folder of its own, best on another disk. Workers of the service look at the orders whenever they look at the
ledger, and act on both. Once the ledger can be written again, `enter_orders` makes each order a record, which says when
it was given; an order that has no object any more is recorded as such. No order is ever lost or counted twice: its file
goes after its record is on the disk, and an order whose record is there already is recognised by its name.
"""

import uuid
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated

import msgspec

from flightdeck.core.errors import FlightdeckError, LedgerCorrupt, LedgerUnusable, NotFoundError, ReleaseRefused
from flightdeck.core.failpoints import failpoint
from flightdeck.core.files import write_atomically
from flightdeck.release import commands
from flightdeck.release.decisions import append_decision, current_state
from flightdeck.release.ledger import Ledger
from flightdeck.release.moves import rollback_target
from flightdeck.release.people import STATED, Person
from flightdeck.release.record import make_record
from flightdeck.release.requirements import Bundles, plain_reason
from flightdeck.release.stages import ReleaseState
from flightdeck.release.state import fold

SUFFIX = ".order.json"
MAX_ORDERS = 1000
Instant = Annotated[datetime, msgspec.Meta(tz=True)]


class Order(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One rollback that waits for its record.

    Parameters
    ----------
    name
        Its own, and of no other.
    at, by, proof, reason
        When it was given, by whom, how the name was established, and why.
    out, entered_seq
        Version to take out, and the record of the step that it is meant in; None where the ledger could not be read:
        whatever is live and was so at `at`.
    """

    name: str
    at: Instant
    by: str
    proof: str
    reason: str
    out: int | None = None
    entered_seq: int | None = None


def roll_back(
    ledger: Ledger, orders: Path, *, by: Person, reason: str = "", bundles: Bundles | None = None
) -> tuple[int | None, int | None, Order | None]:
    """Roll back; where the ledger cannot be written or read, leave an order that the service obeys at once.

    Parameters
    ----------
    ledger, by, reason, bundles
        As in `commands.rollback`.
    orders
        Folder of the orders.

    Returns
    -------
    tuple of (int or None, int or None, Order or None)
        Version taken out and version that serves afterwards, where they are known; and the order, None where the record
        is in the ledger.

    Raises
    ------
    ReleaseRefused
        If the rollback is not allowed, or neither the ledger nor the order could be written.
    """
    try:
        out, back = commands.rollback(ledger, by=by, reason=reason, bundles=bundles)
    except (LedgerUnusable, LedgerCorrupt, NotFoundError) as error:
        by.require("rollback")
        return _give(ledger, orders, by=by, reason=reason, because=error)
    return out, back, None


def read_orders(folder: Path) -> list[Order]:
    """Return the orders that wait, oldest first; a missing folder has none.

    A file that is no order is left out: nothing that lies in the folder may keep the service from the others.
    """
    found = []
    for path in sorted(folder.glob(f"*{SUFFIX}"))[:MAX_ORDERS]:
        try:
            found.append(msgspec.json.decode(path.read_bytes(), type=Order))
        except (OSError, ValueError):
            continue
    return sorted(found, key=lambda order: (order.at, order.name))


def obey(state: ReleaseState, orders: Sequence[Order]) -> ReleaseState:
    """Return the state as it will be once the orders are in the ledger; those without an object change nothing."""
    for order in orders:
        if _is_meant(state, order):
            out, back = rollback_target(state)
            detail = {"digest": state.versions[out].digest, "from": out, "to": back, "stage": ""}
            record = make_record(state.seq + 1, order.at, "rolled_back", order.by, str(out), detail, state.digest)
            state = fold([record], state)
    return state


def enter_orders(ledger: Ledger, folder: Path) -> list[str]:
    """Make the orders that wait records of the ledger, and return what was recorded, a line each.

    Raises
    ------
    ReleaseRefused
        If the ledger still cannot be written; the orders stay.
    """
    done = []
    for order in read_orders(folder):
        known = {record.detail.get("order") for record in ledger.records() if record.action in _RECORDED}
        if order.name not in known:
            done.append(_enter(ledger, order))
        failpoint("order.recorded")
        (folder / f"{order.name}{SUFFIX}").unlink(missing_ok=True)
        failpoint("order.removed")
    return done


_RECORDED = ("rolled_back", "order_void")


def _give(
    ledger: Ledger, folder: Path, *, by: Person, reason: str, because: FlightdeckError
) -> tuple[int | None, int | None, Order]:
    out = back = entered_seq = None
    try:
        state = obey(current_state(ledger), read_orders(folder))
        out, back = rollback_target(state)
        entered_seq = state.versions[out].entered_seq
    except (LedgerUnusable, LedgerCorrupt, NotFoundError):
        pass  # the service knows what is live
    at = ledger.clock.now()
    name = f"{at:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:12]}"
    order = Order(name, at, by.name, by.proof, plain_reason(reason), out, entered_seq)
    failpoint("order.decided")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / f"{name}{SUFFIX}", msgspec.json.encode(order))
    except OSError as error:
        raise ReleaseRefused(
            f"rolling back: the ledger does not take it ({because.message}), and the folder of the orders neither: "
            f"{error}",
            next_step="free one of the two disks; until then stop the service or drill it: kedro serve drill",
        ) from error
    failpoint("order.written")
    return out, back, order


def _is_meant(state: ReleaseState, order: Order) -> bool:
    try:
        out, _ = rollback_target(state)
    except ReleaseRefused:
        return False
    current = state.versions[out]
    if order.out is not None:
        return order.out == out and order.entered_seq == current.entered_seq
    return current.entered_at is not None and current.entered_at < order.at


def _enter(ledger: Ledger, order: Order) -> str:
    by = Person(order.by, (), frozenset(), order.proof or STATED)

    def decide(state: ReleaseState) -> tuple[str, dict[str, object]]:
        noted: dict[str, object] = {"reason": order.reason, "order": order.name, "ordered_at": order.at.isoformat()}
        if not _is_meant(state, order):
            return "order_void", {**noted, "version": order.out}
        out, back = rollback_target(state)
        current = state.versions[out]
        return "rolled_back", {
            **noted,
            "digest": current.digest,
            "from": out,
            "to": back,
            "stage": current.live_stage,
        }

    record = append_decision(ledger, None, by, decide)
    if record.action == "order_void":
        return f"the rollback that {order.by} ordered at {order.at:%H:%M:%S} UTC had no object any more"
    return f"the rollback of version {record.subject} that {order.by} ordered at {order.at:%H:%M:%S} UTC is recorded"
