"""Rollbacks that the ledger did not take: obeyed at once, recorded later, each once."""

import json
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from flightdeck.core.clock import VirtualClock
from flightdeck.core.errors import LedgerUnusable, NotFoundError, ReleaseRefused
from flightdeck.inference.bundle import Bundle
from flightdeck.release import order_entry
from flightdeck.release.ledger import Ledger, open_ledger
from flightdeck.release.order_entry import enter_orders, roll_back
from flightdeck.release.orders import SUFFIX, Order, obey, read_orders
from flightdeck.release.people import PermissionDenied
from flightdeck.release.record import Record
from flightdeck.release.sqlite_ledger import SqliteLedger
from flightdeck.release.stages import ReleaseState
from flightdeck.release.state import fold
from tests import release_desk as commands

Enter = Callable[..., Bundle]
ADA = commands.person("Ada")


class FullDisk(SqliteLedger):
    """A ledger that can be read and not written."""

    def append(self, action: str, **given: object) -> Record:  # type: ignore[override]
        raise LedgerUnusable(f"writing {action}: the disk is full")


class Gone(SqliteLedger):
    """A ledger whose disk does not answer."""

    def records(self, after_seq: int = 0, *, after_digest: str | None = None) -> list[Record]:
        raise LedgerUnusable("reading: the disk is away")

    def append(self, action: str, **given: object) -> Record:  # type: ignore[override]
        raise LedgerUnusable(f"writing {action}: the disk is away")


class House:
    """Champions 1 and 2, version 3 in canary."""

    def __init__(self, ledger: Ledger, bundles: Path, folder: Path, enter: Enter) -> None:
        assert isinstance(ledger, SqliteLedger)
        self.ledger, self.bundles, self.orders = ledger, bundles, folder / "orders"
        for version in (1, 2, 3):
            enter(version)
            commands.approve(ledger, version, by="Ada", bundles=bundles)
            commands.bring(ledger, version, "prod" if version < 3 else "canary", bundles=bundles)
        self.wait(60)

    def wait(self, seconds: float) -> None:
        clock = self.ledger.clock
        assert isinstance(clock, VirtualClock)
        clock.advance_to(clock.now() + timedelta(seconds=seconds))

    @property
    def state(self) -> ReleaseState:
        return fold(self.ledger.records())

    @property
    def obeyed(self) -> ReleaseState:
        """What a worker of the service goes by."""
        return obey(self.state, read_orders(self.orders))

    def order(self, kind: type[SqliteLedger], reason: str = "it harms") -> Order:
        self.wait(1)
        broken = kind(self.ledger.path, self.ledger.clock)  # type: ignore[attr-defined]
        *_, order = roll_back(broken, self.orders, by=ADA, reason=reason, bundles=self.bundles)
        assert order is not None
        return order


@pytest.fixture
def house(ledger: Ledger, bundles: Path, tmp_path: Path, enter: Enter) -> House:
    return House(ledger, bundles, tmp_path, enter)


def live(state: ReleaseState) -> tuple[int | None, int | None]:
    return state.champion, state.canary


def test_where_the_ledger_takes_it_there_is_no_order(house: House) -> None:
    assert roll_back(house.ledger, house.orders, by=ADA, bundles=house.bundles) == (3, 2, None)
    assert read_orders(house.orders) == []


@pytest.mark.parametrize("kind", [FullDisk, Gone])
def test_orders_are_obeyed_at_once_and_recorded_later(house: House, kind: type[SqliteLedger]) -> None:
    house.order(kind)
    assert (live(house.state), live(house.obeyed)) == ((2, 3), (2, None))
    house.order(kind, "the champion, too")
    if kind is FullDisk:  # the second one knows of the first: it means the champion
        assert live(house.obeyed) == (1, None)
    before = house.obeyed
    house.wait(600)
    done = enter_orders(house.ledger, house.orders)
    assert len(done) == 2 and read_orders(house.orders) == []
    after = house.state
    assert live(after) == live(before)
    assert {v.version: v.stage for v in after.versions.values()} == {
        v.version: v.stage for v in before.versions.values()
    }
    recorded = [record for record in house.ledger.records() if record.action in ("rolled_back", "order_void")]
    assert [record.actor for record in recorded] == ["Ada", "Ada"]
    assert all(record.detail["ordered_at"] < record.recorded_at.isoformat() for record in recorded)
    assert enter_orders(house.ledger, house.orders) == []


def test_an_order_that_was_recorded_before_a_crash_is_not_recorded_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.order(FullDisk)
    (path,) = house.orders.glob(f"*{SUFFIX}")
    kept = path.read_bytes()
    enter_orders(house.ledger, house.orders)
    path.write_bytes(kept)  # as if the process had died before it took the file away
    assert live(house.obeyed) == (2, None), "its step is over: nobody is taken out twice"
    head = house.ledger.head()
    assert enter_orders(house.ledger, house.orders) == []
    assert (house.ledger.head(), read_orders(house.orders)) == (head, [])


def test_an_order_without_an_object_is_recorded_as_such(house: House) -> None:
    house.order(FullDisk)
    commands.rollback(house.ledger, by="Grace", bundles=house.bundles)
    assert live(house.obeyed) == (2, None), "somebody else was quicker; the champion is not meant"
    (said,) = enter_orders(house.ledger, house.orders)
    assert "had no object any more" in said
    assert live(house.state) == (2, None)


def test_an_order_stays_as_long_as_the_ledger_does_not_take_it(house: House) -> None:
    order = house.order(FullDisk)
    with pytest.raises(LedgerUnusable):
        enter_orders(FullDisk(house.ledger.path, house.ledger.clock), house.orders)  # type: ignore[attr-defined]
    assert read_orders(house.orders) == [order]


def test_what_is_no_order_keeps_nobody_from_the_others(house: House) -> None:
    order = house.order(FullDisk)
    (house.orders / f"a{SUFFIX}").write_text("{")
    (house.orders / f"b{SUFFIX}").write_text(json.dumps({"name": "b"}))
    (house.orders / f"c{SUFFIX}").mkdir()
    (house.orders / "notes.txt").write_text("no order")
    assert read_orders(house.orders) == [order]


def test_without_both_disks_the_refusal_names_both(house: House, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    broken = FullDisk(house.ledger.path, house.ledger.clock)  # type: ignore[attr-defined]
    with pytest.raises(ReleaseRefused, match=r"the disk is full.*neither"):
        roll_back(broken, tmp_path / "file" / "orders", by=ADA, bundles=house.bundles)


def test_who_may_not_roll_back_gives_no_order(house: House) -> None:
    with pytest.raises(PermissionDenied):
        roll_back(
            FullDisk(house.ledger.path, house.ledger.clock),  # type: ignore[attr-defined]
            house.orders,
            by=commands.PIPELINE,
            bundles=house.bundles,
        )
    assert read_orders(house.orders) == []


def test_a_lost_ledger_leaves_a_way_back_and_a_house_without_releases_none(house: House, tmp_path: Path) -> None:
    shutil.rmtree(house.ledger.path.parent)  # type: ignore[attr-defined]
    *_, order = roll_back(house.ledger, house.orders, by=ADA, bundles=house.bundles)
    assert order is not None and order.out is None
    empty = open_ledger(tmp_path / "none" / "ledger.sqlite", house.ledger.clock)
    with pytest.raises(NotFoundError, match="nothing has been released"):
        roll_back(empty, tmp_path / "none" / "orders", by=ADA, bundles=tmp_path / "none")


def test_two_who_enter_at_once_record_each_order_once(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.order(FullDisk)
    inside = order_entry._enter

    def overtaken(ledger: Ledger, order: Order) -> str:
        monkeypatch.setattr(order_entry, "_enter", inside)
        enter_orders(ledger, house.orders)
        return inside(ledger, order)

    monkeypatch.setattr(order_entry, "_enter", overtaken)
    enter_orders(house.ledger, house.orders)
    rolled_back = [record for record in house.ledger.records() if record.action == "rolled_back"]
    assert len(rolled_back) == 1
    assert live(house.state) == (2, None)
