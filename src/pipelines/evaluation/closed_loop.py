"""A closed loop of requests: every connection asks again when it has its answer.

One thread and plain sockets: a client that took as long as the server would be measured instead of it.
"""

import selectors
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import msgspec
import numpy as np

from flightdeck.core.errors import FlightdeckError
from pipelines.evaluation.replay import BY_MODEL, HEADERS, OK, PATH

ROUND_S = 3.0
PATIENCE_S = 10.0
READ_BYTES = 1 << 16
_END, _LENGTH = b"\r\n\r\n", b"content-length:"
Reply = tuple[float, int, bytes]


@dataclass(frozen=True, order=True)
class Round:
    """What was seen in one round; the smaller one is the better one.

    Parameters
    ----------
    n_otherwise
        Requests that were answered by something else than the model, or not at all.
    p95_ms
        95th percentile of the time from a request to the end of its answer, milliseconds.
    n_requests
        Requests sent.
    """

    n_otherwise: int
    p95_ms: float
    n_requests: int


def ask_round(port: int, questions: Sequence[bytes], n_connections: int) -> Round:
    """Ask all questions over `n_connections`, or as many as three seconds allow.

    Parameters
    ----------
    port
        Where the server listens on loopback.
    questions
        Bodies; each connection takes the next one that is left.
    n_connections
        How many ask at a time, at most as many as there are questions.

    Raises
    ------
    FlightdeckError
        If no connection gets an answer within ten seconds, or the server closes one.
    """
    until_s = time.perf_counter() + ROUND_S
    left = iter(list(map(_request, questions)))
    replies: list[Reply] = []
    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        for _ in range(n_connections):
            made = stack.enter_context(socket.create_connection(("127.0.0.1", port), PATIENCE_S))
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            selector.register(made, selectors.EVENT_READ, connection := _Connection(made))
            connection.send(left)
        while any(key.data.is_waiting for key in selector.get_map().values()):
            ready = selector.select(PATIENCE_S)
            if not ready:
                raise FlightdeckError(f"asking the server: no answer within {PATIENCE_S:g} s")
            for key, _ in ready:
                if (reply := key.data.receive()) is not None:
                    replies.append(reply)
                    if time.perf_counter() < until_s:
                        key.data.send(left)
    n_otherwise = sum(not _is_by_model(status, content) for _, status, content in replies)
    return Round(n_otherwise, float(np.quantile([took_ms for took_ms, _, _ in replies], 0.95)), len(replies))


class _Connection:
    """A kept connection, one request at a time."""

    def __init__(self, made: socket.socket) -> None:
        self.is_waiting = False
        self._socket = made
        self._began_s = 0.0
        self._data = b""

    def send(self, requests: Iterator[bytes]) -> None:
        """Send the next request, if one is left."""
        request = next(requests, None)
        if request is not None:
            self.is_waiting, self._data, self._began_s = True, b"", time.perf_counter()
            self._socket.sendall(request)

    def receive(self) -> Reply | None:
        """Read what is there; return milliseconds, status and content of an answer that is whole now."""
        data = self._socket.recv(READ_BYTES)
        if not data:
            raise FlightdeckError("asking the server: it closed a connection")
        self._data += data
        head, end, content = self._data.partition(_END)
        if not end or len(content) < _content_length(head):
            return None
        self.is_waiting = False
        return (time.perf_counter() - self._began_s) * 1e3, int(head.split(b" ", 2)[1]), content


def _request(question: bytes) -> bytes:
    """Return a whole request."""
    lines = [f"POST {PATH} HTTP/1.1", "Host: localhost", *(f"{name}: {value}" for name, value in HEADERS.items())]
    return "\r\n".join([*lines, f"Content-Length: {len(question)}", "", ""]).encode() + question


def _content_length(head: bytes) -> int:
    lower = head.lower()
    return int(lower[lower.index(_LENGTH) + len(_LENGTH) :].split(b"\r", 1)[0])


def _is_by_model(status: int, content: bytes) -> bool:
    return status == OK and all(item["mode"] == BY_MODEL for item in msgspec.json.decode(content)["predictions"])
