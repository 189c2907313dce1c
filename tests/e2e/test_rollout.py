"""Releases under load: the service with two workers, the controller as a process, a ledger, and clients that go on.

A good version goes live by itself; one that is wrong, slow or answers NaN is stopped where its tier should stop it, and
no client notices. The models are made by hand, so that each is ill in one way; conf/test/policies.yml has quick steps.
"""

import contextlib
import signal
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from flightdeck.core.clock import SystemClock
from flightdeck.core.layout import PROJECT
from flightdeck.gates.policy import read_policies
from flightdeck.gates.verdict import Check, judge
from flightdeck.release import commands
from flightdeck.release.ledger import Ledger, open_ledger
from flightdeck.release.record import Record
from flightdeck.release.stages import ReleaseState
from flightdeck.release.state import fold
from pipelines.features.model_input import NUMERIC
from pipelines.features.views import VIEWS
from tests import release_desk
from tests.e2e.house import KEDRO, House
from tests.e2e.steady_load import Load
from tests.graphs import joined, slow, weighted_sum
from tests.serving.process import Service, serving
from tests.serving.world import World, broken_model

pytestmark = pytest.mark.slow
POLICIES = read_policies(PROJECT / "conf", "test")
PER_MILE = 1 / 2500  # what the distance weighs: probabilities between 0.5 and 0.75
PATIENCE_S = 90.0


def model(per_mile: float) -> bytes:
    """Return a model that knows the distance alone."""
    return joined(weighted_sum([per_mile, *[0.0] * (len(NUMERIC) - 1)]), NUMERIC, VIEWS)


MODELS: dict[str, Callable[[], bytes]] = {
    "good": lambda: model(PER_MILE * 1.01),
    "wrong scale": lambda: model(PER_MILE * 10),  # reads tenths of a mile where miles come
    "slow": lambda: joined(slow([PER_MILE, *[0.0] * (len(NUMERIC) - 1)]), NUMERIC, VIEWS),
    "nan": lambda: broken_model("nan"),
}


class Town:
    """A champion that is under load, and a controller that watches what comes beside it."""

    def __init__(self, world: World, service: Service, load: Load) -> None:
        self.world, self.service, self.load = world, service, load
        self.ledger: Ledger = world.ledger

    @property
    def state(self) -> ReleaseState:
        return fold(self.ledger.records())

    def enter(self, content: bytes, tier: str, to: str) -> int:
        """Register, approve and promote a version as people do, up to where the controller takes over."""
        version = enter(self.world, self.ledger, content, tier)
        while (state := self.state).versions[version].stage != to:
            assert state.versions[version].stage in ("candidate", "staging")
            promote(self.world, self.ledger, version, supersede=True)
        return version

    def until_over(self, version: int) -> str:
        """Wait until a version is in prod, frozen or out; return its stage."""
        over = ("prod", "frozen", "rolled_back")
        self.service.wait_until(lambda: self.state.versions[version].stage in over, f"version {version} to be decided")
        return self.state.versions[version].stage

    def last(self, action: str, version: int) -> Record:
        return [one for one in self.ledger.records() if (one.action, one.subject) == (action, str(version))][-1]

    def requests_of(self, version: int) -> list[dict[str, Any]]:
        """Return the logged items that a canary decided for since it became one."""
        since = self.last("promoted", version).recorded_at
        return [one for one in self.world.records() if one["arm"] == "canary" and one["logged_at"] >= since]


def enter(world: World, ledger: Ledger, content: bytes, tier: str) -> int:
    bundle = world.seal(model=content)
    version = len(fold(ledger.records()).versions) + 1
    release_desk.register(ledger, version, bundle=bundle, model_name="flight-delay", tier=tier)
    check = Check("auc_15", 0.8, 0.77, passed=True, blocking=True, detail="")
    verdict = judge(bundle.manifest.metadata["content_digest"], tier, [check], datetime.now(UTC).isoformat())
    release_desk.record_verdict(ledger, version, verdict, bundle=bundle)
    commands.approve(
        ledger, version, by=release_desk.person("Ada"), policies=POLICIES, bundles=world.layout.bundles, reason="test"
    )
    return version


def promote(world: World, ledger: Ledger, version: int, *, supersede: bool = False) -> None:
    commands.promote(
        ledger,
        version,
        by=release_desk.person("Ada"),
        policies=POLICIES,
        people=release_desk.PEOPLE,
        bundles=world.layout.bundles,
        supersede=supersede,
    )


@contextlib.contextmanager
def controller(root: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run the controller as a person would until the block ends; it must end by itself when it is told to."""
    environment = {**House(root).environment, "KEDRO_ENV": "test"}
    with (root / "controller.log").open("wb") as log:
        process = subprocess.Popen(
            [KEDRO, "release", "rollout", "--follow"], cwd=PROJECT, env=environment, stdout=log, stderr=log
        )
        try:
            yield process
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE_S) == 0, (root / "controller.log").read_text("utf-8")
        finally:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    world = World(tmp_path_factory.mktemp("town"))
    world.feed_store()
    ledger = open_ledger(world.layout.ledger, SystemClock())
    first = enter(world, ledger, model(PER_MILE), "low")
    for _ in range(3):
        promote(world, ledger, first)
    with serving(world.layout.root, workers=2) as service:
        service.wait_for_version(first)
        with controller(world.layout.root), Load(service.port) as load:
            yield Town(world, service, load)


@pytest.fixture(autouse=True)
def nobody_notices(town: Town) -> Iterator[None]:
    """No request fails, whatever is released, and the items of one answer name one version an arm."""
    before = set(town.load.answers)
    yield
    assert town.load.failures == []
    new = {key: said for key, said in dict(town.load.answers).items() if key not in before}
    assert len(new) > 100
    assert all(len({one[:3] for one in said}) == 1 for said in new.values()), "one unit, one arm, one version"
    assert all(0 <= one[3] <= 1 for said in new.values() for one in said)


def test_a_good_version_goes_live_by_itself(town: Town) -> None:
    version = town.enter(MODELS["good"](), "low", "canary")
    assert town.until_over(version) == "prod"
    assert town.last("promoted", version).actor == "controller"
    assert town.last("judged", version).detail["n_requests"] >= 300
    town.service.wait_for_version(version)


@pytest.mark.parametrize(("ill", "metric"), [("wrong scale", "predictions"), ("slow", "latency"), ("nan", "errors")])
def test_an_ill_canary_is_taken_out(town: Town, ill: str, metric: str) -> None:
    champion = town.state.champion
    version = town.enter(MODELS[ill](), "low", "canary")
    assert town.until_over(version) == "rolled_back"
    out = town.last("rolled_back", version)
    assert (out.actor, town.state.champion) == ("controller", champion)
    assert out.detail["evidence"]["metrics"][metric]["outcome"] == "fail", out.detail["reason"]
    town.service.wait_until(lambda: ("canary", version) not in town.service.versions(), "the canary to leave")
    decided = town.requests_of(version)
    print(f"{ill}: {report(decided, out)}")
    if ill == "nan":
        assert {(one["mode"], one["model_version"]) for one in decided} == {("model", str(champion))}
        assert all("canary:not_finite" in one["reason"] for one in decided)


@pytest.mark.parametrize(
    ("ill", "said"), [("wrong scale", "mean prediction"), ("slow", "an item costs it"), ("nan", "of its items failed")]
)
def test_an_ill_shadow_is_frozen_before_it_decides_for_anybody(town: Town, ill: str, said: str) -> None:
    version = town.enter(MODELS[ill](), "medium", "shadow")
    assert town.until_over(version) == "frozen"
    assert said in town.last("frozen", version).detail["reason"]
    assert town.requests_of(version) == []


def report(decided: list[dict[str, Any]], out: Record) -> str:
    """Return what an ill canary cost, in words: its requests, and when the last one was beside the decision."""
    n_requests = len({one["request_id"] for one in decided})
    times = [one["logged_at"] for one in decided]
    to_decision, to_end = (out.recorded_at - min(times), max(times) - out.recorded_at)
    return (
        f"{n_requests} requests, {out.detail['evidence']['n_requests']} of them judged; first request to decision "
        f"{to_decision.total_seconds():.2f} s, decision to last request {to_end.total_seconds():.2f} s"
    )
