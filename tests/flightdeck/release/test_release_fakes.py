"""The fakes of the simulation do what the real parts do: the registry beside MLflow's, the ledger when it fails."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from flightdeck.core.clock import VirtualClock
from flightdeck.core.errors import BundleRefused, LedgerUnusable
from flightdeck.inference.bundle import Bundle, Manifest
from flightdeck.release.ledger import LedgerMoved
from flightdeck.release.registry import Registry, RegistryUnavailable
from flightdeck.release.state import fold
from tests.flightdeck.release.conftest import NOON
from tests.release_fakes import Disk, MemoryLedger, MemoryRegistry, MemoryShelf

Call = tuple[Any, ...]


def bundle(number: int) -> Bundle:
    return Bundle(Path("/bundles") / str(number), f"{number:064x}", Manifest("flight-delay", {}, {}))


STEPS: list[list[Call]] = [
    [("digests",), ("aliases",), ("tag", "ledger_head")],
    [("register", bundle(7)), ("register", bundle(8)), ("register", bundle(7))],
    [("set_alias", "champion", 2), ("set_alias", "canary", 1), ("set_alias", "candidate", None)],
    [("aliases",), ("digests",)],
    [("set_alias", "champion", 9)],
    [("set_alias", "canary", None), ("set_alias", "canary", None), ("aliases",)],
    [("set_tag", "ledger_head", "3:abc"), ("set_tag", "ledger_head", "4:abd"), ("tag", "ledger_head")],
    [("set_stage_tag", 1, "prod"), ("set_stage_tag", 1, "archived")],
    [("restore", 5, "e" * 64, "file:///e"), ("digests",)],
    [("restore", 4, "f" * 64, "file:///f")],
    [("digests",), ("aliases",)],
]


def outcome(calls: Sequence[Call], registry: Registry) -> object:
    try:
        return [getattr(registry, name)(*values) for name, *values in calls]
    except RegistryUnavailable:
        return RegistryUnavailable


def test_the_registry_in_memory_answers_as_mlflow_does(registry: Registry) -> None:
    fake = MemoryRegistry("flight-delay")
    for number, calls in enumerate(STEPS):
        assert outcome(calls, fake) == outcome(calls, registry), f"step {number}"
    fake.is_away = True
    assert all(outcome(calls, fake) is RegistryUnavailable for calls in STEPS)


def test_the_ledger_in_memory_fails_as_a_disk_does() -> None:
    disk, clock = Disk(), VirtualClock(NOON)
    ledger = MemoryLedger(disk, clock)
    ledger.append("alert", actor="a", subject="-", detail={})
    disk.is_full = True
    with pytest.raises(LedgerUnusable):
        ledger.append("alert", actor="a", subject="-", detail={})
    assert [record.seq for record in ledger.records()] == [1]
    disk.is_away = True
    for use in (ledger.records, ledger.head, lambda: ledger.newest("lease")):
        with pytest.raises(LedgerUnusable):
            use()
    disk.is_full = disk.is_away = False
    disk.intruder = lambda: MemoryLedger(disk, clock).append("alert", actor="b", subject="-", detail={})
    with pytest.raises(LedgerMoved):
        ledger.append("alert", actor="a", subject="-", detail={}, expected_seq=1)
    assert [record.actor for record in ledger.records()] == ["a", "b"]


def test_the_ledger_in_memory_folds_on_from_where_it_was() -> None:
    ledger = MemoryLedger(Disk(), VirtualClock(NOON))
    for number in range(1, 4):
        detail = {"digest": f"{number:064x}", "tier": "low", "model_name": "m"}
        ledger.append("registered", actor="p", subject=str(number), detail=detail)
        assert ledger.folded(fold) == fold(ledger.records())


def test_the_shelf_refuses_what_was_altered() -> None:
    shelf = MemoryShelf()
    one, other = shelf.seal("a"), shelf.seal("b")
    shelf.altered.add(one.digest)
    assert shelf.open(other.digest) == other
    with pytest.raises(BundleRefused):
        shelf.open(one.digest)
