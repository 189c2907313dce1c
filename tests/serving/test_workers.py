"""Two workers and their supervisor: whoever dies, hangs or is replaced, the others answer and nothing is miscounted."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from uvicorn.config import STARTUP_FAILURE

from tests.redis_server import wait_for
from tests.serving.load import load
from tests.serving.process import Service, free_port, serving
from tests.serving.world import World, ask

pytestmark = pytest.mark.slow
N_CLIENTS = 6


@pytest.fixture(scope="module")
def two(live_world: World) -> Iterator[Service]:
    """Two workers that serve, shared by the tests of this module: each leaves two that serve."""
    with serving(live_world.layout.root, workers=2) as service:
        wait_until_both_serve(service, [])
        yield service


def wait_until_both_serve(service: Service, before: list[int]) -> list[int]:
    """Wait until two workers that are not among `before` have started; return their process ids."""

    def are_there() -> bool:
        pids, said = service.workers(), service.log.read_text("utf-8")
        is_new = len(pids) == 2 and not set(pids) & set(before)
        return is_new and all(f"worker {pid} serves" in said for pid in pids)

    service.wait_until(are_there, "two workers that serve")
    return service.workers()


def test_a_worker_killed_under_load_costs_what_was_in_flight_on_it_and_is_back(two: Service, live_world: World) -> None:
    requests = two.metric("flightdeck_requests_total")
    with load(two, N_CLIENTS) as asking:
        killed, other = two.workers()
        os.kill(killed, signal.SIGKILL)
        two.wait_until(lambda: killed not in two.workers() and len(two.workers()) == 2, "another worker")
        n_failed = asking.n_failed
        asking.wait_for(100)
        wait_until_both_serve(two, [killed])
        asking.wait_for(100)
        assert asking.n_failed == n_failed, "none fails later"
    assert other in two.workers()
    assert n_failed <= N_CLIENTS
    assert set(asking.statuses) == {200}
    counted = two.metric("flightdeck_requests_total") - requests
    assert asking.n_answered <= counted <= asking.n_answered + asking.n_failed
    logged = {record["request_id"] for record in live_world.records()}
    assert set(asking.request_ids) <= logged


def test_all_workers_answer_a_scrape_alike_and_everything_adds_up(two: Service) -> None:
    before = {name: two.metric(name) for name in SUMMED}
    with load(two, N_CLIENTS) as asking:
        asking.wait_for(100)
    n = asking.n_answered
    added = {name: two.metric(name) - before[name] for name in SUMMED}
    assert added["flightdeck_requests_total"] == added["flightdeck_request_duration_seconds_count"] == n
    assert added["flightdeck_predictions_total"] == added["flightdeck_batch_items_sum"] == 2 * n
    assert added["flightdeck_prediction_log_written_total"] == 2 * n
    for _ in range(6):
        assert two.metric("flightdeck_requests_total") == before["flightdeck_requests_total"] + n


SUMMED = (
    "flightdeck_requests_total",
    "flightdeck_request_duration_seconds_count",
    "flightdeck_predictions_total",
    "flightdeck_batch_items_sum",
    "flightdeck_prediction_log_written_total",
)


def test_a_stopped_worker_is_taken_out_and_the_others_answer(two: Service) -> None:
    with load(two, N_CLIENTS) as asking:
        stopped, _ = two.workers()
        os.kill(stopped, signal.SIGSTOP)
        two.wait_until(lambda: stopped not in two.workers(), "the end of the stopped worker")
        n_failed = asking.n_failed
        wait_until_both_serve(two, [stopped])
        asking.wait_for(100)
        assert asking.n_failed <= N_CLIENTS
    assert n_failed <= N_CLIENTS
    assert set(asking.statuses) == {200}
    assert f"worker {stopped} does not answer" in two.log.read_text("utf-8")


def test_a_rolling_restart_replaces_both_and_loses_at_most_a_race_of_each_connection(two: Service) -> None:
    before = two.workers()
    requests = two.metric("flightdeck_requests_total")
    with load(two, N_CLIENTS) as asking:
        two.process.send_signal(signal.SIGHUP)
        wait_until_both_serve(two, before)
        asking.wait_for(100)
    assert set(asking.statuses) == {200}
    assert asking.n_failed <= N_CLIENTS, "a connection may wait for a worker that ends, once a client"
    counted = two.metric("flightdeck_requests_total") - requests
    assert asking.n_answered <= counted <= asking.n_answered + asking.n_failed


def test_what_breaks_the_start_of_a_worker_does_not_end_the_others(two: Service, live_world: World) -> None:
    state = live_world.layout.serving_state
    aside = state.with_name("aside")
    state.rename(aside)
    state.write_text("in the way", encoding="utf-8")
    killed, other = two.workers()
    os.kill(killed, signal.SIGKILL)
    two.wait_until(lambda: "FileExistsError" in two.log.read_text("utf-8"), "a worker that cannot start")
    for _ in range(5):
        assert two.predict(ask()).status == 200
    state.unlink()
    aside.rename(state)
    wait_until_both_serve(two, [killed])
    assert other in two.workers()
    assert two.predict(ask()).status == 200


def test_sigterm_drains_and_leaves_no_process(two: Service) -> None:
    with load(two, N_CLIENTS) as asking:
        pids = two.workers()
        two.process.send_signal(signal.SIGTERM)
        wait_for(lambda: two.process.poll() is not None, "the end")
        asking.no_more()
    assert two.process.returncode == 0
    assert set(asking.statuses) == {200}
    assert asking.n_failed <= N_CLIENTS, "a connection may wait for a worker that ends, once a client"
    assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []
    assert two.log.read_text("utf-8").count("Application shutdown complete") >= 2


def test_workers_end_with_their_supervisor(live_world: World) -> None:
    with serving(live_world.layout.root, workers=2) as service:
        pids = wait_until_both_serve(service, [])
        service.process.kill()
        service.process.wait()
        wait_for(lambda: not any(_runs(pid) for pid in pids), "the end of the workers")


def test_workers_that_start_without_their_supervisor_end_too(live_world: World) -> None:
    with serving(live_world.layout.root, workers=2) as service:
        wait_for(lambda: len(service.workers()) == 2, "two processes")
        pids = service.workers()
        service.process.kill()
        service.process.wait()
        wait_for(lambda: not any(_runs(pid) for pid in pids), "the end of the workers")


def test_a_stopped_worker_does_not_keep_the_service_from_ending(live_world: World) -> None:
    with serving(live_world.layout.root, workers=2) as service:
        stopped, _ = wait_until_both_serve(service, [])
        service.process.send_signal(signal.SIGTERM)
        os.kill(stopped, signal.SIGSTOP)
        assert service.process.wait(60) == 0
        assert not _runs(stopped)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_wrong_setting_ends_the_service_at_its_start(world: World, workers: str) -> None:
    environment = {**os.environ, "FLIGHTDECK_CLOCK": "evnt", "FLIGHTDECK_DATA": str(world.layout.root)}
    found = subprocess.run(
        [sys.executable, "-m", "serving", "--port", str(free_port()), "--workers", workers],
        env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert found.returncode == STARTUP_FAILURE
    assert "error: reading FLIGHTDECK_CLOCK: 'evnt' is no clock (did you mean 'event'?)" in found.stderr
    assert "next step: set it to system or event" in found.stderr
    assert "Traceback" not in found.stderr


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
