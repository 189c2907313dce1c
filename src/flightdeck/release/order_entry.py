"""Giving the orders of `orders`, and making them records once the ledger can be written again.

A module of its own, because the service obeys orders and neither gives nor records any.
"""

import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import msgspec

from flightdeck.core.errors import FlightdeckError, LedgerCorrupt, LedgerUnusable, NotFoundError, ReleaseRefused
from flightdeck.core.failpoints import failpoint
from flightdeck.core.files import write_atomically
from flightdeck.release import commands
from flightdeck.release.decisions import append_decision, current_state
from flightdeck.release.ledger import Ledger
from flightdeck.release.moves import rollback_target
from flightdeck.release.orders import SUFFIX, Order, is_meant, obey, read_orders
from flightdeck.release.people import STATED, Person
from flightdeck.release.requirements import Bundles, plain_reason
from flightdeck.release.second_copy import BackedShelf
from flightdeck.release.stages import ReleaseState, VersionState


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
        folder = bundles.folder if isinstance(bundles, BackedShelf) else bundles
        has_bundles = isinstance(folder, Path) and folder.is_dir() and any(folder.iterdir())
        if isinstance(error, NotFoundError) and not has_bundles:
            raise  # nothing was ever released here
        by.require("rollback")
        found, after, entered_seq = _target(ledger, orders)
        order = _order(ledger, by, reason, found, entered_seq)
        _give(order, orders, because=error)
        return found, after, order
    return out, back, None


def take_out(
    ledger: Ledger, orders: Path, meant: VersionState, *, by: Person, reason: str, evidence: Mapping[str, object]
) -> Order | None:
    """Roll back a canary for what the judge knows of it, and return the order where the ledger does not take it.

    Parameters
    ----------
    ledger, orders, by, reason, evidence
        As above and in `commands.rollback`; an order holds the reason only.
    meant
        The version, in the step that was looked at: no other is taken out.

    Raises
    ------
    ReleaseRefused
        If the rollback is not allowed, or neither the ledger nor the order could be written.
    """
    try:
        commands.rollback(ledger, by=by, reason=reason, only=meant.version, evidence=evidence)
    except (LedgerUnusable, LedgerCorrupt, NotFoundError) as error:
        by.require("rollback")
        order = _order(ledger, by, reason, meant.version, meant.entered_seq)
        _give(order, orders, because=error)
        return order
    return None


def enter_orders(ledger: Ledger, folder: Path) -> list[str]:
    """Make the orders that wait records of the ledger, and return what was recorded, a line each.

    Raises
    ------
    ReleaseRefused
        If the ledger still cannot be written; the orders stay.
    """
    done = []
    for order in read_orders(folder):
        with suppress(_AlreadyRecorded):
            done.append(_enter(ledger, order))
        failpoint("order.recorded")
        (folder / f"{order.name}{SUFFIX}").unlink(missing_ok=True)
        failpoint("order.removed")
    return done


_RECORDED = ("rolled_back", "order_void")


class _AlreadyRecorded(Exception):
    """The order has its record: somebody else entered it, or was killed before its file was gone."""


def _target(ledger: Ledger, folder: Path) -> tuple[int | None, int | None, int | None]:
    """Return version to take out, version that serves then, and the record that began the step; what is known of it."""
    try:
        state = obey(current_state(ledger), read_orders(folder))
        out, back = rollback_target(state)
    except (LedgerUnusable, LedgerCorrupt, NotFoundError):
        return None, None, None  # the service knows what is live
    return out, back, state.versions[out].entered_seq


def _order(ledger: Ledger, by: Person, reason: str, out: int | None, entered_seq: int | None) -> Order:
    at = ledger.clock.now()
    name = f"{at:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:12]}"
    return Order(name, at, by.name, by.proof, plain_reason(reason), out, entered_seq)


def _give(order: Order, folder: Path, *, because: FlightdeckError) -> None:
    failpoint("order.decided")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / f"{order.name}{SUFFIX}", msgspec.json.encode(order))
    except OSError as error:
        raise ReleaseRefused(
            f"rolling back: the ledger does not take it ({because.message}), and the folder of the orders neither: "
            f"{error}",
            next_step="free one of the two disks; until then stop the service or drill it: kedro serve drill",
        ) from error
    failpoint("order.written")


def _enter(ledger: Ledger, order: Order) -> str:
    by = Person(order.by, (), frozenset(), order.proof or STATED)

    def decide(state: ReleaseState) -> tuple[str, dict[str, object]]:
        if any(r.detail.get("order") == order.name for r in ledger.records() if r.action in _RECORDED):
            raise _AlreadyRecorded
        noted: dict[str, object] = {"reason": order.reason, "order": order.name, "ordered_at": order.at.isoformat()}
        if not is_meant(state, order):
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
