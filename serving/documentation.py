"""The interface described: OpenAPI document, and a page at /docs that needs no network.

FastAPI's own page loads its program from a content delivery network; a machine without one would show a blank page.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from starlette.responses import HTMLResponse

from serving.docs_page import render_page
from serving.guard import OPEN
from serving.schemas import ErrorAnswer, PredictionAnswer, PredictionRequest

TITLE = "Flightdeck predictions"
VERSION = "1"
DESCRIPTION = """\
The probability that a flight arrives 15 minutes late or more, or not at all.

**The service always answers**, by the best means at hand; `mode` says which, `reason` why not a better one:

- `model`: the released model with features from the live event stream;
- `fallback`: a small model that needs the schedule only (the online store is away or stale, or the model failed);
- `rules`: the late rate of the carrier at that hour (the fallback failed too);
- `refused`: nothing could answer this item; its probability is null. If that holds for all items: 503.

A share of the units may be answered by a new version on trial, `arm` says `canary`; the same `unit_id` always meets the
same arm, and where the canary fails the champion answers.

Unless the service is bound to loopback, everything but the probes needs an **API key**, as `Authorization: Bearer` or
`X-API-Key`: one of role `predict` for predictions, one of role `operate` for metrics and the details of `/readyz`,
either for the rest. The same question can be asked in the **Open Inference Protocol** (`/v2`) and in **MLflow's scoring
protocol** (`/invocations`); both are answered like `/v1/predictions`.
"""
EXAMPLE = {
    "surface": "search",
    "unit_id": "traveller-4711",
    "flights": [
        {
            "carrier": "UA",
            "flight_number": 1545,
            "origin": "EWR",
            "dest": "IAH",
            "scheduled_departure": "2013-09-12T17:05:00-04:00",
            "scheduled_arrival": "2013-09-12T20:13:00-05:00",
            "distance_miles": 1400,
            "tailnum": "N14228",
        }
    ],
}
ERRORS = {
    400: "Not JSON that the service reads: nested too deeply, a number of thousands of digits",
    408: "The body took more than 10 s to arrive",
    413: "The body is larger than 1 MB",
    415: "Not application/json in UTF-8, or compressed",
    422: "The body breaks a rule; all broken rules are listed, what was sent is not repeated",
    503: "Nothing can answer: no release, or every rung failed. See Retry-After and next_step",
}


_KEYS: list[dict[str, list[str]]] = [{"bearer": []}, {"header": []}]
_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}
_ACCESS = {
    401: "No valid API key (only where the service asks for one)",
    403: "The role of the key, or its surfaces, do not allow this",
    429: "The key asks more often than it may. See Retry-After",
}
_HEADERS = [
    {
        "name": "X-Request-ID",
        "in": "header",
        "description": "8 to 64 letters, digits or hyphens, given back and logged; else a new one",
        "schema": {"type": "string"},
    },
    {
        "name": "X-Request-Timeout-Ms",
        "in": "header",
        "description": "Milliseconds within which the answer is worth something, held to the bounds of the surface",
        "schema": {"type": "number"},
    },
]


def body_of(kinds: Mapping[str, tuple[type[BaseModel] | None, object]]) -> dict[str, Any]:
    """Return how a route's body is documented that is validated by hand, from the raw bytes.

    Parameters
    ----------
    kinds
        Model (None: text) and example by media type.
    """
    content: dict[str, Any] = {}
    for kind, (model, example) in kinds.items():
        schema: dict[str, Any] = {"type": "string"}
        if model is not None:
            schema = {"$ref": f"#/components/schemas/{model.__name__}"}
        content[kind] = {"schema": schema, "example": example}
    return {"requestBody": {"required": True, "content": content}, "parameters": _HEADERS}


def prediction_route() -> dict[str, Any]:
    """Return how the prediction route is documented."""
    return {
        "tags": ["predictions"],
        "summary": "Predict one to 500 flights",
        "responses": {
            200: {"model": PredictionAnswer, "description": "All items answered, in the order of the request"},
            **{status: {"model": ErrorAnswer, "description": text} for status, text in ERRORS.items()},
        },
        "openapi_extra": body_of({"application/json": (PredictionRequest, EXAMPLE)}),
    }


def install_documentation(app: FastAPI, requests: Sequence[type[BaseModel]]) -> None:
    """Complete the OpenAPI document of `app` by schemas of requests and by access, and serve the page.

    Parameters
    ----------
    app
        The application.
    requests
        Models of the bodies that routes name with `body_of`.
    """
    document: dict[str, Any] = {}

    def openapi() -> dict[str, Any]:
        if not document:
            document.update(
                get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            )
            models: list[type[BaseModel]] = [*requests, ErrorAnswer]
            for model in models:
                schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
                document["components"]["schemas"].update({**schema.pop("$defs", {}), model.__name__: schema})
            _describe_access(document)
        return document

    app.openapi = openapi  # type: ignore[method-assign]

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(render_page(openapi()))


def _describe_access(document: dict[str, Any]) -> None:
    """Say of each operation but the open ones that it may need a key, and what happens without."""
    document["components"]["securitySchemes"] = _SCHEMES
    for path, operations in document["paths"].items():
        error = "InferError" if path == "/v2" or path.startswith("/v2/") else "ErrorAnswer"
        content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{error}"}}}
        for operation in operations.values():
            if path != "/v1/predictions":
                operation["responses"].pop("422", None)  # FastAPI's, for parameters of a path that are any text
            if path not in OPEN:
                operation["security"] = [*_KEYS, {}]
                for status, text in _ACCESS.items():
                    operation["responses"][str(status)] = {"description": text, "content": content}
