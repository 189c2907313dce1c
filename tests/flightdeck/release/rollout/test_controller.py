"""The controller on real logs and a real ledger: what each kind of version comes to; a kill changes nothing."""

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from flightdeck.core.clock import VirtualClock
from flightdeck.core.errors import LedgerConflict
from flightdeck.inference.bundle import Bundle
from flightdeck.release import commands as real
from flightdeck.release import rollout_commands
from flightdeck.release.lease import Lease
from flightdeck.release.ledger import Ledger
from flightdeck.release.rollout.controller import Controller, Desk
from flightdeck.release.rollout.observer import LogObserver, Logs
from flightdeck.release.stages import ReleaseState
from flightdeck.release.state import fold
from tests import release_desk as commands
from tests.flightdeck.release.rollout.traffic import Behaviour, Traffic, healthy

Enter = Callable[..., Bundle]


class House:
    """A champion 1, a version 2 that is approved, traffic and a controller."""

    def __init__(self, ledger: Ledger, bundles: Path, folder: Path, enter: Enter, tier: str) -> None:
        self.ledger, self.bundles, self.folder = ledger, bundles, folder
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
        desk = Desk(self.ledger, self.bundles, commands.POLICIES, commands.PEOPLE, commands.CONTROLLER)
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
    assert set(judged["metrics"]) == {"errors", "latency", "predictions", "log_loss"}
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


def _wait(house: House, seconds: float) -> None:
    clock = house.traffic.clock
    clock.advance_to(clock.now() + timedelta(seconds=seconds))
