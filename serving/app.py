"""The FastAPI application: routes, life cycle, background tasks. `create_app` is what uvicorn calls."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import msgspec
from fastapi import FastAPI, Request
from pydantic import ValidationError
from starlette.responses import Response

from flightdeck.core.clock import SystemClock
from flightdeck.core.identifiers import new_request_id
from flightdeck.inference.prediction_log import PredictionLogWriter
from flightdeck.release.ledger import Ledger
from serving.body_limit import BodyLimit
from serving.documentation import DESCRIPTION, TITLE, VERSION, install_documentation, prediction_route
from serving.errors import RequestRefused, install_error_handlers, refuse_invalid
from serving.feature_source import FeatureSource
from serving.metrics import NO_SURFACE, Metrics
from serving.readiness import describe_readiness
from serving.release_watch import POLL_S, ReleaseWatch
from serving.schemas import PredictionRequest
from serving.service import PredictionService
from serving.settings import ServingSettings, read_settings
from serving.use_case import running_code

SYNC_S = 0.5
JSON = "application/json"
_REQUEST_ID = re.compile(r"[A-Za-z0-9-]{8,64}")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Parts:
    """What the routes share."""

    watch: ReleaseWatch
    features: FeatureSource
    log: PredictionLogWriter
    metrics: Metrics
    service: PredictionService


def create_app(settings: ServingSettings | None = None) -> FastAPI:
    """Return the application.

    Parameters
    ----------
    settings
        Default: what the environment says.

    Raises
    ------
    ConfigError
        If the environment is wrong.
    """
    parts = _build(settings or read_settings())

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await _follow_once(parts)
        tasks = [
            asyncio.create_task(_repeat(POLL_S, lambda: _follow_once(parts))),
            asyncio.create_task(_repeat(SYNC_S, lambda: asyncio.to_thread(parts.log.sync))),
        ]
        yield
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        parts.log.close()
        parts.features.close()

    app = FastAPI(
        title=TITLE, version=VERSION, description=DESCRIPTION, lifespan=lifespan, docs_url=None, redoc_url=None
    )
    app.add_middleware(BodyLimit)
    install_error_handlers(app)
    _add_routes(app, parts)
    install_documentation(app)
    return app


def _build(settings: ServingSettings) -> _Parts:
    clock, metrics, folders = SystemClock(), Metrics(), settings.layout
    watch = ReleaseWatch(
        Ledger(folders.ledger, clock),
        folders.bundles,
        running_code(),
        lambda refusal: metrics.count_refusal(refusal.arm),
    )
    features = FeatureSource(settings.online_store)
    log = PredictionLogWriter(folders.prediction_log, clock)
    service = PredictionService(lambda: watch.live, features, log, metrics, clock, is_event_time=settings.is_event_time)
    return _Parts(watch, features, log, metrics, service)


def _add_routes(app: FastAPI, parts: _Parts) -> None:
    @app.post("/v1/predictions", **prediction_route())
    async def predict(request: Request) -> Response:
        surface, started = NO_SURFACE, asyncio.get_running_loop().time()
        try:
            asked = await _read_request(request)
            surface = asked.surface
            request_id = _request_id(request)
            answer = parts.service.answer(asked, request_id)
        except RequestRefused as refusal:
            parts.metrics.count_request(surface, refusal.status)
            raise
        parts.metrics.count_request(surface, 200, asyncio.get_running_loop().time() - started)
        headers = {"X-Request-ID": request_id, "X-Flightdeck-Mode": answer.mode}
        return Response(answer.body, headers=headers, media_type=JSON)

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
        is_ready, state = describe_readiness(parts.watch.live, parts.features, parts.log)
        return Response(msgspec.json.encode(state), 200 if is_ready else 503, media_type=JSON)

    @app.get("/metrics", tags=["operation"], summary="Prometheus metrics")
    async def metrics() -> Response:
        return Response(parts.metrics.render(), media_type="text/plain; version=0.0.4; charset=utf-8")


async def _read_request(request: Request) -> PredictionRequest:
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
        return PredictionRequest.model_validate_json(await request.body())
    except ValidationError as error:
        raise refuse_invalid(error) from None


def _request_id(request: Request) -> str:
    """Return the client's `X-Request-ID` if it is 8 to 64 letters, digits or hyphens, else a new one."""
    given = request.headers.get("x-request-id", "")
    return given if _REQUEST_ID.fullmatch(given) else new_request_id()


async def _follow_once(parts: _Parts) -> None:
    """Follow the ledger one step, in a thread: opening a bundle takes longer than a request may wait."""
    before = parts.watch.live
    await asyncio.to_thread(parts.watch.poll)
    live = parts.watch.live
    if live is not before:
        loaded = [(arm, release.version, release.digest) for arm, release in live.loaded]
        parts.metrics.show_releases(loaded, live.canary_share, len(live.refusals))


async def _repeat(period_s: float, step: Callable[[], Awaitable[None]]) -> None:
    """Run `step` every `period_s` seconds until cancelled; whatever it raises is logged and it runs again."""
    while True:
        await asyncio.sleep(period_s)
        try:
            await step()
        except Exception:  # noqa: BLE001 - a background task is a process edge: it must outlive every error
            _log.exception("a background task failed; it goes on")
