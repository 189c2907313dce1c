"""The load generator's HTTP/1.1: whole requests out, one at a time on each kept connection, and heads of answers in."""

import asyncio
from collections.abc import Callable, Mapping
from time import perf_counter
from typing import Any

from benchmarks.seen import LOST

_END = b"\r\n\r\n"
_LENGTHS = (b"content-length: ", b"Content-Length: ")


def request_bytes(path: str, headers: Mapping[str, str], body: bytes) -> bytes:
    """Return one whole request."""
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body


class Connection(asyncio.Protocol):
    """One connection: one request at a time, calling back with status and head of each answer, and when it is lost."""

    def __init__(
        self, on_reply: Callable[["Connection", int, bytes], None], on_lost: Callable[["Connection"], None]
    ) -> None:
        self._on_reply = on_reply
        self._on_lost = on_lost
        self._data = b""
        self._transport: Any = None
        self._is_closed = False
        self.is_busy = False
        self.at_s = self.sent_s = 0.0

    @property
    def is_open(self) -> bool:
        """Whether a request may be sent: a server closes connections that were idle for long."""
        return not self._transport.is_closing()

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
        if self.is_busy:
            self.is_busy = False
            self._on_reply(self, LOST, b"")
        if not self._is_closed:
            self._on_lost(self)

    def close(self) -> None:
        """Close it; nothing is called back."""
        self.is_busy, self._is_closed = False, True
        self._transport.close()


def _is_whole(data: bytes, end: int) -> bool:
    """Tell whether an answer whose head ends at `end` is there; one without a length ends with its last chunk."""
    for name in _LENGTHS:
        place = data.find(name, 0, end)
        if place >= 0:
            return len(data) >= end + 4 + int(data[place + len(name) : data.find(b"\r", place, end + 2)])
    return data.endswith(b"0\r\n\r\n")
