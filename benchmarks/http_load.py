"""A load generator in a process of its own: raw HTTP/1.1 over kept connections, closed or open loop.

Closed loop: every connection sends its next request when it has its answer. Open loop: requests have intended times of
sending, whatever the server does; latency counts from the intended time, so waiting for a free connection, or for this
process, is part of it (no coordinated omission).

    with Load(port, [stream("search", "/v1/predictions", bodies, 64)], seconds=5) as load:
        seen = load.run()["search"]

The process connects, waits for `run`, and costs about 15 us of CPU a request.
"""

import asyncio
import gc
import json
import subprocess
import sys
import tempfile
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import uvloop

from flightdeck.core.errors import FlightdeckError

TICK_S = 0.0005
CONNECT_AT_ONCE = 100
DRAIN_S = 10.0
GO = json.dumps("go") + "\n"
LOST = 0  # status of a request that was never answered
MODES = ("", "model", "fallback", "rules", "refused")
_END = b"\r\n\r\n"
_LENGTHS = (b"content-length: ", b"Content-Length: ")
_MODE = b"x-flightdeck-mode: "
_CODES = {mode.encode(): code for code, mode in enumerate(MODES)}
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Seen:
    """What became of each request of a stream, in the order of the answers; the unanswered last.

    Parameters
    ----------
    at_s
        Intended time of sending, seconds from the start.
    latency_s
        From then to the end of the answer.
    lag_s
        From then until it was really sent: the wait for a free connection, and how late the generator was.
    status
        HTTP status; 0 if it was not answered.
    mode
        Place in `MODES` of the header `X-Flightdeck-Mode`; 0 without one.
    """

    at_s: Floats
    latency_s: Floats
    lag_s: Floats
    status: npt.NDArray[np.int64]
    mode: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.at_s)

    def take(self, rows: npt.NDArray[np.bool_]) -> "Seen":
        """Return some of the requests."""
        return Seen(*(getattr(self, name)[rows] for name in FIELDS))

    def percentile_ms(self, q: float) -> float:
        """Return a percentile of the latencies; NaN without requests."""
        return float(np.percentile(self.latency_s, q)) * 1e3 if len(self) else float("nan")


FIELDS = tuple(field.name for field in fields(Seen))


def together(parts: Iterable[Seen]) -> Seen:
    """Return several streams or runs as one."""
    each = list(parts)
    return Seen(*(np.concatenate([getattr(part, name) for part in each]) for name in FIELDS))


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
            [sys.executable, "-m", "benchmarks.http_load"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
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


def request_bytes(path: str, headers: Mapping[str, str], body: bytes) -> bytes:
    """Return one whole request."""
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


def send_times_s(rates: Sequence[Sequence[float]], seed: int = 0) -> Floats:
    """Return intended times of sending, seconds from the start, ascending: arrivals of a Poisson process.

    Parameters
    ----------
    rates
        (seconds, requests a second) one after the other; each part has its exact number of requests.
    seed
        Of the draw.

    Examples
    --------
    >>> times = send_times_s([(1.0, 100), (2.0, 10)])
    >>> len(times), int((times < 1.0).sum())
    (120, 100)
    """
    random = np.random.default_rng(seed)
    begins_s = np.cumsum([0.0, *(seconds for seconds, _ in rates)])
    parts = [
        begin_s + np.sort(random.uniform(0.0, seconds, round(seconds * per_s)))
        for begin_s, (seconds, per_s) in zip(begins_s, rates, strict=False)
    ]
    return np.concatenate(parts) if parts else np.empty(0)


class Connection(asyncio.Protocol):
    """One connection: one request at a time, calling back with status and head of each answer."""

    def __init__(self, on_reply: Callable[["Connection", int, bytes], None]) -> None:
        self._on_reply = on_reply
        self._data = b""
        self._transport: Any = None
        self.is_lost = False
        self.is_busy = False
        self.at_s = self.sent_s = 0.0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def send(self, request: bytes, at_s: float) -> None:
        """Send a request whose latency counts from `at_s`."""
        self.at_s, self.sent_s = at_s, perf_counter()
        self.is_busy = True
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        if self._data:
            data = self._data + data
        end = data.find(_END)
        if end < 0 or not _is_whole(data, end):
            self._data = data
            return
        self._data = b""
        self.is_busy = False
        self._on_reply(self, int(data[9:12]), data[:end])

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True
        if self.is_busy:
            self.is_busy = False
            self._on_reply(self, LOST, b"")

    def close(self) -> None:
        """Close it; nothing is called back."""
        self.is_busy = False
        self._transport.close()


def _is_whole(data: bytes, end: int) -> bool:
    """Tell whether an answer whose head ends at `end` is there; one without a length ends with its last chunk."""
    for name in _LENGTHS:
        place = data.find(name, 0, end)
        if place >= 0:
            return len(data) >= end + 4 + int(data[place + len(name) : data.find(b"\r", place, end + 2)])
    return data.endswith(b"0\r\n\r\n")


class _Stream:
    """One stream while it runs, and what it has seen."""

    def __init__(self, spec: Mapping[str, Any], port: int, seed: int) -> None:
        self._port = port
        self._n_connections: int = spec["connections"]
        self._requests = [request_bytes(spec["path"], spec["headers"], body.encode()) for body in spec["bodies"]]
        self._is_open_loop = bool(spec["rates"])
        self._times_s = send_times_s(spec["rates"], seed).tolist()
        self._next = 0
        self._free: deque[Connection] = deque()
        self._due: deque[float] = deque()
        self._all: list[Connection] = []
        self._is_over = False
        self._at, self._latency, self._lag = array("d"), array("d"), array("d")
        self._status, self._mode = array("q"), array("q")

    async def connect(self) -> None:
        """Open all connections, some at once."""
        loop = asyncio.get_running_loop()
        while len(self._all) < self._n_connections:
            n = min(CONNECT_AT_ONCE, self._n_connections - len(self._all))
            opening = [
                loop.create_connection(lambda: Connection(self._reply), "127.0.0.1", self._port) for _ in range(n)
            ]
            self._all += [connection for _, connection in await asyncio.gather(*opening)]
        self._free.extend(self._all)

    async def run(self, start_s: float, seconds: float, stop: asyncio.Event) -> None:
        """Send until the time is over or `stop` is set, then wait for the answers that are missing."""
        if self._is_open_loop:
            await self._follow_plan(start_s, stop)
        else:
            for connection in self._all:
                self._send(connection, perf_counter())
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), start_s + seconds - perf_counter())
        self._is_over = True
        deadline_s = perf_counter() + DRAIN_S
        while (self._due or any(c.is_busy for c in self._all)) and perf_counter() < deadline_s:
            await asyncio.sleep(0.01)
        for at_s in self._due:
            self._note(at_s, perf_counter(), LOST, 0)
        for connection in self._all:
            if connection.is_busy:
                self._note(connection.at_s, connection.sent_s, LOST, 0)
        for connection in self._all:
            connection.close()

    def save(self, path: Path, start_s: float) -> None:
        """Write what was seen."""
        at_s, latency_s, lag_s = (np.frombuffer(times) for times in (self._at, self._latency, self._lag))
        status, mode = (np.frombuffer(codes, dtype=np.int64) for codes in (self._status, self._mode))
        np.savez(path, at_s=at_s - start_s, latency_s=latency_s, lag_s=lag_s, status=status, mode=mode)

    async def _follow_plan(self, start_s: float, stop: asyncio.Event) -> None:
        place, n = 0, len(self._times_s)
        while place < n and not stop.is_set():
            now_s = perf_counter() - start_s
            while place < n and self._times_s[place] <= now_s:
                at_s = start_s + self._times_s[place]
                place += 1
                if self._free:
                    self._send(self._free.popleft(), at_s)
                else:
                    self._due.append(at_s)
            await asyncio.sleep(TICK_S)

    def _send(self, connection: Connection, at_s: float) -> None:
        connection.send(self._requests[self._next], at_s)
        self._next = (self._next + 1) % len(self._requests)

    def _note(self, at_s: float, sent_s: float, status: int, mode: int) -> None:
        self._at.append(at_s)
        self._latency.append(perf_counter() - at_s)
        self._lag.append(sent_s - at_s)
        self._status.append(status)
        self._mode.append(mode)

    def _reply(self, connection: Connection, status: int, head: bytes) -> None:
        place = head.find(_MODE)
        mode = _CODES[head[place + len(_MODE) :].split(b"\r", 1)[0]] if place > 0 else 0
        self._note(connection.at_s, connection.sent_s, status, mode)
        if connection.is_lost:
            return
        if not self._is_open_loop:
            if not self._is_over:
                self._send(connection, perf_counter())
        elif self._due:
            self._send(connection, self._due.popleft())
        else:
            self._free.append(connection)


async def _measure(spec: Mapping[str, Any]) -> None:
    streams = [_Stream(each, spec["port"], seed) for seed, each in enumerate(spec["streams"])]
    for each in streams:
        await each.connect()
    gc.collect()
    gc.disable()
    go, stop = asyncio.Event(), asyncio.Event()
    asyncio.get_running_loop().add_reader(
        sys.stdin.fileno(), lambda: (stop if sys.stdin.readline() != GO else go).set()
    )
    print("ready", flush=True)
    await go.wait()
    start_s = perf_counter()
    await asyncio.gather(*(each.run(start_s, spec["seconds"], stop) for each in streams))
    for place, each in enumerate(streams):
        each.save(Path(spec["folder"]) / f"{place}.npz", start_s)
    print("done", flush=True)


if __name__ == "__main__":
    uvloop.run(_measure(json.loads(sys.stdin.readline())))
