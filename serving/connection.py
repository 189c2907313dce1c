"""One connection: uvicorn's protocol, with bounds on how long and how large the head of a request may be.

uvicorn limits neither: a client that sends a header a minute holds its connection for ever, and one that sends headers
without end fills the memory. Bodies are bounded by `serving.body_limit`, idle connections by uvicorn's keep-alive.

An application that has a `hot_path` is asked by it first: a request that it takes is held until its body is whole and
then answered without a task, ASGI messages, and the second write that uvicorn makes for a body (`answer_at_once`). All
others, and whatever the hot path hands back, go the way of uvicorn.
"""

import asyncio
from abc import ABC, abstractmethod
from math import inf
from time import monotonic
from typing import Any, Protocol

from starlette.types import ASGIApp
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from serving.gate import GATE, Gate

CLIENT = "flightdeck.client"
HEAD_S = 10.0
BODY_S = 10.0
HEAD_BYTES = 64 << 10
LINGER_S = 0.5
MESSAGE_BYTES = 80 << 20  # whatever the rest is dressed as; `serving.body_limit` discards up to 64 MiB of a body
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class Held(ABC):
    """A request whose head has been taken."""

    __slots__ = ()

    @abstractmethod
    def ask(self) -> ASGIApp | None:
        """Ask for an answer, the body being whole; return who is to answer instead, None for nobody."""

    @abstractmethod
    def late(self) -> ASGIApp:
        """Return who answers when the body does not come in time."""


class HotPath(Protocol):
    """What answers some requests itself; it must not raise."""

    def take(self, cycle: RequestResponseCycle, connection: "BoundedConnection") -> Held | ASGIApp:
        """Take a request by its head, or return who is to answer it."""


class BoundedConnection(HttpToolsProtocol):
    """A connection that is cut when a head takes more than 10 s, or more than 64 KiB and what came with its end."""

    _cut: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _body_bytes = 0
    _is_in_head = False
    _is_ending = False
    _idle_since_s = inf
    _held: Held | None = None
    _late: asyncio.TimerHandle | None = None

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._hot_path: HotPath | None = getattr(self.app, "hot_path", None)

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
        self._wait_for_body()
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
            name = name.lower()
            if name == b"expect" and value.lower() == b"100-continue":
                self.expect_100_continue = True
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Stop waiting: the request is there."""
        self._is_in_head = False
        self._body_bytes = 0
        self._stop_waiting()
        super().on_headers_complete()
        if self._is_ending:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Keep a piece of a body; the length of one that is held was announced, and nobody reads it in pieces."""
        if self._held is None:
            super().on_body(body)
        else:
            self.cycle.body += body

    def on_message_complete(self) -> None:
        """Ask for an answer to the request that is held."""
        super().on_message_complete()
        held = self._held
        if held is not None:
            self._let_go()
            self._ask(self.cycle, held)

    def start(self, cycle: RequestResponseCycle, app: ASGIApp) -> None:
        """Let an application answer a request, in a task; `CLIENT` of the scope says whether the client is gone."""
        cycle.scope[CLIENT] = cycle  # type: ignore[literal-required]
        super()._start_asgi_task(cycle, app)  # type: ignore[arg-type]  # two names of one protocol

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Hold a request that the hot path takes, until its body is there; begin to answer all others."""
        taken = app if self._hot_path is None else self._hot_path.take(cycle, self)
        if not isinstance(taken, Held):
            self.start(cycle, taken)
        elif cycle.more_body:
            self._held = taken
        else:  # it was waiting for the answer to the one before
            self._ask(cycle, taken)

    def _ask(self, cycle: RequestResponseCycle, held: Held) -> None:
        instead = held.ask()
        if instead is not None:
            self.start(cycle, instead)

    def _wait_for_body(self) -> None:
        """Begin to wait for the body of what is held; nearly always it comes with the head, and no timer is needed."""
        if self._held is not None and self._late is None:
            self._late = self.loop.call_later(BODY_S, self._end_waiting_for_body)

    def _let_go(self) -> Held | None:
        """Return what was held, which is so no more."""
        if self._late is not None:
            self._late.cancel()
            self._late = None
        held, self._held = self._held, None
        return held

    def _end_waiting_for_body(self) -> None:
        held = self._let_go()
        if held is not None:
            self.start(self.cycle, held.late())

    def on_response_complete(self) -> None:
        """Go on with what was pipelined, or begin to be idle: what uvicorn does, without a new timer each time."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
            self._wait_for_body()
            return
        self._idle_since_s = monotonic()
        if self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_handler()

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection that has been idle for long enough; else look again when it will have been."""
        left_s = self._idle_since_s + self.timeout_keep_alive - monotonic()
        if left_s <= 0.0:
            super().timeout_keep_alive_handler()
            return
        wait_s = min(left_s, self.timeout_keep_alive)
        self.timeout_keep_alive_task = self.loop.call_later(wait_s, self.timeout_keep_alive_handler)

    def _unset_keepalive_if_required(self) -> None:
        """End to be idle."""
        self._idle_since_s = inf

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
        """Forget the timers, and what was held: nobody waits for it.

        Parser, request and timer know the connection that knows them; what is left here would wait to be found as
        garbage (`serving.interpreter`), 8 KB a connection.
        """
        self._stop_waiting()
        self._let_go()
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
            self.timeout_keep_alive_task = None
        super().connection_lost(exc)
        self.parser = self.cycle = None  # type: ignore[assignment]  # uvicorn begins with such a cycle, too
        self.pipeline.clear()

    def _is_between_requests(self) -> bool:
        """Tell whether what comes next is the begin of a request, and an answer may be written at once."""
        if self._is_ending or self.flow.write_paused:
            return False
        if self.cycle is None:
            return self._head_bytes == 0
        return self.cycle.response_complete and not (self.cycle.more_body or self._is_in_head)

    def _note_refusal(self) -> None:
        """Count the connection as used; one that nothing was parsed of yet begins to be idle."""
        self._stop_waiting()
        self._idle_since_s = monotonic()
        if self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_handler()

    def _wait_for_head(self) -> None:
        self._head_bytes = 0
        self._cut = self.loop.call_later(HEAD_S, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._cut is not None:
            self._cut.cancel()
            self._cut = None


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
