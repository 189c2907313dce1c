"""Rollbacks that could not be recorded: an order in a file, which the service obeys and the ledger learns later.

A way back must not wait for a disk. Where the ledger cannot be written, or not even be read, the rollback becomes an
order in a folder of its own, best on another disk. Workers of the service look at the orders whenever they look at the
ledger, and act on both. Once the ledger can be written again, `order_entry.enter_orders` makes each order a record,
which says when it was given; an order that has no object any more is recorded as such. No order is ever lost or counted
twice: its file goes after its record is on the disk, and one whose record is there already is recognised by its name.
"""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated

import msgspec

from flightdeck.core.errors import ReleaseRefused
from flightdeck.release.moves import rollback_target
from flightdeck.release.record import make_record
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
        Version to take out, which was in its present step at `at`, and the record that began the step; None where the
        ledger could not be read: whatever is live and was so at `at`.
    """

    name: str
    at: Instant
    by: str
    proof: str
    reason: str
    out: int | None = None
    entered_seq: int | None = None


def read_orders(folder: Path) -> list[Order]:
    """Return the orders that wait, oldest first; a missing folder has none.

    A file that is no order, or that of another name, is left out: nothing that lies in the folder may keep the
    service from the others.
    """
    found = []
    for path in sorted(folder.glob(f"*{SUFFIX}"))[:MAX_ORDERS]:
        try:
            order = msgspec.json.decode(path.read_bytes(), type=Order)
        except (OSError, ValueError):
            continue
        if path.name == f"{order.name}{SUFFIX}":
            found.append(order)
    return sorted(found, key=lambda order: (order.at, order.name))


def obey(state: ReleaseState, orders: Sequence[Order]) -> ReleaseState:
    """Return the state as it will be once the orders are in the ledger; those without an object change nothing."""
    for order in orders:
        if is_meant(state, order):
            out, back = rollback_target(state)
            detail = {"digest": state.versions[out].digest, "from": out, "to": back, "stage": ""}
            record = make_record(state.seq + 1, order.at, "rolled_back", order.by, str(out), detail, state.digest)
            state = fold([record], state)
    return state


def is_meant(state: ReleaseState, order: Order) -> bool:
    """Tell whether an order has an object in this state: what it means is live, in the step that it means."""
    try:
        out, _ = rollback_target(state)
    except ReleaseRefused:
        return False
    current = state.versions[out]
    was_live = current.entered_at is not None and current.entered_at < order.at
    # the record tells it where the clocks of two machines differ, the time where an order before this one was entered
    return order.out in (None, out) and (was_live or current.entered_seq == order.entered_seq)
