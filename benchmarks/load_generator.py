"""The process behind `benchmarks.http_load`: reads what to send from its input, connects, and sends when told to.

One event loop with raw connections; garbage is not collected while it runs, what was seen is written at the end.
"""

import asyncio
import gc
import json
import sys
from array import array
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import uvloop

from benchmarks.http_connection import Connection, request_bytes
from benchmarks.seen import LOST, MODES, Floats

TICK_S = 0.0005
CONNECT_AT_ONCE = 100
DRAIN_S = 10.0
REOPEN_S = 0.05
GO = "go"
_MODE = b"x-flightdeck-mode: "
_CODES = {mode.encode(): code for code, mode in enumerate(MODES)}


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
        self._reopening: set[asyncio.Task[None]] = set()
        self._is_over = False
        self._at, self._latency, self._lag = array("d"), array("d"), array("d")
        self._status, self._mode = array("q"), array("q")

    async def connect(self) -> None:
        """Open all connections, some at once."""
        while len(self._all) < self._n_connections:
            n = min(CONNECT_AT_ONCE, self._n_connections - len(self._all))
            self._all += await asyncio.gather(*(self._open() for _ in range(n)))
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
        for task in self._reopening:
            task.cancel()
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
                while self._free and not self._free[0].is_open:
                    self._free.popleft()
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
        if connection.is_open:
            self._give_work(connection)

    def _lost(self, connection: Connection) -> None:
        """Open another connection in the place of one that the server closed, as a client does."""
        self._all.remove(connection)
        if not self._is_over:
            task = asyncio.get_running_loop().create_task(self._reopen())
            self._reopening.add(task)
            task.add_done_callback(self._reopening.discard)

    async def _reopen(self) -> None:
        while True:
            with suppress(OSError):
                connection = await self._open()
                break
            await asyncio.sleep(REOPEN_S)
        self._all.append(connection)
        self._give_work(connection)

    async def _open(self) -> Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(
            lambda: Connection(self._reply, self._lost), "127.0.0.1", self._port
        )
        return connection

    def _give_work(self, connection: Connection) -> None:
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

    def told() -> None:
        line = sys.stdin.readline()
        if not line:  # whoever asked is gone
            sys.exit(1)
        (go if json.loads(line) == GO else stop).set()

    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), told)
    print("ready", flush=True)
    await go.wait()
    start_s = perf_counter()
    await asyncio.gather(*(each.run(start_s, spec["seconds"], stop) for each in streams))
    for place, each in enumerate(streams):
        each.save(Path(spec["folder"]) / f"{place}.npz", start_s)
    print("done", flush=True)


if __name__ == "__main__":
    uvloop.run(_measure(json.loads(sys.stdin.readline())))
