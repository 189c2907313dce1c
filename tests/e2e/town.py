"""A champion that serves, what comes beside it, and the controller that watches it as a process of its own."""

import contextlib
import signal
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flightdeck.core.layout import PROJECT
from flightdeck.gates.policy import read_policies
from flightdeck.gates.verdict import Check, judge
from flightdeck.release import commands
from flightdeck.release.ledger import Ledger
from flightdeck.release.record import Record
from flightdeck.release.stages import ReleaseState
from flightdeck.release.state import fold
from tests import release_desk
from tests.e2e.house import KEDRO, House
from tests.serving.process import Service
from tests.serving.world import World

POLICIES = read_policies(PROJECT / "conf", "test")
PATIENCE_S = 90.0


class Town:
    """A champion that is under load, and a controller that watches what comes beside it."""

    def __init__(self, world: World, service: Service) -> None:
        self.world, self.service = world, service
        self.ledger: Ledger = world.ledger

    @property
    def state(self) -> ReleaseState:
        """What the ledger amounts to now."""
        return fold(self.ledger.records())

    def enter(self, content: bytes, tier: str, to: str) -> int:
        """Seal, register, approve and promote a version, around the gate, up to where the controller takes over."""
        bundle = self.world.seal(model=content)
        version = len(self.state.versions) + 1
        release_desk.register(self.ledger, version, bundle=bundle, model_name="flight-delay", tier=tier)
        check = Check("auc_15", 0.8, 0.77, passed=True, blocking=True, detail="")
        verdict = judge(bundle.manifest.metadata["content_digest"], tier, [check], datetime.now(UTC).isoformat())
        release_desk.record_verdict(self.ledger, version, verdict, bundle=bundle)
        approve_and_promote(self.world, version, to=to)
        return version

    def until_over(self, version: int) -> str:
        """Wait until a version is in prod, frozen or out; return its stage."""
        over = ("prod", "frozen", "rolled_back")
        self.service.wait_until(lambda: self.state.versions[version].stage in over, f"version {version} to be decided")
        return self.state.versions[version].stage

    def last(self, action: str, version: int) -> Record:
        """Return the newest record of an action on a version."""
        return [one for one in self.ledger.records() if (one.action, one.subject) == (action, str(version))][-1]

    def requests_of(self, version: int) -> list[dict[str, Any]]:
        """Return the logged items that a canary decided for since it became one."""
        since = self.last("promoted", version).recorded_at
        return [one for one in self.world.records() if one["arm"] == "canary" and one["logged_at"] >= since]


def approve_and_promote(world: World, version: int, *, to: str) -> None:
    """Let Ada approve a version and move it on until it is in the stage `to`."""
    ada, bundles = release_desk.person("Ada"), world.layout.bundles
    commands.approve(world.ledger, version, by=ada, policies=POLICIES, bundles=bundles, reason="test")
    while fold(world.ledger.records()).versions[version].stage != to:
        commands.promote(
            world.ledger,
            version,
            by=ada,
            policies=POLICIES,
            people=release_desk.PEOPLE,
            bundles=bundles,
            supersede=True,
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
