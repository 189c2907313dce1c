"""One connection: uvicorn's protocol, with bounds on how long and how large the head of a request may be.

uvicorn limits neither: a client that sends a header a minute holds its connection for ever, and one that sends headers
without end fills the memory. Bodies are bounded by `serving.body_limit`, idle connections by uvicorn's keep-alive.
`answer_at_once` sends a whole answer in one write, where uvicorn checks each header and writes head and body apart: two
system calls and a tenth of what a prediction costs.
"""

import asyncio
import math
from typing import Any

from starlette.types import Message, Receive
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from serving.gate import GATE, Gate

HEAD_S = 10.0
HEAD_BYTES = 64 << 10
LINGER_S = 0.5
MESSAGE_BYTES = 80 << 20  # whatever the rest is dressed as; `serving.body_limit` discards up to 64 MiB of a body
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class BoundedConnection(HttpToolsProtocol):
    """A connection that is cut when a head takes more than 10 s, or more than 64 KiB and what came with its end."""

    _cut: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _body_bytes = 0
    _is_in_head = False
    _is_ending = False
    _refused_s = -math.inf

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a first request."""
        super().connection_made(transport)
        self._gate: Gate | None = self.app_state.get(GATE)
        self._is_in_head = True
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        """Feed the parser; cut the connection if that is still not the end of a head and it is too long.

        A request that the gate refuses never comes to the parser.
        """
        if self._gate is not None and self._is_between_requests():
            refusal = self._gate.refuse(data, self.loop)
            if refusal is not None:
                self.transport.write(refusal)
                self._note_refusal()
                return
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

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection; one that was refused lately is not idle, though uvicorn has not seen it."""
        left_s = self._refused_s + self.timeout_keep_alive - self.loop.time()
        if left_s > 0:
            self.timeout_keep_alive_task = self.loop.call_later(left_s, self.timeout_keep_alive_handler)
        else:
            super().timeout_keep_alive_handler()

    def _is_between_requests(self) -> bool:
        """Tell whether what comes next is the begin of a request, and an answer may be written at once."""
        if self._is_ending or self.flow.write_paused:
            return False
        if self.cycle is None:
            return self._head_bytes == 0
        return self.cycle.response_complete and not (self.cycle.more_body or self._is_in_head)

    def _note_refusal(self) -> None:
        """Count the connection as used; one that nothing was parsed of yet begins to be idle."""
        self._refused_s = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._stop_waiting()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _wait_for_head(self) -> None:
        self._head_bytes = 0
        self._cut = self.loop.call_later(HEAD_S, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._cut is not None:
            self._cut.cancel()
            self._cut = None


def cycle_of(receive: Receive) -> RequestResponseCycle | None:
    """Return uvicorn's own account of a request, None under another server or behind something that wraps `receive`."""
    cycle: Any = getattr(receive, "__self__", None)
    return cycle if isinstance(cycle, RequestResponseCycle) else None


def take_body(cycle: RequestResponseCycle) -> Message | None:
    """Return the message with a body that is there as a whole, as `receive` would; None if it is not."""
    if cycle.more_body or cycle.disconnected or cycle.response_complete or cycle.waiting_for_100_continue:
        return None
    body, cycle.body = bytes(cycle.body), bytearray()
    cycle.message_event.clear()
    return {"type": "http.request", "body": body, "more_body": False}


def answer_at_once(cycle: RequestResponseCycle, headers: bytes, body: bytes) -> bool:
    """Send a whole answer of status 200; tell whether that was done, else it has to go the ordinary way.

    Parameters
    ----------
    cycle
        The request.
    headers
        Lines that each end in CR LF; `date` and `content-length` are added.
    body
        The body.

    Notes
    -----
    This does what `RequestResponseCycle.send` does for such an answer, and leaves the rest to it.
    """
    if cycle.response_started or cycle.disconnected or cycle.flow.write_paused or not cycle.keep_alive:
        return False
    own = b"".join(b"%b: %b\r\n" % header for header in cycle.default_headers)
    cycle.response_started = True
    cycle.waiting_for_100_continue = False
    cycle.transport.write(b"HTTP/1.1 200 OK\r\n%b%bcontent-length: %d\r\n\r\n%b" % (own, headers, len(body), body))
    cycle.response_complete = True
    cycle.message_event.set()
    cycle.on_response()
    return True
