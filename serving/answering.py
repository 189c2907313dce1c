"""A declared route's way to an answer: read the body, ask the batcher, count; whatever protocol the body speaks."""

from collections.abc import Callable
from time import monotonic

from starlette.requests import Request

from serving.access import Access
from serving.batcher import Batcher
from serving.connection import CLIENT
from serving.errors import GONE, RequestRefused
from serving.guard import grant_of
from serving.hot_path import request_id_of
from serving.metrics import NO_SURFACE, Metrics
from serving.service import PredictionService
from serving.wire import Ask
from serving.work import Reply

Reader = Callable[[Request, bytes, str], Ask]
"""Reads a body, with the request's head and id; raises `RequestRefused`."""


class Answering:
    """Answers requests of declared routes.

    Parameters
    ----------
    access, service, batcher, metrics
        What decides and answers.
    """

    def __init__(self, access: Access, service: PredictionService, batcher: Batcher, metrics: Metrics) -> None:
        self._access = access
        self._service = service
        self._batcher = batcher
        self._metrics = metrics

    async def answer(self, request: Request, read: Reader, invalid: int = 422) -> tuple[Reply, dict[str, str]]:
        """Return the reply to a request, and the headers that go with it.

        Parameters
        ----------
        request
            The request.
        read
            Reads its body.
        invalid
            Status by which its protocol refuses a body that breaks a rule.

        Raises
        ------
        RequestRefused
            If the body is no valid request, the key may not ask for its surface, nothing can answer it in time, or the
            client is gone: that is told to nobody and counted nowhere.
        """
        headers = dict(request.scope["headers"])
        request_id = request_id_of(headers)
        body = await request.body()
        surface, arrived_s = NO_SURFACE, monotonic()
        try:
            ask = read(request, body, request_id)
            surface = ask.surface
            self._access.check_surface(grant_of(request.scope), surface)
            question = self._service.question(ask, request_id, arrived_s)
            reply = await self._batcher.answer(question, headers, request.scope.get(CLIENT))
        except RequestRefused as refusal:
            refusal.status = invalid if refusal.status == 422 else refusal.status
            self._metrics.count_request(surface, refusal.status)
            raise
        except Exception:
            self._metrics.count_request(surface, 500)
            raise
        if reply is None:
            raise RequestRefused(GONE, "client_gone", "the client has closed the connection")
        return reply, {"X-Request-ID": request_id, "X-Flightdeck-Mode": reply.mode}


def media_type(request: Request) -> tuple[str, bool]:
    """Return the type of a body in lower case, and whether it is said or implied to be in UTF-8 and nothing more."""
    kind, _, parameters = request.headers.get("content-type", "").partition(";")
    charset = parameters.strip().lower().removeprefix("charset=").strip('"')
    return kind.strip().lower(), charset in ("", "utf-8")
