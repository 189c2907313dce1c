"""A real service under load, the real controller: sick canaries are stopped, a good one goes to prod by itself."""

import random
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from flightdeck.gates.policy import CanaryStep, Policies
from flightdeck.gates.verdict import Check, judge
from flightdeck.inference.bundle import Bundle
from flightdeck.release import commands as real
from flightdeck.release.record import Record
from flightdeck.release.rollout.controller import Controller, Desk, Logs
from flightdeck.release.stages import VersionState
from flightdeck.release.state import fold
from pipelines.features.model_input import NUMERIC
from pipelines.features.views import VIEWS
from tests import release_desk as commands
from tests.graphs import joined, slow, weighted_sum
from tests.serving.load import Load, load
from tests.serving.process import Service, serving
from tests.serving.world import World, ask, broken_model

PATIENCE_S = 90.0
DISTANCE = NUMERIC.index("distance_miles")
CHAMPION = 1


def weights(per_mile: float) -> list[float]:
    """Return the weights of a model that knows the distance alone."""
    return [per_mile if place == DISTANCE else 0.0 for place in range(len(NUMERIC))]


def asked(place: int, number: int) -> Any:
    """Return a request of a unit of its own about a flight of some distance."""
    chance = random.Random(place * 1_000_003 + number)
    return ask(1, unit_id=f"u{place}-{number}", distance_miles=chance.randint(80, 2500))


def quick() -> Policies:
    """Return the policies, with steps that are over in seconds."""
    low = commands.POLICIES.low
    step = CanaryStep(0.5, min_requests=200, min_minutes=0.05)
    return msgspec.structs.replace(commands.POLICIES, low=msgspec.structs.replace(low, canary=(step,)))


class House:
    """A world that is served, under load, and its controller."""

    def __init__(self, world: World, service: Service, asking: Load) -> None:
        self.world, self.service, self.asking = world, service, asking
        where, self.policies = world.layout, quick()
        desk = Desk(world.ledger, where.bundles, self.policies, commands.PEOPLE, commands.CONTROLLER)
        self.controller = Controller(desk, Logs(where.prediction_log, where.shadow_log), where.rollout)
        self.n_versions = CHAMPION

    def canary(self, model: bytes) -> int:
        """Enter a version as the pipeline does, approve it and make it the canary."""
        bundle = self.world.seal(model=model)
        self.n_versions += 1
        enter(self.world, self.n_versions, bundle)
        for to in ("staging", "canary"):
            commands.promote(
                self.world.ledger,
                self.n_versions,
                by="Ada",
                bundles=self.world.layout.bundles,
                policies=self.policies,
                to=to,
            )
        return self.n_versions

    def version(self, number: int) -> VersionState:
        return fold(self.world.ledger.records()).versions[number]

    def has_left(self, number: int) -> bool:
        """Tell whether a version is no canary any more."""
        return self.version(number).stage != "canary"

    def is_unloaded(self, number: int) -> bool:
        """Tell whether a worker has let go of a version."""
        return all(version != number for _, version in self.service.versions())

    def control_until(self, condition: Callable[[], bool]) -> list[str]:
        """Let the controller look until something holds; return what it did."""
        done: list[str] = []
        deadline_s = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline_s, f"{done}; {fold(self.world.ledger.records()).versions}"
            done += self.controller.step()
            time.sleep(0.1)
        return done

    def last(self, action: str) -> Record:
        return [record for record in self.world.ledger.records() if record.action == action][-1]


def enter(world: World, version: int, bundle: Bundle) -> None:
    """Register a bundle with a passed verdict and an approval."""
    ledger = world.ledger
    commands.register(ledger, version, bundle=bundle, model_name="flight-delay", tier="low")
    check = Check("auc_15", 0.8, 0.77, passed=True, blocking=True, detail="")
    verdict = judge(bundle.manifest.metadata["content_digest"], "low", [check], "2013-09-12T12:00:00+00:00")
    commands.record_verdict(ledger, version, verdict, bundle=bundle)
    real.approve(ledger, version, by=commands.person("Ada"), policies=quick(), bundles=world.layout.bundles)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    world = World(tmp_path)
    world.feed_store()
    enter(world, CHAMPION, world.seal(model=joined(weighted_sum(weights(0.0005)), NUMERIC, VIEWS)))
    for to in ("staging", "canary", "prod"):
        commands.promote(world.ledger, CHAMPION, by="Ada", bundles=world.layout.bundles, policies=quick(), to=to)
    with serving(world.layout.root, workers=2) as service, load(service, 6, asked) as asking:
        yield House(world, service, asking)


def test_sick_canaries_are_stopped_and_a_good_one_goes_to_prod_without_a_failed_request(house: House) -> None:
    sick = {
        "errors": broken_model("nan"),
        "latency": joined(slow(weights(0.0005)), NUMERIC, VIEWS),
        "predictions": joined(weighted_sum(weights(0.005)), NUMERIC, VIEWS),  # one feature on another scale
    }
    for metric, model in sick.items():
        version = house.canary(model)
        (said,) = house.control_until(partial(house.has_left, version))
        assert house.version(version).stage == "rolled_back", said
        assert f"taken out of canary of 50%: {metric}" in said
        proven_s = house.last("rolled_back").detail["evidence"]["metrics"][metric]["worse_at_s"]
        spent = [
            record
            for record in house.world.records()
            if record["arm"] == "canary" and record["logged_at"].timestamp() < proven_s
        ]
        assert spent
        if metric == "errors":
            assert len(spent) <= 100, "what a canary may cost that always fails, until that is proven"
        house.service.wait_until(partial(house.is_unloaded, version), "the canary to leave")
    good = house.canary(joined(weighted_sum(weights(0.00051)), NUMERIC, VIEWS))
    house.control_until(lambda: house.version(good).stage == "prod")
    house.service.wait_for_version(good)
    house.asking.wait_for(200)
    assert house.last("promoted").actor == "controller"
    assert house.asking.n_failed == 0
    assert set(house.asking.statuses) == {200}
    records = house.world.records()
    assert {record["mode"] for record in records} == {"model"}, "whom a canary failed the champion answered"
    failed = [record for record in records if record["arm"] == "canary" and "canary:" in (record["reason"] or "")]
    assert failed and {record["model_version"] for record in failed} == {"1"}
