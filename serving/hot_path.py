"""POST /v1/predictions without a framework and without a task: take the head, decode, wait for the batch, write.

Every other path, and every request that is out of the ordinary here (another content type, a body that breaks a rule),
goes to the FastAPI application, which declares the same route, names all broken rules, and then answers by the same
batcher. Under another server than `serving.connection` it answers everything.
"""

import logging
import re
from collections.abc import Mapping
from functools import partial
from time import monotonic

import msgspec
from starlette.responses import Response
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from flightdeck.core.identifiers import new_request_id
from serving.access import Access, Grant
from serving.batcher import Batcher
from serving.body_limit import MAX_BODY_BYTES, too_slow
from serving.connection import BODY_S, BoundedConnection, Held, answer_at_once
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
        self.behind = behind
        self.access = access
        self.service = service
        self.batcher = batcher
        self.metrics = metrics

    def take(self, cycle: RequestResponseCycle, connection: BoundedConnection) -> "HotRequest | ASGIApp":
        """Take a request by its head if its key allows it, or return who is to answer it."""
        scope = cycle.scope
        if scope["path"] != PATH or scope["method"] != "POST":
            return self.behind
        headers = dict(scope["headers"])
        try:
            grant = self.access.admit(headers, PREDICT)
        except RequestRefused as refusal:
            return partial(refuse, refusal)
        scope[GRANT] = grant  # type: ignore[literal-required]  # ours, for who answers instead
        if not _is_plain(headers) or cycle.waiting_for_100_continue:
            return self.behind
        return HotRequest(self, connection, cycle, headers, grant)


class HotRequest(Held):
    """One request for predictions, from its head to its answer.

    Parameters
    ----------
    path
        What it was taken by.
    connection, cycle
        Where it came from, and uvicorn's account of it: that keeps the body, for who answers instead.
    headers
        Its headers, names in lower case.
    grant
        What its key may.
    """

    __slots__ = ("_connection", "_cycle", "_grant", "_headers", "_path", "_request_id", "_surface")

    def __init__(
        self,
        path: HotPath,
        connection: BoundedConnection,
        cycle: RequestResponseCycle,
        headers: Mapping[bytes, bytes],
        grant: Grant,
    ) -> None:
        self._path = path
        self._connection = connection
        self._cycle = cycle
        self._headers = headers
        self._grant = grant
        self._surface = NO_SURFACE
        self._request_id = ""

    @property
    def is_gone(self) -> bool:
        """Whether the client is gone."""
        return self._cycle.disconnected

    def late(self) -> ASGIApp:
        """Return who answers when the body does not come in time."""
        return too_slow(BODY_S).response()

    def ask(self) -> ASGIApp | None:
        """Ask the batcher; return who is to answer instead, None if the answer comes by `give`."""
        path = self._path
        arrived_s = monotonic()
        try:
            ask = decode(self._cycle.body)
            self._surface = ask.surface
            path.access.check_surface(self._grant, ask.surface)
            self._request_id = request_id_of(self._headers)
            question = path.service.question(ask, self._request_id, arrived_s)
            path.batcher.ask(question, self._headers, self)
        except Exception as error:  # noqa: BLE001 - an edge of the process: nothing behind it would count or describe it
            return self._instead(error)
        return None

    def give(self, outcome: Reply | Exception) -> None:
        """Send the reply, or let somebody answer instead."""
        if isinstance(outcome, Exception):
            self._connection.start(self._cycle, self._instead(outcome))
            return
        head = _HEAD % (self._request_id.encode(), outcome.mode.encode())
        if not answer_at_once(self._cycle, head, outcome.body):
            headers = {"x-request-id": self._request_id, "x-flightdeck-mode": outcome.mode}
            response = Response(outcome.body, headers=headers, media_type="application/json")
            self._connection.start(self._cycle, response)

    def _instead(self, error: Exception) -> ASGIApp:
        """Return who answers a request that has no reply."""
        if isinstance(error, msgspec.DecodeError | UnicodeDecodeError | RecursionError | TimesBroken):
            return self._path.behind
        if not isinstance(error, RequestRefused):
            _log.error("answering a request failed", exc_info=error)
            error = internal_error()
        self._path.metrics.count_request(self._surface, error.status)
        return error.response()


def request_id_of(headers: Mapping[bytes, bytes]) -> str:
    """Return the client's `X-Request-ID` if it is 8 to 64 letters, digits or hyphens, else a new one."""
    given = headers.get(b"x-request-id")
    if given is not None and _REQUEST_ID.fullmatch(given):
        return given.decode()
    return new_request_id()


def _is_plain(headers: Mapping[bytes, bytes]) -> bool:
    """Tell whether a body is announced as uncompressed JSON of a size that is allowed."""
    if headers.get(b"content-type", b"").lower() not in _PLAIN or b"content-encoding" in headers:
        return False
    n_bytes = headers.get(b"content-length", b"")
    return 0 < len(n_bytes) < _DIGITS or (len(n_bytes) == _DIGITS and n_bytes <= b"%d" % MAX_BODY_BYTES)
