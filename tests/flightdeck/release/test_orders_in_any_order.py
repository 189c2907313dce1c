"""Rollbacks that wait for their record: each is recorded once, and the service obeys what the ledger will say."""

import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from flightdeck.core.clock import VirtualClock
from flightdeck.release.order_entry import enter_orders
from flightdeck.release.orders import SUFFIX, Order, obey, read_orders
from flightdeck.release.sqlite_ledger import SqliteLedger
from flightdeck.release.stages import ReleaseState
from flightdeck.release.state import fold

START = datetime(2013, 9, 12, 12, tzinfo=UTC)
STEPS = st.lists(st.sampled_from(["blind", "named", "alert", "release", "canary", "flush", "killed"]), max_size=14)


class Desk:
    """A ledger and a folder of orders below `root`, with three champions one after the other."""

    def __init__(self, root: Path) -> None:
        self.clock, self.folder = VirtualClock(START), root / "orders"
        self.folder.mkdir()
        self.ledger = SqliteLedger(root / "ledger.sqlite", self.clock)
        self.n_versions = self.n_orders = 0
        for _ in range(3):
            self.release()

    def release(self, *, to_prod: bool = True) -> None:
        """Bring a new version to prod, or to canary only."""
        self.n_versions += 1
        digest = f"{self.n_versions:064x}"
        registered = {"digest": digest, "tier": "low", "model_name": "flight-delay"}
        self.append("registered", registered)
        steps: list[Mapping[str, object]] = [
            {"to": "staging"},
            {"to": "canary", "share": 0.5},
            *([{"to": "prod"}] if to_prod else []),
        ]
        for step in steps:
            self.append("promoted", {"digest": digest, **step})

    def append(self, action: str, detail: Mapping[str, object]) -> None:
        self.clock.advance_to(self.clock.now() + timedelta(seconds=1))
        self.ledger.append(action, actor="test", subject=str(self.n_versions), detail=detail)

    def order(self, out: int | None = None) -> Order:
        self.clock.advance_to(self.clock.now() + timedelta(seconds=1))
        self.n_orders += 1
        order = Order(f"order-{self.n_orders}", self.clock.now(), "Ada", "stated", "test", out)
        self.put(order)
        return order

    def put(self, order: Order) -> None:
        (self.folder / f"{order.name}{SUFFIX}").write_bytes(msgspec.json.encode(order))

    def recorded(self) -> list[str]:
        found = (record.detail.get("order") for record in self.ledger.records())
        return [name for name in found if name is not None]

    def obeyed(self) -> ReleaseState:
        return obey(fold(self.ledger.records()), read_orders(self.folder))


def traffic(state: ReleaseState) -> object:
    """Return who decides, and since when the champion does."""
    since = state.versions[state.champion].entered_at if state.champion is not None else None
    return state.champion, state.canary, state.previous_champions, since


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_each_order_has_one_record_and_the_service_obeys_what_the_ledger_will_say(steps: list[str]) -> None:
    with tempfile.TemporaryDirectory() as root:
        desk, given_orders = Desk(Path(root)), []
        for step in [*steps, "flush"]:
            if step in ("blind", "named"):
                live = desk.obeyed()
                out = (live.canary or live.champion) if step == "named" else None
                given_orders.append(desk.order(out))
            elif step == "alert":
                desk.append("alert", {})
            elif step == "release" or (step == "canary" and fold(desk.ledger.records()).canary is None):
                if fold(desk.ledger.records()).canary is None:
                    desk.release(to_prod=step == "release")
            elif step in ("flush", "killed"):
                expected, waiting = traffic(desk.obeyed()), read_orders(desk.folder)
                desk.clock.advance_to(desk.clock.now() + timedelta(seconds=5))
                enter_orders(desk.ledger, desk.folder)
                for order in waiting if step == "killed" else ():
                    desk.put(order)
                    assert enter_orders(desk.ledger, desk.folder) == []
                assert traffic(fold(desk.ledger.records())) == expected
                assert read_orders(desk.folder) == []
        assert sorted(desk.recorded()) == sorted(order.name for order in given_orders)


def test_an_order_older_than_what_is_live_is_recorded_as_void(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    old = Order("old", START - timedelta(hours=1), "Ada", "stated", "test")
    desk.put(old)
    assert desk.obeyed().champion == 3
    assert "no object" in enter_orders(desk.ledger, desk.folder)[0]
    assert fold(desk.ledger.records()).champion == 3 and desk.recorded() == ["old"]


def test_a_file_with_the_name_of_another_order_is_left_out_and_nothing_outside_is_removed(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    outside = tmp_path / f"precious{SUFFIX}"
    outside.write_text("kept", encoding="utf-8")
    forged = replace_name(desk.order(), "../precious")
    (desk.folder / f"order-1{SUFFIX}").write_bytes(msgspec.json.encode(forged))
    (desk.folder / f"torn{SUFFIX}").write_bytes(b"{")
    assert read_orders(desk.folder) == [] and enter_orders(desk.ledger, desk.folder) == []
    assert outside.exists() and desk.recorded() == []


def replace_name(order: Order, name: str) -> Order:
    return msgspec.structs.replace(order, name=name)
