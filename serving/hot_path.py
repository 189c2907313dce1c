"""POST /v1/predictions without a framework: read, decode, wait for the batch, send.

Every other path, and every request that is out of the ordinary here (another content type, a body in pieces, a body
that breaks a rule), goes to the FastAPI application behind, which declares the same route, names all broken rules, and
then answers by the same batcher. Pure ASGI: a Starlette `BaseHTTPMiddleware` would hide disconnects.
"""

import asyncio
import logging
import re
from time import monotonic

import msgspec
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flightdeck.core.identifiers import new_request_id
from serving.access import Access
from serving.batcher import Batcher
from serving.body_limit import MAX_BODY_BYTES, MAX_BODY_S, too_slow
from serving.connection import answer_at_once, cycle_of, take_body
from serving.errors import RequestRefused, internal_error
from serving.guard import GRANT, PREDICT, refuse
from serving.metrics import NO_SURFACE, Metrics
from serving.service import PredictionService, TimesBroken
from serving.wire import decode
from serving.work import Reply

PATH = "/v1/predictions"
_PLAIN = (b"application/json", b"application/json; charset=utf-8")
_REQUEST_ID = re.compile(rb"[A-Za-z0-9-]{8,64}")
_DIGITS = len(str(MAX_BODY_BYTES))
_log = logging.getLogger(__name__)
_START = "http.response.start"
_HEAD = b"content-type: application/json\r\nx-request-id: %b\r\nx-flightdeck-mode: %b\r\n"


class HotPath:
    """Answers predictions; hands everything else on.

    Parameters
    ----------
    behind
        The application that answers whatever is not answered here.
    access, service, batcher, metrics
        What decides and answers.
    """

    def __init__(
        self, behind: ASGIApp, access: Access, service: PredictionService, batcher: Batcher, metrics: Metrics
    ) -> None:
        self._behind = behind
        self._access = access
        self._service = service
        self._batcher = batcher
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one ASGI request."""
        if scope["type"] != "http" or scope["path"] != PATH or scope["method"] != "POST":
            await self._behind(scope, receive, send)
            return
        headers = dict(scope["headers"])
        try:
            grant = scope[GRANT] = self._access.admit(headers, PREDICT)
        except RequestRefused as refusal:
            await refuse(refusal, scope, receive, send)
            return
        if not _is_plain(headers):
            await self._behind(scope, receive, send)
            return
        cycle = cycle_of(receive)
        message = None if cycle is None else take_body(cycle)
        try:
            message = message or await _first_message(receive)
        except TimeoutError:
            await too_slow(MAX_BODY_S).response()(scope, receive, send)
            return
        body = message.get("body", b"")
        if message["type"] != "http.request" or message.get("more_body") or len(body) > MAX_BODY_BYTES:
            await self._behind(scope, _again(message, receive), send)
            return
        surface, arrived_s = NO_SURFACE, monotonic()
        try:
            ask = decode(body)
            surface = ask.surface
            self._access.check_surface(grant, surface)
            request_id = request_id_of(headers)
            question = self._service.question(ask, request_id, arrived_s)
            reply = await self._batcher.answer(question, headers, cycle)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, TimesBroken):
            await self._behind(scope, _again(message, receive), send)
            return
        except RequestRefused as refusal:
            self._metrics.count_request(surface, refusal.status)
            await refusal.response()(scope, receive, send)
            return
        except Exception:  # noqa: BLE001 - an edge of the process: nothing behind it would count or describe the error
            _log.exception("answering a request failed")
            self._metrics.count_request(surface, 500)
            await internal_error().response()(scope, receive, send)
            return
        if reply is None:  # the client is gone
            return
        self._metrics.count_request(surface, 200, monotonic() - arrived_s)
        if cycle is None or not answer_at_once(cycle, _HEAD % (request_id.encode(), reply.mode.encode()), reply.body):
            await _send(send, reply, request_id)


def request_id_of(headers: dict[bytes, bytes]) -> str:
    """Return the client's `X-Request-ID` if it is 8 to 64 letters, digits or hyphens, else a new one."""
    given = headers.get(b"x-request-id")
    if given is not None and _REQUEST_ID.fullmatch(given):
        return given.decode()
    return new_request_id()


def _is_plain(headers: dict[bytes, bytes]) -> bool:
    """Tell whether a body is announced as uncompressed JSON of a size that is read at once."""
    if headers.get(b"content-type", b"").lower() not in _PLAIN or b"content-encoding" in headers:
        return False
    n_bytes = headers.get(b"content-length", b"")
    return len(n_bytes) < _DIGITS or (len(n_bytes) == _DIGITS and n_bytes <= b"%d" % MAX_BODY_BYTES)


async def _first_message(receive: Receive) -> Message:
    """Return the first message.

    Raises
    ------
    TimeoutError
        If none comes in time: a client may announce a body and never send it.
    """
    async with asyncio.timeout(MAX_BODY_S):
        return await receive()


def _again(first: Message, receive: Receive) -> Receive:
    """Return a `receive` that gives a message again before it goes on."""
    waiting = [first]

    async def replay() -> Message:
        return waiting.pop() if waiting else await receive()

    return replay


async def _send(send: Send, reply: Reply, request_id: str) -> None:
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(reply.body)),
        (b"x-request-id", request_id.encode()),
        (b"x-flightdeck-mode", reply.mode.encode()),
    ]
    await send({"type": _START, "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})
