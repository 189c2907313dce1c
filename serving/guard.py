"""In front of every declared route: no answer without a key that may have it, except to the probes of the machinery.

Pure ASGI on purpose, and outside of the body limit: whoever may not ask does not get their body read.
"""

from starlette.types import ASGIApp, Receive, Scope, Send

from flightdeck.inference.api_keys import Role
from serving.access import BOTH, Access, Grant
from serving.body_limit import WITH_BODY, discard
from serving.errors import RequestRefused

GRANT = "flightdeck.grant"
PREDICT, OPERATE = frozenset([Role.PREDICT]), frozenset([Role.OPERATE])
OPEN = frozenset(["/healthz", "/readyz", "/v2/health/live", "/v2/health/ready", "/ping", "/health"])
_ROLES = {
    "/v1/predictions": PREDICT,
    "/invocations": PREDICT,
    "/v2": BOTH,
    "/version": BOTH,
    "/docs": BOTH,
    "/openapi.json": BOTH,
}
_SMALL_BYTES = 64 << 10


class Guard:
    """Lets a request through to the application behind if its key allows it.

    Parameters
    ----------
    app
        The application behind; it finds the grant in the scope, see `grant_of`.
    access
        Decides.
    """

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one ASGI connection."""
        if scope["type"] == "http" and GRANT not in scope:
            headers, path = dict(scope["headers"]), scope["path"]
            try:
                scope[GRANT] = (
                    self._access.recognise(headers)
                    if path in OPEN
                    else self._access.admit(headers, needed_roles(scope["method"], path))
                )
            except RequestRefused as refusal:
                await refuse(refusal, scope, receive, send)
                return
        await self._app(scope, receive, send)


def needed_roles(method: str, path: str) -> frozenset[Role]:
    """Return the roles of which a key needs one; whatever is not named here is for `operate`."""
    if path.startswith("/v2/"):
        return PREDICT if method == "POST" else BOTH
    return _ROLES.get(path, OPERATE)


def grant_of(scope: Scope) -> Grant:
    """Return what the sender of a request that came through the guard may."""
    grant: Grant = scope[GRANT]
    return grant


async def refuse(refusal: RequestRefused, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request whose body is not wanted; a large one is thrown away and its connection closed."""
    if scope["method"] in WITH_BODY and not _is_small(dict(scope["headers"])):
        await discard(receive)
        refusal.headers["Connection"] = "close"
    await refusal.response(scope["path"])(scope, receive, send)


def _is_small(headers: dict[bytes, bytes]) -> bool:
    announced = headers.get(b"content-length", b"")
    return len(announced) < 10 and announced.isdigit() and int(announced) <= _SMALL_BYTES
