"""The interface described: OpenAPI document, and a page at /docs that needs no network.

FastAPI's own page loads its program from a content delivery network; a machine without one would show a blank page.
"""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.responses import HTMLResponse

from serving.docs_page import render_page
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
_ERRORS = {
    400: "Not JSON that the service reads: nested too deeply, a number of thousands of digits",
    408: "The body took more than 10 s to arrive",
    413: "The body is larger than 1 MB",
    415: "Not application/json in UTF-8, or compressed",
    422: "The body breaks a rule; all broken rules are listed, what was sent is not repeated",
    503: "Nothing can answer: no release, or every rung failed. See Retry-After and next_step",
}


def prediction_route() -> dict[str, Any]:
    """Return how the prediction route is documented; its body is validated by hand, from the raw bytes."""
    content = {"schema": {"$ref": "#/components/schemas/PredictionRequest"}, "example": EXAMPLE}
    return {
        "tags": ["predictions"],
        "summary": "Predict one to 500 flights",
        "responses": {
            200: {"model": PredictionAnswer, "description": "All items answered, in the order of the request"},
            **{status: {"model": ErrorAnswer, "description": text} for status, text in _ERRORS.items()},
        },
        "openapi_extra": {"requestBody": {"required": True, "content": {"application/json": content}}},
    }


def install_documentation(app: FastAPI) -> None:
    """Complete the OpenAPI document of `app` by the request's schema and serve the page."""
    document: dict[str, Any] = {}

    def openapi() -> dict[str, Any]:
        if not document:
            document.update(
                get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            )
            schema = PredictionRequest.model_json_schema(ref_template="#/components/schemas/{model}")
            parts = schema.pop("$defs")
            document["components"]["schemas"].update({**parts, "PredictionRequest": schema})
        return document

    app.openapi = openapi  # type: ignore[method-assign]

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(render_page(openapi()))
