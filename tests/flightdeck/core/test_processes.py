import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flightdeck.core.processes import Process, Processes, ProcessFailed, answers, free_port

STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(os.getpid(), flush=True)
time.sleep(600)
"""
FAMILY = f"""
import os, subprocess, sys, time
print(os.getpid(), flush=True)
subprocess.Popen([sys.executable, "-c", {STUBBORN!r}], start_new_session=True)
time.sleep(600)
"""


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Processes]:
    monkeypatch.setattr("flightdeck.core.processes.GRACE_S", 1.0)
    started = Processes()
    yield started
    started.stop_all()


def run_code(processes: Processes, code: str, log_path: Path, *arguments: str) -> Process:
    command = [sys.executable, "-c", code, *arguments]
    return processes.start("a test", command, log_path=log_path, environment=os.environ, folder=log_path.parent)


def wait_for(condition: object) -> None:
    assert callable(condition)
    deadline_s = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline_s, "it did not happen in 30 s"
        time.sleep(0.05)


def printed_pids(log_path: Path, n: int) -> list[int]:
    def read() -> list[int]:
        return [int(line) for line in log_path.read_text().split()] if log_path.exists() else []

    wait_for(lambda: len(read()) == n)
    return read()


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_stopping_takes_all_descendants_even_stubborn_ones_in_a_session_of_their_own(
    processes: Processes, tmp_path: Path
) -> None:
    process = run_code(processes, FAMILY, tmp_path / "log")
    pids = printed_pids(tmp_path / "log", 2)
    assert all(map(is_alive, pids))
    process.require_running()
    processes.stop_all()
    assert not any(map(is_alive, pids))
    assert process.exit_code == 128 + signal.SIGTERM


def test_nothing_survives_a_parent_that_is_killed(tmp_path: Path) -> None:
    parent_code = f"""
import os, sys, time
from pathlib import Path
from flightdeck.core import processes
processes.GRACE_S = 1.0
processes.Processes().start("family", [sys.executable, "-c", {FAMILY!r}], log_path=Path({str(tmp_path / "log")!r}),
                            environment=os.environ, folder=Path("/"))
time.sleep(600)
"""
    parent = subprocess.Popen([sys.executable, "-c", parent_code])
    pids = printed_pids(tmp_path / "log", 2)
    parent.kill()
    parent.wait()
    wait_for(lambda: not any(map(is_alive, pids)))


def test_a_process_that_ended_is_named_with_its_last_words(processes: Processes, tmp_path: Path) -> None:
    process = run_code(processes, "print('the reason'); raise SystemExit(7)", tmp_path / "log")
    wait_for(lambda: process.exit_code is not None)
    assert process.exit_code == 7
    with pytest.raises(ProcessFailed, match=r"a test ended with exit code 7:\nthe reason"):
        processes.require_running()


def test_descendants_that_a_process_left_behind_end_with_it(processes: Processes, tmp_path: Path) -> None:
    process = run_code(processes, FAMILY.replace("time.sleep(600)\n", "time.sleep(1)\n", 2), tmp_path / "log")
    pids = printed_pids(tmp_path / "log", 2)
    wait_for(lambda: process.exit_code is not None)
    assert not any(map(is_alive, pids))


def test_a_program_that_does_not_exist(processes: Processes, tmp_path: Path) -> None:
    process = processes.start("it", ["/no/such"], log_path=tmp_path / "log", environment={}, folder=tmp_path)
    wait_for(lambda: process.exit_code is not None)
    with pytest.raises(ProcessFailed, match=r"exit code 127:\nstarting /no/such: .*No such file"):
        process.require_running()


def test_waiting_until_a_server_is_ready(processes: Processes, tmp_path: Path) -> None:
    port = free_port(18_700)
    process = processes.start(
        "a web server",
        [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"],
        log_path=tmp_path / "log",
        environment=os.environ,
        folder=tmp_path,
    )
    url = f"http://127.0.0.1:{port}/"
    process.wait_until_ready(url, 30)
    assert answers(url)
    assert free_port(port) == port + 1
    processes.stop(process)
    assert not answers(url)
    processes.stop_all()


def test_waiting_for_a_server_that_ends_or_never_answers(processes: Processes, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port(18_900)}/"
    ended = run_code(processes, "raise SystemExit(2)", tmp_path / "ended")
    with pytest.raises(ProcessFailed, match="ended with exit code 2"):
        ended.wait_until_ready(url, 30)
    silent = run_code(processes, "import time; time.sleep(600)", tmp_path / "silent")
    with pytest.raises(ProcessFailed, match=r"not ready after 0\.3 s"):
        silent.wait_until_ready(url, 0.3)


def test_taken_ports_are_passed_over() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert free_port(port) > port
