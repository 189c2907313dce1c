"""A server that is measured: a process tree of its own on a free loopback port."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flightdeck.core.errors import FlightdeckError
from flightdeck.core.layout import PROJECT

PATIENCE_S = 90.0
QUIET = {"DO_NOT_TRACK": "true", "BENTOML_DO_NOT_TRACK": "True", "MLFLOW_DISABLE_TELEMETRY": "true"}


@dataclass(frozen=True)
class Server:
    """A running server.

    Parameters
    ----------
    pid
        Root of its process tree, which is a session of its own.
    port
        Where it listens.
    """

    pid: int
    port: int

    def get(self, path: str) -> Any:
        """Return the JSON of a path, None if it is not there."""
        status, content = self._ask("GET", path, None)
        return json.loads(content) if status == 200 else None

    def post(self, path: str, body: Any, headers: Mapping[str, str] | None = None) -> Any:
        """Return the JSON that a JSON body is answered with.

        Raises
        ------
        FlightdeckError
            If the status is not 200.
        """
        head = {"Content-Type": "application/json", **(headers or {})}
        status, content = self._ask("POST", path, json.dumps(body).encode(), head)
        if status != 200:
            raise FlightdeckError(f"asking {path}: status {status}, {content[:500].decode(errors='replace')}")
        return json.loads(content)

    def metric(self, name: str) -> float:
        """Return the sum of a metric over all of its labels."""
        lines = self._ask("GET", "/metrics", None)[1].decode().splitlines()
        samples = (line.rpartition(" ") for line in lines if line.startswith((f"{name} ", f"{name}{{")))
        return sum(float(value) for _, _, value in samples)

    def _ask(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str] | None = None) -> Any:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)) as connection:
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            return answer.status, answer.read()


@contextmanager
def running(
    command: Sequence[str], port: int, folder: Path, *, ready: str, environment: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """Yield a server once `ready` is answered with 200, and end its whole session with the block.

    Raises
    ------
    FlightdeckError
        If it ends or is not ready within 90 s; the end of what it wrote is told.
    """
    signal.signal(signal.SIGTERM, _leave)  # a benchmark that is told to end leaves no server behind
    log = folder / f"server-{port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=output,
            cwd=folder,
            env={**os.environ, **QUIET, **(environment or {})},
            start_new_session=True,
        )
    try:
        server = Server(process.pid, port)
        _wait(server, process, ready, log)
        yield server
    finally:
        _end(process)


@contextmanager
def our_server(data: Path, *, n_workers: int = 1, **variables: str) -> Iterator[Server]:
    """Yield our service over a data root, on event time, with a champion that answers; one worker by default."""
    port = free_port()
    environment = {
        "FLIGHTDECK_DATA": str(data),
        "FLIGHTDECK_CLOCK": "event",
        "PYTHONPATH": os.pathsep.join([str(PROJECT / "src"), str(PROJECT)]),
    }
    command = [sys.executable, "-m", "serving", "--port", str(port)]
    command += ["--workers", str(n_workers)] if n_workers > 1 else []
    with running(command, port, data, ready="/readyz", environment=environment | variables) as server:
        yield server


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _leave(number: int, _: object) -> None:
    sys.exit(128 + number)


def _wait(server: Server, process: "subprocess.Popen[bytes]", ready: str, log: Path) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s and process.poll() is None:
        with suppress(OSError, http.client.HTTPException):
            if server._ask("GET", ready, None)[0] == 200:
                return
        time.sleep(0.1)
    told = log.read_text("utf-8", errors="replace").strip().splitlines()[-8:]
    raise FlightdeckError(f"starting a server: {ready} was not answered", next_step="\n".join(["it wrote:", *told]))


def _end(process: "subprocess.Popen[bytes]") -> None:
    for how, patience_s in ((signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0)):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, how)
        with suppress(subprocess.TimeoutExpired):
            process.wait(patience_s)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
