"""Child processes that never outlive the command that started them.

Each runs below a keeper in a session of its own: Ctrl-C reaches this process only, which then stops the others in
order; and where this process is killed without a word, the keepers notice and stop everything (see keeper.py).
"""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from flightdeck.core import keeper
from flightdeck.core.errors import FlightdeckError

GRACE_S = 12.0
POLL_S = 0.1
N_LAST_LINES = 12
OK = 200


class ProcessFailed(FlightdeckError):
    """A process that was started ended, or does not get ready."""


class Process:
    """One supervised child process.

    Parameters
    ----------
    name
        What it is called in messages.
    command
        Program and arguments.
    log_path
        File that its output goes to; emptied first.
    environment
        Its whole environment.
    folder
        Its working directory.
    """

    def __init__(
        self, name: str, command: Sequence[str], *, log_path: Path, environment: Mapping[str, str], folder: Path
    ) -> None:
        self.name = name
        self.log_path = log_path
        log_path.parent.mkdir(parents=True, exist_ok=True)
        kept = [sys.executable, "-I", "-S", keeper.__file__, str(GRACE_S), str(os.getpid()), *command]
        with log_path.open("wb") as log:
            self._popen = subprocess.Popen(
                kept,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                cwd=folder,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Process id of the keeper."""
        return self._popen.pid

    @property
    def exit_code(self) -> int | None:
        """Exit code, None while it runs."""
        return self._popen.poll()

    def last_lines(self) -> str:
        """Return the end of its output."""
        lines = self.log_path.read_text(encoding="utf-8", errors="replace").rstrip().splitlines()
        return "\n".join(lines[-N_LAST_LINES:])

    def require_running(self) -> None:
        """Return if it runs.

        Raises
        ------
        ProcessFailed
            If it has ended, with the end of its output.
        """
        if self.exit_code is not None:
            raise ProcessFailed(
                f"{self.name} ended with exit code {self.exit_code}:\n{self.last_lines()}",
                next_step=f"read {self.log_path}",
            )

    def wait_until_ready(self, url: str, within_s: float, tick: Callable[[], None] = lambda: None) -> None:
        """Return when `url` answers 200; `tick` is called between two tries.

        Raises
        ------
        ProcessFailed
            If the process ends or is not ready in time.
        """
        deadline_s = time.monotonic() + within_s
        while not answers(url):
            self.require_running()
            if time.monotonic() > deadline_s:
                raise ProcessFailed(
                    f"{self.name} is not ready after {within_s:g} s:\n{self.last_lines()}",
                    next_step=f"read {self.log_path}",
                )
            tick()
            time.sleep(POLL_S)
        self.require_running()

    def stop(self) -> None:
        """Stop it and all of its descendants; returns when they are gone."""
        if self._popen.poll() is None:
            self._popen.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._popen.wait(GRACE_S + 5)
        if self._popen.poll() is None:
            self._popen.kill()
            self._popen.wait()


class Processes:
    """All processes of one command. Stops them in the order opposite to their start."""

    def __init__(self) -> None:
        self._started: list[Process] = []

    def start(
        self, name: str, command: Sequence[str], *, log_path: Path, environment: Mapping[str, str], folder: Path
    ) -> Process:
        """Start a process; parameters as of `Process`."""
        process = Process(name, command, log_path=log_path, environment=environment, folder=folder)
        self._started.append(process)
        return process

    def require_running(self) -> None:
        """Return if all run.

        Raises
        ------
        ProcessFailed
            If one has ended.
        """
        for process in self._started:
            process.require_running()

    def stop(self, process: Process) -> None:
        """Stop one and forget it."""
        process.stop()
        self._started.remove(process)

    def stop_all(self) -> None:
        """Ask all to stop at once, then wait for each; a second Ctrl-C does not interrupt that."""
        before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            for process in self._started:
                if process.exit_code is None:
                    os.kill(process.pid, signal.SIGTERM)
            while self._started:
                self._started.pop().stop()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def answers(url: str) -> bool:
    """Return whether `url` answers with status 200 within a second."""
    try:
        with urllib.request.urlopen(url, timeout=1) as response:  # noqa: S310 - addresses of our own
            return bool(response.status == OK)
    except (OSError, urllib.error.URLError, ValueError):
        return False


def free_port(first: int) -> int:
    """Return the first port from `first` upwards that nobody listens on at 127.0.0.1; for 0, any.

    Raises
    ------
    FlightdeckError
        If a hundred ports in a row are taken.
    """
    for port in range(first, min(first + 100, 65_536)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise FlightdeckError(f"looking for a free port: {first} to {first + 99} are taken", next_step="give other ports")
