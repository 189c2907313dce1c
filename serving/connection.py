"""One connection: uvicorn's protocol, with bounds on how long and how large the head of a request may be.

uvicorn limits neither: a client that sends a header a minute holds its connection for ever, and one that sends headers
without end fills the memory. Bodies are bounded by `serving.body_limit`, idle connections by uvicorn's keep-alive.
An answer leaves in one write instead of two, head and body: a system call less here, a packet less at the client.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_S = 10.0
HEAD_BYTES = 64 << 10
LINGER_S = 0.5
MESSAGE_BYTES = 80 << 20  # whatever the rest is dressed as; `serving.body_limit` discards up to 64 MiB of a body
_ANSWER, _END = (b"HTTP/1.1 2", b"HTTP/1.1 3", b"HTTP/1.1 4", b"HTTP/1.1 5"), b"\r\n\r\n"
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class OneWrite:
    """A transport that keeps the head of an answer until its body is written, or anything else happens.

    Parameters
    ----------
    transport
        The transport of the connection.
    """

    __slots__ = ("_head", "_transport", "get_extra_info", "is_closing", "pause_reading", "resume_reading")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head = b""
        self.get_extra_info = transport.get_extra_info
        self.is_closing = transport.is_closing
        self.pause_reading = transport.pause_reading
        self.resume_reading = transport.resume_reading

    def write(self, data: bytes) -> None:
        """Write a body with its head, or keep a head."""
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head + data)
        elif data.startswith(_ANSWER) and data.endswith(_END):
            self._head = data
        else:
            self._transport.write(data)

    def close(self) -> None:
        """Write what is kept, then close."""
        self.flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        self.flush()
        return getattr(self._transport, name)

    def flush(self) -> None:
        """Write what is kept."""
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)


class BoundedConnection(HttpToolsProtocol):
    """A connection that is cut when a head takes more than 10 s, or more than 64 KiB and what came with its end."""

    _cut: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _body_bytes = 0
    _is_in_head = False
    _is_ending = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a first request."""
        super().connection_made(OneWrite(transport))  # type: ignore[arg-type]
        self._is_in_head = True
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        """Feed the parser; cut the connection if that is still not the end of a head and it is too long."""
        super().data_received(data)
        if not self._is_in_head:
            self._body_bytes += len(data)
            if self._body_bytes > MESSAGE_BYTES:
                self.transport.close()
            return
        if self._cut is None:  # nearly always a head comes whole, and no timer is needed
            self._wait_for_head()
        self._head_bytes += len(data)
        if self._head_bytes > HEAD_BYTES and not self.transport.is_closing():
            self.transport.write(_TOO_LARGE)
            self.transport.close()

    def on_message_begin(self) -> None:
        """Begin a head."""
        super().on_message_begin()
        self._is_in_head = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; drop what follows a body, which nobody reads and nothing bounds."""
        if self._is_in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Stop waiting: the request is there."""
        self._is_in_head = False
        self._body_bytes = 0
        self._stop_waiting()
        super().on_headers_complete()
        if self._is_ending:
            self.cycle.keep_alive = False

    def on_response_complete(self) -> None:
        """Let a head go that no body followed: the answer to HEAD."""
        self.transport.flush()  # type: ignore[attr-defined]
        super().on_response_complete()

    def shutdown(self) -> None:
        """End with the next answer; one that waits for a request waits a moment more, for the one on its way."""
        self._is_ending = True
        if self.cycle is None or self.cycle.response_complete:
            self.loop.call_later(LINGER_S, self._end)
        else:
            self.cycle.keep_alive = False

    def _end(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timer."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait_for_head(self) -> None:
        self._head_bytes = 0
        self._cut = self.loop.call_later(HEAD_S, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._cut is not None:
            self._cut.cancel()
            self._cut = None
