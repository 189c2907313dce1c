"""The service as a process of its own, asked over real HTTP."""

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flightdeck.core.layout import PROJECT

PATIENCE_S = 60.0
JSON_HEADERS = {"Content-Type": "application/json"}


@dataclass
class Reply:
    """Status, headers in lower case and content of an answer."""

    status: int
    headers: dict[str, str]
    content: bytes

    def json(self) -> Any:
        """Return the parsed content."""
        return json.loads(self.content)


@dataclass
class Service:
    """A running service."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path
    headers: dict[str, str] = field(default_factory=dict)

    def get(self, path: str) -> Reply:
        """GET a path."""
        return self.send("GET", path)

    def predict(self, body: Any, headers: Mapping[str, str] = JSON_HEADERS) -> Reply:
        """POST a body, given as JSON value or bytes, to /v1/predictions."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.send("POST", "/v1/predictions", content, headers)

    def send(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """Send a request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        with contextlib.closing(connection):
            connection.request(method, path, body, dict(headers or {}))
            answer = connection.getresponse()
            return Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait until `condition` holds."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise AssertionError(f"waited for {what}; the service says:\n{self.log.read_text('utf-8')[-3000:]}")
            time.sleep(0.05)

    def wait_for_version(self, version: int, arm: str = "champion") -> None:
        """Wait until `version` is loaded as `arm`."""
        self.wait_until(lambda: (arm, version) in self.versions(), f"version {version} as {arm}")

    def versions(self) -> list[tuple[str, int]]:
        """Return (arm, version) of what is loaded."""
        return [(entry["arm"], entry["model_version"]) for entry in self.get("/readyz").json()["releases"]]

    def workers(self) -> list[int]:
        """Return the process ids of the workers of a supervisor."""
        with contextlib.suppress(OSError):
            found = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text("ascii").split()
            return [int(pid) for pid in found if _is_worker(int(pid))]
        return []

    def metric(self, name: str) -> float:
        """Return the sum of a metric over all of its labels."""
        lines = self.get("/metrics").content.decode().splitlines()
        samples = (line.rpartition(" ") for line in lines if line.startswith((f"{name} ", f"{name}{{")))
        return sum(float(value) for _, _, value in samples)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Stop the process and return its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(PATIENCE_S)


@contextlib.contextmanager
def serving(
    data: Path,
    *,
    clock: str = "event",
    preexec: Callable[[], None] | None = None,
    module: str = "serving",
    port: int = 0,
    workers: int = 1,
    options: Sequence[str] = (),
    variables: Mapping[str, str] | None = None,
) -> Iterator[Service]:
    """Run the service over a data root, on a free port unless one is given, until the block ends.

    Several workers are in a process group of their own, which is killed at the end, whatever is left of it.
    """
    port = port or free_port()
    code = os.pathsep.join([str(PROJECT / "src"), str(PROJECT)])  # this checkout's, whichever is installed
    environment = {**os.environ, "FLIGHTDECK_DATA": str(data), "FLIGHTDECK_CLOCK": clock, "PYTHONPATH": code}
    environment.setdefault("KEDRO_ENV", "test")  # deadlines that a busy machine meets; conf/test/surfaces.yml
    environment |= variables or {}
    data.mkdir(parents=True, exist_ok=True)
    log = data / f"service-{port}.log"
    command = [sys.executable, "-m", module, "--port", str(port), *options]
    command += ["--workers", str(workers)] if workers > 1 else []
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, env=environment, stdout=stream, stderr=stream, cwd=data, preexec_fn=preexec,
            start_new_session=workers > 1,
        )  # fmt: skip
    service = Service(process, port, log)
    try:
        service.wait_until(lambda: _answers(port), "the service to listen")
        yield service
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(PATIENCE_S)
        if workers > 1:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _is_worker(pid: int) -> bool:
    with contextlib.suppress(OSError):
        status = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()[0]
        return status != "Z" and b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), contextlib.closing(socket.create_connection(("127.0.0.1", port), 1)):
        return True
    return False
