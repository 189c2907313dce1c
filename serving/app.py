"""The FastAPI application: routes, life cycle, background tasks. `start_app` is what uvicorn calls.

Predictions are answered before FastAPI sees them (`serving.hot_path`); it describes them, judges what is out of the
ordinary, and answers everything else.
"""

import asyncio
import logging
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from time import monotonic
from typing import Any

import click
import msgspec
from fastapi import FastAPI, Request
from pydantic import ValidationError
from starlette.responses import PlainTextResponse, Response
from uvicorn.config import STARTUP_FAILURE

from flightdeck.core.clock import SystemClock
from flightdeck.core.errors import FlightdeckError
from flightdeck.inference.api_keys import Role
from serving import interpreter
from serving.answering import Answering, media_type
from serving.body_limit import BodyLimit
from serving.documentation import DESCRIPTION, TITLE, VERSION, install_documentation, prediction_route
from serving.errors import RequestRefused, install_error_handlers, refuse_invalid
from serving.gate import GATE, Gate
from serving.guard import Guard, grant_of
from serving.hot_path import HotPath
from serving.metric_files import FOLDER
from serving.parts import Parts, build_parts
from serving.protocols.mlflow_routes import add_mlflow_scoring
from serving.protocols.mlflow_schemas import Invocation
from serving.protocols.open_inference_routes import add_open_inference
from serving.protocols.open_inference_schemas import InferRequest
from serving.protocols.question import read_protocols
from serving.readiness import describe_readiness
from serving.release_watch import POLL_S
from serving.schemas import PredictionRequest
from serving.settings import ServingSettings, read_settings
from serving.warm_up import warm_up
from serving.wire import Ask, from_model
from serving.workers import supervisor_pid, watch_loop

SYNC_S, LOOK_S, SAVE_S = 0.5, 0.25, 10.0
JSON = "application/json"
_log = logging.getLogger(__name__)


class Application(FastAPI):
    """FastAPI with what answers predictions ahead of it, where `serving.connection` serves it."""

    hot_path: HotPath | None = None


def create_app(settings: ServingSettings | None = None) -> FastAPI:
    """Return the application of one worker.

    Parameters
    ----------
    settings
        Default: what the environment says.

    Raises
    ------
    ConfigError
        If environment or configuration is wrong.
    """
    parts = build_parts(settings or read_settings())

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, Any]]:
        await _follow_once(parts)
        interpreter.settle()
        tasks = [asyncio.create_task(task) for task in _background(parts)]
        yield {GATE: Gate(parts.scheduler, parts.metrics)}
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        parts.close()

    app = Application(
        title=TITLE, version=VERSION, description=DESCRIPTION, lifespan=lifespan, docs_url=None, redoc_url=None
    )
    app.add_middleware(BodyLimit)
    app.add_middleware(Guard, access=parts.access)
    install_error_handlers(app)
    answering = Answering(parts.access, parts.service, parts.batcher, parts.metrics)
    protocols = read_protocols()
    _add_routes(app, parts, answering)
    add_open_inference(app, parts.watch, answering, protocols)
    add_mlflow_scoring(app, parts.watch, answering, protocols)
    install_documentation(app, [PredictionRequest, InferRequest, Invocation])
    app.hot_path = HotPath(app, parts.access, parts.service, parts.batcher, parts.metrics)
    return app


def start_app() -> FastAPI:
    """Return the application of this process; where a setting is wrong, end it with the error and no traceback."""
    try:
        return create_app()
    except FlightdeckError as error:
        click.secho(f"error: {error}", fg="red", err=True)
        sys.exit(STARTUP_FAILURE)


def _add_routes(app: FastAPI, parts: Parts, answering: Answering) -> None:
    @app.post("/v1/predictions", **prediction_route())
    async def predict(request: Request) -> Response:
        reply, headers = await answering.answer(request, _read_request)
        return Response(reply.body, headers=headers, media_type=JSON)

    @app.get("/healthz", tags=["operation"], summary="The process runs")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get(
        "/readyz",
        tags=["operation"],
        summary="A verified champion is loaded; what is refused or degraded, for a key of role operate",
        responses={200: {"description": "Ready"}, 503: {"description": "Not ready: `reason` and `next_step` say why"}},
    )
    async def readyz(request: Request) -> Response:
        is_ready, state = describe_readiness(parts.watch.live, parts.features, parts.log, parts.limits)
        if Role.OPERATE not in grant_of(request.scope).roles:
            state = {"ready": is_ready}
        return Response(msgspec.json.encode(state), 200 if is_ready else 503, media_type=JSON)

    @app.get(
        "/metrics", tags=["operation"], summary="Prometheus metrics, of all workers", response_class=PlainTextResponse
    )
    async def metrics() -> Response:
        return Response(parts.metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _read_request(request: Request, body: bytes, _: str) -> Ask:
    """Return the validated body.

    Raises
    ------
    RequestRefused
        415 for another content type, 400 or 422 for a body that is no valid request.
    """
    if media_type(request) != (JSON, True):
        raise RequestRefused(415, "unsupported_media_type", f"a body is sent as {JSON}, in UTF-8")
    try:
        return from_model(PredictionRequest.model_validate_json(body))
    except ValidationError as error:
        raise refuse_invalid(error) from None


def _background(parts: Parts) -> list[Coroutine[Any, Any, None]]:
    """Return what runs beside the requests."""

    async def look() -> None:
        parts.access.look()
        parts.limits.look()
        parts.service.show_features()
        drill = parts.limits.drill
        parts.metrics.show_limits(
            over_budget=parts.limits.over_budget,
            drill="" if drill is None else drill.mode.label,
            is_breaker_open=parts.features.is_left_alone,
        )

    tasks = [
        _repeat(POLL_S, lambda: _follow_once(parts)),
        _repeat(SYNC_S, lambda: asyncio.to_thread(parts.log.sync)),
        _repeat(SYNC_S, lambda: asyncio.to_thread(parts.shadow_log.sync)),
        _repeat(LOOK_S, look),
        _repeat(SAVE_S, lambda: asyncio.to_thread(parts.limits.save)),
    ]
    if FOLDER in os.environ:
        beat = [monotonic()]

        async def come_round() -> None:
            beat[0] = monotonic()

        watch_loop(lambda: beat[0], supervisor_pid())
        tasks.append(_repeat(LOOK_S, come_round))
    return tasks


async def _follow_once(parts: Parts) -> None:
    """Follow the ledger one step, in a thread: opening a bundle takes longer than a request may wait."""
    before = parts.watch.live
    await asyncio.to_thread(parts.watch.poll)
    live = parts.watch.live
    if live is not before:
        loaded = [(arm, release.version, release.digest) for arm, release in live.loaded]
        parts.metrics.show_releases(loaded, live.canary_share, len(live.refusals))
        if before.champion is None and live.champion is not None:
            warm_up(parts.service, parts.scheduler, SystemClock())


async def _repeat(period_s: float, step: Callable[[], Awaitable[None]]) -> None:
    """Run `step` every `period_s` seconds until cancelled; whatever it raises is logged and it runs again."""
    while True:
        await asyncio.sleep(period_s)
        try:
            await step()
        except Exception:  # noqa: BLE001 - a background task is a process edge: it must outlive every error
            _log.exception("a background task failed; it goes on")
