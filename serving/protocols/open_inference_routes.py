"""Routes of the Open Inference Protocol, version 2."""

from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from serving.answering import Answering
from serving.documentation import ERRORS, TITLE, VERSION, body_of
from serving.errors import RequestRefused
from serving.protocols import open_inference_schemas as schemas
from serving.protocols.open_inference import INPUTS, OUTPUTS, ask_of, read_infer, write_answer
from serving.protocols.question import INVALID, ProtocolSettings
from serving.release_watch import LiveReleases, ReleaseWatch
from serving.wire import Ask

TAG = "Open Inference Protocol"
EXAMPLE = {
    "parameters": {"surface": "search", "unit_id": "traveller-4711"},
    "inputs": [
        {"name": "carrier", "shape": [1], "datatype": "BYTES", "data": ["UA"]},
        {"name": "flight_number", "shape": [1], "datatype": "INT64", "data": [1545]},
        {"name": "origin", "shape": [1], "datatype": "BYTES", "data": ["EWR"]},
        {"name": "dest", "shape": [1], "datatype": "BYTES", "data": ["IAH"]},
        {"name": "scheduled_departure", "shape": [1], "datatype": "BYTES", "data": ["2013-09-12T17:05:00-04:00"]},
        {"name": "scheduled_arrival", "shape": [1], "datatype": "BYTES", "data": ["2013-09-12T20:13:00-05:00"]},
        {"name": "distance_miles", "shape": [1], "datatype": "INT64", "data": [1400]},
        {"name": "tailnum", "shape": [1], "datatype": "BYTES", "data": ["N14228"]},
    ],
}
_JSON = "application/json"
_Responses = dict[int | str, dict[str, Any]]
_UNKNOWN: _Responses = {404: {"model": schemas.InferError, "description": "No such model is loaded"}}
_NOT_READY = "Not ready (the protocol wants a 4xx)"


def add_open_inference(app: FastAPI, watch: ReleaseWatch, answering: Answering, settings: ProtocolSettings) -> None:
    """Add the routes to `app`."""
    _add_health(app, watch)
    _add_metadata(app, watch)
    _add_inference(app, watch, answering, settings)


def _add_health(app: FastAPI, watch: ReleaseWatch) -> None:
    @app.get("/v2/health/live", tags=[TAG], summary="The process runs", response_model=schemas.Live)
    async def live() -> schemas.Live:
        return schemas.Live(live=True)

    @app.get(
        "/v2/health/ready",
        tags=[TAG],
        summary="A champion is loaded",
        response_model=schemas.Ready,
        responses={400: {"model": schemas.Ready, "description": _NOT_READY}},
    )
    async def ready(response: Response) -> schemas.Ready:
        is_ready = watch.live.champion is not None
        response.status_code = 200 if is_ready else 400
        return schemas.Ready(ready=is_ready)


def _add_metadata(app: FastAPI, watch: ReleaseWatch) -> None:
    @app.get("/v2", tags=[TAG], summary="The server", response_model=schemas.ServerMetadata)
    async def server() -> schemas.ServerMetadata:
        return schemas.ServerMetadata(name=TITLE, version=VERSION, extensions=[])

    @app.get("/v2/models/{name}", tags=[TAG], summary="A model", responses=_UNKNOWN)
    async def model(name: str) -> schemas.ModelMetadata:
        return _metadata(name, _versions(watch.live, name))

    @app.get("/v2/models/{name}/versions/{version}", tags=[TAG], summary="A version of a model", responses=_UNKNOWN)
    async def model_version(name: str, version: str) -> schemas.ModelMetadata:
        return _metadata(name, _versions(watch.live, name, version))

    @app.get("/v2/models/{name}/ready", tags=[TAG], summary="A model is loaded", responses=_UNKNOWN)
    async def model_ready(name: str) -> schemas.ModelReady:
        _versions(watch.live, name)
        return schemas.ModelReady(name=name, ready=True)

    @app.get(
        "/v2/models/{name}/versions/{version}/ready",
        tags=[TAG],
        summary="A version of a model is loaded",
        responses=_UNKNOWN,
    )
    async def version_ready(name: str, version: str) -> schemas.ModelReady:
        _versions(watch.live, name, version)
        return schemas.ModelReady(name=name, ready=True)


def _add_inference(app: FastAPI, watch: ReleaseWatch, answering: Answering, settings: ProtocolSettings) -> None:
    errors = {status: text for status, text in ERRORS.items() if status != 422}
    responses: _Responses = {
        200: {"model": schemas.InferAnswer, "description": "All items answered, in the order of the request"},
        **{status: {"model": schemas.InferError, "description": text} for status, text in errors.items()},
        400: {"model": schemas.InferError, "description": "The body breaks a rule; all broken rules are named"},
        **_UNKNOWN,
    }

    @app.post(
        "/v2/models/{name}/infer",
        tags=[TAG],
        summary="Predict one to 500 flights, one tensor a field",
        responses=responses,
        openapi_extra=body_of({_JSON: (schemas.InferRequest, EXAMPLE)}),
    )
    async def infer(name: str, request: Request) -> Response:
        _versions(watch.live, name)
        found: list[schemas.InferRequest] = []

        def read(request: Request, body: bytes, request_id: str) -> Ask:
            found.append(read_infer(request, body))
            return ask_of(found[0], settings, request_id)

        reply, headers = await answering.answer(request, read, INVALID)
        return Response(write_answer(name, found[0], reply.body), headers=headers, media_type=_JSON)


def _versions(live: LiveReleases, name: str, version: str | None = None) -> list[str]:
    """Return the loaded versions of a model, or the one that is asked for.

    Raises
    ------
    RequestRefused
        404 if there is none.
    """
    loaded = {str(release.version) for _, release in live.loaded if release.bundle.manifest.name == name}
    if not loaded or (version is not None and version not in loaded):
        raise RequestRefused(
            404, "no_such_model", "no such model or version is loaded", next_step="see releases in /readyz"
        )
    return sorted(loaded, key=int) if version is None else [version]


def _metadata(name: str, versions: list[str]) -> schemas.ModelMetadata:
    inputs, outputs = (
        [schemas.TensorMetadata(name=tensor, datatype=datatype, shape=[-1]) for tensor, datatype in tensors.items()]
        for tensors in (INPUTS, OUTPUTS)
    )
    return schemas.ModelMetadata(name=name, versions=versions, platform="onnx", inputs=inputs, outputs=outputs)
