"""Controllers of one data root: one decides, the others wait, whoever ends; none ends what runs beside it."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from flightdeck.cli.release_controller import rollout
from flightdeck.core.layout import PROJECT
from flightdeck.release.rollout.seat import Seat
from tests.e2e.house import KEDRO, House
from tests.serving.world import World

PATIENCE_S = 90.0


class Running:
    """A controller that follows."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process, self.log = process, log

    def wait_for(self, is_so: Callable[[], bool], what: str) -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        while not is_so():
            assert self.process.poll() is None and time.monotonic() < deadline_s, f"{what}: {self.log.read_text()}"
            time.sleep(0.05)

    def says(self, line: str) -> None:
        self.wait_for(lambda: line in self.log.read_text("utf-8"), line)


@contextmanager
def following(root: Path, name: str) -> Iterator[Running]:
    log = root / f"{name}.log"
    environment = {**House(root).environment, "MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}
    with log.open("wb") as stream:
        command = [KEDRO, "release", "rollout", "--follow"]
        process = subprocess.Popen(command, cwd=PROJECT, env=environment, stdout=stream, stderr=stream)
    try:
        yield Running(process, log)
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Return a world with a canary that gets no traffic: there is something to look at."""
    found = World(tmp_path)
    found.release(found.seal(seed=1))
    found.release(found.seal(seed=2), share=0.5)
    return found


def leases(world: World) -> list[str]:
    return [record.actor for record in world.ledger.records() if record.action == "lease"]


def test_a_second_controller_waits_and_goes_on_where_the_first_is_killed(world: World, tmp_path: Path) -> None:
    with ExitStack() as controllers:
        first = controllers.enter_context(following(tmp_path, "first"))
        first.wait_for(lambda: len(leases(world)) == 1, "the lease")
        second = controllers.enter_context(following(tmp_path, "second"))
        second.says(f"the controller of process {first.process.pid} looks at these releases; this one waits")
        assert first.process.poll() is None and len(leases(world)) == 1
        first.process.kill()
        second.wait_for(lambda: len(leases(world)) == 2, "the lease, before the one of the first is over")
        second.process.send_signal(signal.SIGTERM)
        assert second.process.wait(PATIENCE_S) == 0


def test_a_controller_that_lost_its_lease_waits_and_decides_once_the_other_one_is_over(
    world: World, tmp_path: Path
) -> None:
    """The lease of another machine: that one's end is seen in the ledger only."""
    with following(tmp_path, "one") as controller:
        controller.wait_for(lambda: len(leases(world)) == 1, "the lease")
        world.ledger.append("lease", actor="elsewhere", subject="-", detail=_until("2100-01-01T00:00:00+00:00"))
        world.raise_share(2, world.seal(seed=2), 0.3)  # no step of its tier: whoever decides freezes it
        controller.says("another controller decides, this one waits")
        controller.says("'elsewhere' holds it under token")
        assert world.ledger.newest("frozen") is None
        world.ledger.append("lease", actor="elsewhere", subject="-", detail=_until("2013-09-12T12:00:00+00:00"))
        controller.says("version 2 frozen in canary of 30%")
        assert len(leases(world)) == 4


def test_one_look_beside_a_controller_is_refused_and_names_it(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLIGHTDECK_DATA", str(tmp_path))
    seat = Seat(world.layout.rollout)
    assert (seat.take(), seat.take()) == ("", "")
    refused = CliRunner().invoke(rollout, [])
    assert refused.exit_code == 1
    assert f"the controller of process {os.getpid()} looks at these releases already" in refused.output
    assert leases(world) == []


def _until(at: str) -> dict[str, object]:
    return {"holder": "elsewhere", "expires_at": at}
