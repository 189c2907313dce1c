import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from flightdeck.cli.services import child_environment, start_services
from flightdeck.cli.up import Loop
from flightdeck.core.clock import SystemClock
from flightdeck.core.layout import PROJECT, Layout
from flightdeck.core.processes import ProcessFailed
from flightdeck.inference.prediction_log import PredictionLogWriter
from tests.predictions import log_batch, read_records
from tests.serving.process import free_port
from tests.serving.world import World

KEDRO = str(Path(sys.executable).with_name("kedro"))


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Loop]:
    started = Loop(tmp_path, Layout(tmp_path / "data"), Console(file=io.StringIO(), width=200))
    yield started
    started.processes.stop_all()


def start(loop: Loop, code: str) -> None:
    command = [sys.executable, "-c", code]
    loop.processes.start(
        "a part", command, log_path=loop.logs / "part.log", environment=os.environ, folder=loop.project
    )


def test_waiting_ends_when_a_part_dies(loop: Loop) -> None:
    start(loop, "raise SystemExit(9)")
    with pytest.raises(ProcessFailed, match="a part ended with exit code 9"):
        loop.wait()


def test_children_tell_nobody_and_use_all_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("FLIGHTDECK_DATA", "elsewhere")
    environment = child_environment(FLIGHTDECK_CLOCK="event")
    assert "OMP_NUM_THREADS" not in environment
    assert environment["DO_NOT_TRACK"] == environment["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert (environment["FLIGHTDECK_DATA"], environment["FLIGHTDECK_CLOCK"]) == ("elsewhere", "event")


@pytest.mark.slow
def test_the_prediction_log_is_made_parquet_beside_the_service(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLIGHTDECK_DATA", str(loop.where.root))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # another's, so none is started
    folder = loop.where.prediction_log
    writer = PredictionLogWriter(folder, SystemClock())
    writer.append(log_batch([{"request_id": "request-1"}]))
    writer.close()
    ports = {"service": free_port(), "dashboard": free_port(), "mlflow": 0}
    start_services(loop.processes, PROJECT, loop.where, loop.logs, ports=ports)
    deadline_s = time.monotonic() + 120
    while list(folder.glob("*.parquet")) == []:
        loop.processes.require_running()
        assert time.monotonic() < deadline_s
        time.sleep(0.1)
    assert [record["request_id"] for record in read_records(folder)] == ["request-1"]


@pytest.mark.slow
def test_the_controller_watches_beside_the_service(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A canary without traffic is the controller's business alone: it looks, and keeps what it knows in a file."""
    monkeypatch.setenv("FLIGHTDECK_DATA", str(loop.where.root))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    world = World(loop.where.root)
    world.release(world.seal(seed=1))
    world.release(world.seal(seed=2), share=0.5)
    ports = {"service": free_port(), "dashboard": free_port(), "mlflow": 0}
    start_services(loop.processes, PROJECT, loop.where, loop.logs, ports=ports)
    deadline_s = time.monotonic() + 120
    while not list(loop.where.rollout.glob("2-*-canary.json")):
        loop.processes.require_running()
        assert time.monotonic() < deadline_s
        time.sleep(0.1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_the_middle_of_the_golden_path_stops_everything(tmp_path: Path, number: signal.Signals) -> None:
    environment = {**os.environ, "FLIGHTDECK_DATA": str(tmp_path), "DO_NOT_TRACK": "true"}
    running = subprocess.Popen([KEDRO, "up", "--once"], env=environment, stdout=subprocess.PIPE, text=True)
    deadline_s = time.monotonic() + 120
    while not (tmp_path / "logs/golden.log").exists():
        assert running.poll() is None
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    time.sleep(1.0)
    below = descendants_of(running.pid)
    assert below
    running.send_signal(number)
    output, _ = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "stopping" in output
    assert not any(Path(f"/proc/{pid}").exists() for pid in below)


def descendants_of(pid: int) -> set[int]:
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found: set[int] = set()
    while more := {child for child, parent in parents.items() if parent in found | {pid}} - found:
        found |= more
    return found
