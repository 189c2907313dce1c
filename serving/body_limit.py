"""Bounds on a request's body, before anything parses it: size, time and encoding.

Pure ASGI on purpose: a Starlette `BaseHTTPMiddleware` would hide disconnects from the application.
"""

import asyncio
from contextlib import suppress

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.errors import RequestRefused

MAX_BODY_BYTES = 1 << 20
MAX_BODY_S = 10.0
DISCARD_BYTES, DISCARD_S = 64 << 20, 2.0
WITH_BODY = ("POST", "PUT", "PATCH")


class BodyLimit:
    """Reads a body of at most `max_bytes` within `max_s`, then lets the application have it in one piece.

    Parameters
    ----------
    app
        The application behind.
    max_bytes
        Largest body in bytes: beyond it 413, as soon as it is known.
    max_s
        Longest time in seconds that a body may take to arrive: beyond it 408.
    """

    def __init__(self, app: ASGIApp, max_bytes: int = MAX_BODY_BYTES, max_s: float = MAX_BODY_S) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._max_s = max_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one ASGI connection."""
        if scope["type"] != "http" or scope["method"] not in WITH_BODY:
            await self._app(scope, receive, send)
            return
        try:
            body = await self._read(dict(scope["headers"]), receive)
        except RequestRefused as refusal:
            await discard(receive)
            await refusal.response(scope["path"])(scope, receive, send)
            return
        if body is None:
            return
        whole: Message = {"type": "http.request", "body": body, "more_body": False}
        is_given = False

        async def replay() -> Message:
            nonlocal is_given
            if is_given:
                return await receive()
            is_given = True
            return whole

        await self._app(scope, replay, send)

    async def _read(self, headers: dict[bytes, bytes], receive: Receive) -> bytes | None:
        """Return the whole body, None if the client is gone."""
        if headers.get(b"content-encoding", b"identity").strip().lower() != b"identity":
            raise _refusal(415, "unsupported_encoding", "a body is sent without Content-Encoding")
        announced = headers.get(b"content-length", b"0")
        if announced.isdigit() and int(announced[:20]) > self._max_bytes:
            raise self._too_large()
        chunks: list[bytes] = []
        n_bytes = 0
        try:
            async with asyncio.timeout(self._max_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    chunk = message.get("body", b"")
                    n_bytes += len(chunk)
                    if n_bytes > self._max_bytes:
                        raise self._too_large()
                    chunks.append(chunk)
                    if not message.get("more_body", False):
                        return b"".join(chunks)
        except TimeoutError as error:
            raise too_slow(self._max_s) from error

    def _too_large(self) -> RequestRefused:
        return _refusal(413, "body_too_large", f"a body has at most {self._max_bytes:,} bytes: send fewer flights")


def too_slow(max_s: float) -> RequestRefused:
    """Return the refusal of a body that did not arrive in time."""
    return _refusal(408, "body_too_slow", f"a body arrives within {max_s:g} s")


async def discard(receive: Receive) -> None:
    """Throw some of the rest of a body away.

    Closing a connection on a client that is still sending would reset it, and the client would never see the answer.
    """
    n_bytes = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(DISCARD_S):
            while n_bytes < DISCARD_BYTES:
                message = await receive()
                n_bytes += len(message.get("body", b""))
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return


def _refusal(status: int, code: str, message: str) -> RequestRefused:
    """Return a refusal that closes the connection: the rest of the body is not read."""
    return RequestRefused(status, code, message, headers={"Connection": "close"})
