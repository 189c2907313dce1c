"""The FastAPI application: routes, life cycle, background tasks. `create_app` is what uvicorn calls.

Predictions are answered before FastAPI sees them (`serving.hot_path`); it describes them, judges what is out of the
ordinary, and answers everything else.
"""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from time import monotonic
from typing import Any

import msgspec
from fastapi import FastAPI, Request
from pydantic import ValidationError
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from flightdeck.core.clock import SystemClock
from serving.body_limit import BodyLimit
from serving.documentation import DESCRIPTION, TITLE, VERSION, install_documentation, prediction_route
from serving.errors import RequestRefused, install_error_handlers, refuse_invalid
from serving.hot_path import TIMEOUT, HotPath, request_id_of
from serving.metric_files import FOLDER
from serving.metrics import NO_SURFACE
from serving.parts import Parts, build_parts
from serving.readiness import describe_readiness
from serving.release_watch import POLL_S
from serving.schemas import PredictionRequest
from serving.settings import ServingSettings, read_settings
from serving.warm_up import warm_up
from serving.wire import Ask, from_model
from serving.work import Reply
from serving.workers import supervisor_pid, watch_loop

SYNC_S, LOOK_S, SAVE_S = 0.5, 0.25, 10.0
JSON = "application/json"
_log = logging.getLogger(__name__)


class Application(FastAPI):
    """FastAPI with the hot path in front."""

    hot_path: HotPath | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one ASGI connection."""
        if self.hot_path is not None and scope["type"] == "http":
            await self.hot_path(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)

    async def behind(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer what the hot path hands on."""
        await super().__call__(scope, receive, send)


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
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await _follow_once(parts)
        tasks = [asyncio.create_task(task) for task in _background(parts)]
        yield
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        parts.close()

    app = Application(
        title=TITLE, version=VERSION, description=DESCRIPTION, lifespan=lifespan, docs_url=None, redoc_url=None
    )
    app.add_middleware(BodyLimit)
    install_error_handlers(app)
    _add_routes(app, parts)
    install_documentation(app)
    app.hot_path = HotPath(app.behind, parts.service, parts.batcher, parts.metrics)
    return app


def _add_routes(app: FastAPI, parts: Parts) -> None:
    @app.post("/v1/predictions", **prediction_route())
    async def predict(request: Request) -> Response:
        surface, arrived_s = NO_SURFACE, monotonic()
        try:
            ask = await _read_request(request)
            surface = ask.surface
            request_id = request_id_of(dict(request.scope["headers"]))
            question = parts.service.question(ask, request_id, arrived_s)
            reply = await parts.batcher.answer(question, dict(request.scope["headers"]).get(TIMEOUT), _is_here)
        except RequestRefused as refusal:
            parts.metrics.count_request(surface, refusal.status)
            raise
        except Exception:
            parts.metrics.count_request(surface, 500)
            raise
        parts.metrics.count_request(surface, 200, monotonic() - arrived_s)
        reply = reply or Reply(b"", "")
        headers = {"X-Request-ID": request_id, "X-Flightdeck-Mode": reply.mode}
        return Response(reply.body, headers=headers, media_type=JSON)

    @app.get("/healthz", tags=["operation"], summary="The process runs")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get(
        "/readyz",
        tags=["operation"],
        summary="A verified champion is loaded; what is refused or degraded",
        responses={200: {"description": "Ready"}, 503: {"description": "Not ready: `reason` and `next_step` say why"}},
    )
    async def readyz() -> Response:
        is_ready, state = describe_readiness(parts.watch.live, parts.features, parts.log, parts.limits)
        return Response(msgspec.json.encode(state), 200 if is_ready else 503, media_type=JSON)

    @app.get("/metrics", tags=["operation"], summary="Prometheus metrics, of all workers")
    async def metrics() -> Response:
        return Response(parts.metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _is_here() -> bool:
    return False


async def _read_request(request: Request) -> Ask:
    """Return the validated body.

    Raises
    ------
    RequestRefused
        415 for another content type, 400 or 422 for a body that is no valid request.
    """
    kind, _, parameters = request.headers.get("content-type", "").partition(";")
    charset = parameters.strip().lower().removeprefix("charset=").strip('"')
    if kind.strip().lower() != JSON or charset not in ("", "utf-8"):
        raise RequestRefused(415, "unsupported_media_type", f"a body is sent as {JSON}, in UTF-8")
    try:
        return from_model(PredictionRequest.model_validate_json(await request.body()))
    except ValidationError as error:
        raise refuse_invalid(error) from None


def _background(parts: Parts) -> list[Coroutine[Any, Any, None]]:
    """Return what runs beside the requests."""

    async def look() -> None:
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
