"""The controller on real logs and a real ledger: what each kind of version comes to; a kill changes nothing."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from flightdeck.core.clock import VirtualClock
from flightdeck.core.errors import LedgerConflict, LedgerUnusable
from flightdeck.inference.bundle import Bundle
from flightdeck.release import commands as real
from flightdeck.release import rollout_commands
from flightdeck.release.judge.evidence import CanaryEvidence
from flightdeck.release.judge.judge import Judge
from flightdeck.release.judge.verdict import CanaryVerdict
from flightdeck.release.lease import Lease
from flightdeck.release.ledger import Ledger
from flightdeck.release.order_entry import enter_orders
from flightdeck.release.orders import obey, read_orders
from flightdeck.release.record import Record
from flightdeck.release.rollout.controller import Controller, Desk
from flightdeck.release.rollout.observer import LogObserver, Logs
from flightdeck.release.rollout.step import Step
from flightdeck.release.session import Session
from flightdeck.release.sqlite_ledger import SqliteLedger
from flightdeck.release.stages import ReleaseState
from flightdeck.release.state import fold
from tests import release_desk as commands
from tests.flightdeck.release.rollout.traffic import Behaviour, Traffic, healthy

Enter = Callable[..., Bundle]


class House:
    """A champion 1, a version 2 that is approved, traffic and a controller."""

    def __init__(self, ledger: Ledger, bundles: Path, folder: Path, enter: Enter, tier: str) -> None:
        self.ledger, self.bundles, self.folder = ledger, bundles, folder
        self.orders: Path | None = None
        clock = ledger.clock
        assert isinstance(clock, VirtualClock)
        self.traffic = Traffic(ledger, clock, folder / "predictions", folder / "shadow")
        for version in (1, 2):
            enter(version, tier=tier)
            commands.approve(ledger, version, by="Ada", bundles=bundles)
        commands.bring(ledger, 1, "prod", bundles=bundles)
        self.traffic.send(400)
        self.controller = self.restarted()

    def restarted(self, folder: Path | None = None) -> Controller:
        desk = Desk(self.ledger, self.bundles, commands.POLICIES, commands.PEOPLE, commands.CONTROLLER, self.orders)
        logs = Logs(self.traffic.predictions, self.traffic.shadows)
        return Controller(desk, LogObserver(logs, folder or self.folder / "rollout", ("origin",)))

    @property
    def state(self) -> ReleaseState:
        return fold(self.ledger.records())

    def stage(self, version: int = 2) -> str:
        return self.state.versions[version].stage

    def run(self, n_requests: int, *, n_rounds: int = 10) -> list[str]:
        """Send traffic and let the controller look after each round."""
        done = []
        for _ in range(n_rounds):
            self.traffic.send(n_requests // n_rounds)
            done += self.controller.step()
        return done

    def last(self, action: str) -> dict[str, Any]:
        return [record for record in self.ledger.records() if record.action == action][-1].detail


@pytest.fixture
def house(ledger: Ledger, bundles: Path, tmp_path: Path, enter: Enter, request: pytest.FixtureRequest) -> House:
    return House(ledger, bundles, tmp_path, enter, getattr(request, "param", "low"))


def in_canary(house: House, behaviour: Behaviour = healthy) -> House:
    house.traffic.behaviours[2] = behaviour
    commands.bring(house.ledger, 2, "canary", bundles=house.bundles)
    return house


def test_a_healthy_version_of_low_risk_goes_to_prod_by_itself(house: House) -> None:
    done = house.run(100) if in_canary(house) else []
    assert done == [], "too little is known"
    done = house.run(6000, n_rounds=30)
    assert house.state.champion == 2
    assert [line.split(" after ")[0] for line in done] == [
        "version 2 passed canary of 50%",
        "version 2: canary -> prod",
    ]
    judged = house.last("judged")
    assert judged["verdict"] == "pass"
    assert judged["n_requests"] >= 500
    assert set(judged["metrics"]) == {"errors", "latency", "predictions"}
    assert house.run(200) == [], "nothing is under way any more"


@pytest.mark.parametrize(
    ("what", "behaviour"),
    [
        ("errors", lambda rng: {**healthy(rng), "fails": True}),
        ("errors", lambda rng: {**healthy(rng), "fails": rng.random() < 0.2}),
        ("latency", lambda rng: {**healthy(rng), "model_ms": healthy(rng)["model_ms"] * 4}),
        ("predictions", lambda rng: {**healthy(rng), "probability": min(1.0, healthy(rng)["probability"] * 2.5)}),
    ],
    ids=["always fails", "fails at times", "slow", "shifted"],
)
def test_a_sick_canary_is_taken_out_for_its_sickness(house: House, what: str, behaviour: Behaviour) -> None:
    done = in_canary(house, behaviour).run(6000, n_rounds=60)
    assert house.stage() == "rolled_back"
    assert house.state.champion == 1
    assert len(done) == 1 and f"taken out of canary of 50%: {what}" in done[0]
    rolled_back = house.last("rolled_back")
    assert rolled_back["evidence"]["metrics"][what]["outcome"] == "fail"
    if "always fails" in done[0]:
        assert rolled_back["evidence"]["n_requests"] <= 100


def test_what_befalls_both_arms_is_no_evidence(house: House) -> None:
    def without_store(arm: str) -> Behaviour:
        away = {"mode": "fallback", "reason": f"{arm}:store_unavailable", "model_ms": float("nan")}
        return lambda rng: {**healthy(rng), **(away if rng.random() < 0.3 else {})}

    house.traffic.behaviours[1] = without_store("champion")
    in_canary(house, without_store("canary")).run(8000, n_rounds=40)
    assert house.state.champion == 2, "the store was away for both alike"


def test_a_canary_without_traffic_is_frozen_and_left_alone(house: House) -> None:
    in_canary(house)
    house.traffic.send(400)
    assert house.controller.step() == []
    for _ in range(4):  # minutes pass, nobody asks
        _wait(house, 60)
        done = house.controller.step()
        if done:
            break
    assert "frozen in canary of 50%: stale: the canary has not answered" in done[0]
    assert house.stage() == "frozen"
    assert house.state.canary == 2, "it keeps its share"
    assert house.run(4000) == [], "nothing moves it but a person"
    rollout_commands.thaw(house.ledger, 2, by=commands.person("Ada"), reason="traffic is back")
    house.run(6000, n_rounds=30)
    assert house.state.champion == 2


def test_a_probability_that_is_missing_freezes(house: House) -> None:
    done = in_canary(house, lambda rng: {**healthy(rng), "probability": float("nan")}).run(2000)
    assert house.stage() == "frozen"
    assert "values are missing (NaN)" in done[0]


@pytest.mark.parametrize("house", ["medium"], indirect=True)
def test_a_shadow_that_agrees_moves_on_and_a_step_by_hand_waits(house: House) -> None:
    house.traffic.behaviours[2] = healthy
    commands.bring(house.ledger, 2, "shadow", bundles=house.bundles)
    done = house.run(4000, n_rounds=20)
    assert [line.split(" after ")[0] for line in done[:2]] == [
        "version 2 passed shadow",
        "version 2: shadow -> canary, 10% of the units",
    ]
    figures = next(r.detail for r in house.ledger.records() if r.action == "judged")["metrics"]
    assert figures["n_failed"] == 0
    assert {"all", "origin=EWR", "origin=JFK", "origin=LGA"} == set(figures["groups"])
    house.run(16000, n_rounds=40)
    assert house.stage() == "canary"
    assert house.state.canary_share == 0.5, "the step of 10% goes on by itself"
    house.run(8000, n_rounds=20)
    assert house.stage() == "canary", "the step of 50% is by hand"
    assert house.state.versions[2].evidence is not None
    real.promote(
        house.ledger,
        2,
        by=commands.person("Ada"),
        policies=commands.POLICIES,
        people=commands.PEOPLE,
        bundles=house.bundles,
    )
    assert house.state.champion == 2


@pytest.mark.parametrize("house", ["medium"], indirect=True)
@pytest.mark.parametrize(
    ("said", "behaviour"),
    [
        ("its mean prediction is", lambda rng: {**healthy(rng), "probability": 0.9}),
        ("of its items failed", lambda rng: {**healthy(rng), "probability": float("nan")}),
        ("an item costs it", lambda rng: {**healthy(rng), "model_ms": 3.0}),
    ],
    ids=["off", "fails", "slow"],
)
def test_a_shadow_over_its_thresholds_is_frozen_with_the_reason(house: House, said: str, behaviour: Behaviour) -> None:
    house.traffic.behaviours[2] = behaviour
    commands.bring(house.ledger, 2, "shadow", bundles=house.bundles)
    done = house.run(4000, n_rounds=20)
    assert said in done[0]
    assert (house.stage(), house.state.champion) == ("frozen", 1)
    assert house.last("judged")["verdict"] == "fail"


def test_a_controller_that_is_killed_at_any_round_knows_what_one_knows_that_is_not(
    ledger: Ledger, bundles: Path, tmp_path: Path, enter: Enter
) -> None:
    house = in_canary(House(ledger, bundles, tmp_path, enter, "low"))
    other = house.restarted(folder=tmp_path / "other")
    for _ in range(8):  # too few for a verdict
        house.traffic.send(100)
        house.controller = house.restarted()  # all that it knew is in its files
        assert house.controller.step() == other.step() == []
    (path,), (beside,) = (tmp_path / "rollout").iterdir(), (tmp_path / "other").iterdir()
    assert json.loads(path.read_bytes()) == json.loads(beside.read_bytes())


def test_a_controller_whose_lease_was_taken_decides_nothing(house: House) -> None:
    in_canary(house, lambda rng: {**healthy(rng), "fails": True})
    first = Lease.take(house.ledger, "one", 60, house.traffic.clock)
    desk = Desk(first.ledger, house.bundles, commands.POLICIES, commands.PEOPLE, commands.CONTROLLER)
    logs = Logs(house.traffic.predictions, house.traffic.shadows)
    controller = Controller(desk, LogObserver(logs, house.folder / "rollout"))
    _wait(house, 61)
    Lease.take(house.ledger, "two", 60, house.traffic.clock)
    house.traffic.send(400)
    with pytest.raises(LedgerConflict):
        controller.step()
    assert house.stage() == "canary"


class Broken(SqliteLedger):
    """A ledger whose disk takes nothing more, or is away."""

    is_full = is_away = False
    n_read = 0

    @contextmanager
    def _writing(self) -> Iterator[Session]:
        if self.is_full or self.is_away:
            raise LedgerUnusable("writing the ledger: the disk is full; nothing was recorded")
        with super()._writing() as session:
            yield session

    def records(self, after_seq: int = 0, *, after_digest: str | None = None) -> list[Record]:
        """Return records, and count them."""
        if self.is_away:
            raise LedgerUnusable("reading the ledger: the disk is away")
        found = super().records(after_seq, after_digest=after_digest)
        self.n_read += len(found)
        return found


@pytest.mark.parametrize("fault", ["is_full", "is_away"])
def test_a_canary_that_fails_is_taken_out_by_an_order_where_the_ledger_takes_no_record(
    house: House, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_canary(house, lambda rng: {**healthy(rng), "fails": True})
    whole, orders = house.ledger, house.folder / "orders"
    house.ledger = broken = Broken(Path(whole.place), whole.clock)
    house.orders = orders
    house.controller = house.restarted()
    assert house.controller.step() == []
    setattr(broken, fault, True)
    monkeypatch.setattr(Step, "keep", _no_room)  # the files of the steps are on the disk of the ledger
    (line,) = house.run(400)
    assert "version 2 taken out of canary of 50%: errors" in line
    (order,) = read_orders(orders)
    assert (order.out, order.by, house.run(200)) == (2, "controller", []), "it is ordered once"
    assert obey(fold(whole.records()), [order]).canary is None
    assert "ordered at" in enter_orders(whole, orders)[0]
    house.ledger = whole
    assert (house.stage(), house.last("rolled_back")["order"]) == ("rolled_back", order.name)


def test_nothing_moves_on_by_what_could_not_be_kept(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    in_canary(house)
    with monkeypatch.context() as disk:
        disk.setattr(Step, "keep", _no_room)
        with pytest.raises(OSError, match="No space left"):
            house.run(6000, n_rounds=30)
        assert house.stage() == "canary"
    house.traffic.send(20)
    assert house.controller.step()[-1] == "version 2: canary -> prod"


def test_what_goes_wrong_midway_loses_no_evidence_and_counts_none_twice(
    ledger: Ledger, bundles: Path, tmp_path: Path, enter: Enter, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = in_canary(House(ledger, bundles, tmp_path, enter, "low"))
    other = house.restarted(folder=tmp_path / "other")
    inside, n_calls = Judge.update, 0

    def fails_at_times(self: Judge, evidence: CanaryEvidence) -> CanaryVerdict:
        nonlocal n_calls
        n_calls += 1
        if n_calls % 3 == 2:
            raise MemoryError
        return inside(self, evidence)

    for _ in range(6):
        _wait(house, 3)  # each look is kept
        house.traffic.send(100)
        with monkeypatch.context() as memory, suppress(MemoryError):
            memory.setattr(Judge, "update", fails_at_times)
            house.controller.step()
        assert other.step() == []
    assert n_calls > 6
    _wait(house, 3)
    assert house.controller.step() == other.step() == []
    (path,), (beside,) = (tmp_path / "rollout").iterdir(), (tmp_path / "other").iterdir()
    kept, known = json.loads(path.read_bytes()), json.loads(beside.read_bytes())
    assert kept["positions"] == known["positions"]
    assert _counts(kept) == _counts(known), "the sums differ by rounding only: what was read together is added first"


def test_each_record_of_the_ledger_is_read_once(house: House) -> None:
    in_canary(house)
    whole = house.ledger
    house.ledger = counting = Broken(Path(whole.place), whole.clock)
    house.controller = house.restarted()
    house.traffic.send(20)
    house.controller.step()
    assert counting.n_read == whole.head()
    whole.append("alert", actor="test", subject="-", detail={"name": "noted", "what": "one more"})
    for _ in range(5):
        house.controller.step()
    assert counting.n_read == whole.head()


def _counts(kept: dict[str, Any]) -> list[int]:
    """Return how many units of the canary and of the champion each test has seen."""
    standings = [test["standing"] for test in kept["known"]["tests"].values()]
    counts = [standing[name] for standing in standings for name in ("n_canary", "n_champion")]
    assert sum(counts) > 1000
    return counts


def _no_room(*_: object) -> None:
    raise OSError(28, "No space left on device")


def _wait(house: House, seconds: float) -> None:
    clock = house.traffic.clock
    clock.advance_to(clock.now() + timedelta(seconds=seconds))
