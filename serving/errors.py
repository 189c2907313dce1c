"""Every refusal as one JSON form. What the client sent is never echoed: not all of it can be written as JSON again.

Below `/v2` the form is that of the Open Inference Protocol: one text.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

MAX_VIOLATIONS = 20
MAX_TEXT = 160
GONE = 499  # nobody hears it; no answer of ours has this status
UNKNOWN_FIELD = "<unknown field>"
DOCS = "see /docs for the fields, their units and an example"
_PARSER_LIMITS = ("recursion limit", "number out of range")


class RequestRefused(Exception):
    """A request that is not answered.

    Parameters
    ----------
    status
        HTTP status.
    code
        Machine-readable name of the rule.
    message
        The rule.
    next_step
        What the client can do.
    violations
        (where, rule) of each broken rule.
    headers
        More headers of the answer.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        next_step: str = DOCS,
        violations: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.next_step = next_step
        self.violations = violations
        self.headers = dict(headers or {})

    def response(self, path: str = "") -> Response:
        """Return the answer that says so to a request for `path`, in ASCII: it can always be encoded."""
        shown = [{"where": where[:MAX_TEXT], "rule": rule[:MAX_TEXT]} for where, rule in self.violations]
        problem = {
            "code": self.code,
            "message": self.message,
            "next_step": self.next_step,
            "violations": shown[:MAX_VIOLATIONS],
        }
        is_v2 = path == "/v2" or path.startswith("/v2/")
        body = json.dumps({"error": _in_words(problem) if is_v2 else problem}, ensure_ascii=True, allow_nan=False)
        return Response(body.encode(), self.status, self.headers, media_type="application/json")


def _in_words(problem: dict[str, Any]) -> str:
    rules = "".join(f"; {violation['where']}: {violation['rule']}" for violation in problem["violations"])
    return f"{problem['message']}{rules}. Next step: {problem['next_step']}"


def refuse_invalid(error: ValidationError) -> RequestRefused:
    """Return the refusal of a body that is no valid request: 400 beyond the parser's limits, else 422."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    violations = [(_where(entry["type"], entry["loc"]) or "body", entry["msg"]) for entry in found]
    beyond = any(
        limit in rule for _, rule in violations for limit in _PARSER_LIMITS if found[0]["type"] == "json_invalid"
    )
    message = "the body is not JSON that this service reads" if beyond else "the body breaks a rule of the request"
    return RequestRefused(400 if beyond else 422, "invalid_request", message, violations=violations)


def internal_error() -> RequestRefused:
    """Return the answer to a request that failed by a defect of ours."""
    return RequestRefused(
        500, "internal_error", "the service failed; it is logged", next_step="try again; report it if it stays"
    )


def install_error_handlers(app: FastAPI) -> None:
    """Give every error of `app` the one JSON form."""

    async def refused(request: Request, error: Exception) -> Response:
        refusal = error if isinstance(error, RequestRefused) else internal_error()
        return refusal.response(request.scope["path"])

    async def http_error(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        headers = error.headers if isinstance(error, HTTPException) else None
        text = {404: "no such path", 405: "this path does not take this method"}.get(status, "the request is refused")
        return RequestRefused(status, "http_error", text, headers=headers).response(request.scope["path"])

    async def invalid(request: Request, error: Exception) -> Response:
        found = error.errors() if isinstance(error, RequestValidationError) else []
        violations = [(_where(entry["type"], entry["loc"]), str(entry["msg"])) for entry in found]
        refusal = RequestRefused(422, "invalid_request", "the request breaks a rule", violations=violations)
        return refusal.response(request.scope["path"])

    async def failed(request: Request, _: Exception) -> Response:
        return internal_error().response(request.scope["path"])

    app.add_exception_handler(RequestRefused, refused)
    app.add_exception_handler(HTTPException, http_error)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(Exception, failed)


def _where(kind: str, loc: Sequence[int | str]) -> str:
    """Return the path to a broken rule; the name of an unknown field is the client's and is left out."""
    known = (*loc[:-1], UNKNOWN_FIELD) if kind == "extra_forbidden" else loc
    return ".".join(map(str, known))
