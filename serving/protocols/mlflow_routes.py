"""Routes of MLflow's scoring protocol."""

from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from serving.answering import Answering
from serving.documentation import ERRORS, EXAMPLE, VERSION, body_of
from serving.protocols.mlflow_schemas import Invocation, InvocationAnswer
from serving.protocols.mlflow_scoring import CSV, JSON, ask_of, write_answer
from serving.protocols.question import INVALID, ProtocolSettings
from serving.release_watch import ReleaseWatch
from serving.schemas import ErrorAnswer
from serving.wire import Ask

TAG = "MLflow scoring protocol"
INVOCATION = {
    "dataframe_records": EXAMPLE["flights"],
    "params": {"surface": EXAMPLE["surface"], "unit_id": EXAMPLE["unit_id"]},
}
LINES = """\
carrier,flight_number,origin,dest,scheduled_departure,scheduled_arrival,distance_miles,tailnum
UA,1545,EWR,IAH,2013-09-12T17:05:00-04:00,2013-09-12T20:13:00-05:00,1400,N14228
"""


def add_mlflow_scoring(app: FastAPI, watch: ReleaseWatch, answering: Answering, settings: ProtocolSettings) -> None:
    """Add the routes to `app`."""
    errors = {status: text for status, text in ERRORS.items() if status != 422}
    errors |= {400: "The body breaks a rule; all broken rules are listed", 415: "Neither JSON nor CSV in UTF-8"}
    responses: dict[int | str, dict[str, Any]] = {
        200: {"model": InvocationAnswer, "description": "All items answered, in the order of the request"},
        **{status: {"model": ErrorAnswer, "description": text} for status, text in errors.items()},
    }

    @app.post(
        "/invocations",
        tags=[TAG],
        summary="Predict one to 500 flights, as a table",
        responses=responses,
        openapi_extra=body_of({JSON: (Invocation, INVOCATION), CSV: (None, LINES)}),
    )
    async def invocations(request: Request) -> Response:
        def read(request: Request, body: bytes, request_id: str) -> Ask:
            return ask_of(request, body, settings, request_id)

        reply, headers = await answering.answer(request, read, INVALID)
        return Response(write_answer(reply.body), headers=headers, media_type=JSON)

    async def ping() -> Response:
        return PlainTextResponse("\n", 200 if watch.live.champion is not None else 503)

    for path in ("/ping", "/health"):
        app.get(
            path,
            tags=[TAG],
            summary="A champion is loaded",
            response_class=PlainTextResponse,
            responses={503: {"description": "Not ready: see /readyz", "content": {"text/plain": {}}}},
        )(ping)

    @app.get("/version", tags=[TAG], summary="Version of this interface", response_class=PlainTextResponse)
    async def version() -> Response:
        return PlainTextResponse(VERSION)
