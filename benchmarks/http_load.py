"""A load generator in a process of its own: raw HTTP/1.1 over kept connections, closed or open loop.

Closed loop: every connection sends its next request when it has its answer. Open loop: requests have intended times of
sending, whatever the server does; latency counts from the intended time, so waiting for a free connection, or for this
process, is part of it (no coordinated omission).

    with Load(port, [stream("search", "/v1/predictions", bodies, 64)], seconds=5) as load:
        seen = load.run()["search"]

The process connects, waits for `run`, and costs about 15 us of CPU a request.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from benchmarks.seen import Seen
from flightdeck.core.errors import FlightdeckError


class Load:
    """A generator that is connected and waits; a context manager that ends it.

    Parameters
    ----------
    port
        Port on the loopback interface.
    streams
        What is sent, see `stream`.
    seconds
        How long, unless `stop` is called. Requests that are out by then are waited for, at most 10 s.
    """

    def __init__(self, port: int, streams: Sequence[Mapping[str, Any]], seconds: float) -> None:
        self._names = [spec["name"] for spec in streams]
        self._folder = tempfile.TemporaryDirectory()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.load_generator"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid
        self._tell({"port": port, "streams": list(streams), "seconds": seconds, "folder": self._folder.name})
        self._hear()

    def __enter__(self) -> "Load":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()
        self._folder.cleanup()

    def run(self) -> dict[str, Seen]:
        """Run the measurement and return what was seen, by name of the stream.

        Raises
        ------
        FlightdeckError
            If the generator fails.
        """
        self._tell("go")
        self._hear()
        folder = Path(self._folder.name)
        return {name: Seen(**np.load(folder / f"{place}.npz")) for place, name in enumerate(self._names)}

    def stop(self) -> None:
        """Let `run`, in another thread, come to its end now."""
        self._tell("stop")

    def _tell(self, what: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()

    def _hear(self) -> None:
        assert self._process.stdout is not None
        if not self._process.stdout.readline():
            raise FlightdeckError(
                f"running the load generator: it ended, code {self._process.wait()}", next_step="read its error above"
            )


def stream(
    name: str,
    path: str,
    bodies: Sequence[Any],
    connections: int,
    *,
    headers: Mapping[str, str] | None = None,
    rates: Sequence[tuple[float, float]] = (),
) -> dict[str, Any]:
    """Return one stream of requests of a measurement.

    Parameters
    ----------
    name
        What results are called by.
    path, headers
        Where POST requests go, and headers besides type and length.
    bodies
        JSON values, sent in turn.
    connections
        How many connections it has for itself.
    rates
        (seconds, requests a second) one after the other; empty: closed loop.
    """
    head = {"Content-Type": "application/json", **(headers or {})}
    texts = [json.dumps(body) for body in bodies]
    return {
        "name": name,
        "path": path,
        "headers": head,
        "bodies": texts,
        "connections": connections,
        "rates": list(rates),
    }
