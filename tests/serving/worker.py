"""The parts of one worker inside the test's own process, and its application asked without a socket."""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from time import monotonic
from typing import Any

from flightdeck.core.clock import Clock, to_us
from flightdeck.inference.modes import Mode
from serving.app import create_app
from serving.batcher import TIMEOUT
from serving.connection import CLIENT
from serving.parts import Parts, build_parts
from serving.settings import ServingSettings
from serving.wire import Ask, decode
from serving.work import Question, Reply
from tests.serving.process import PATIENCE_S
from tests.serving.process import Reply as Answer
from tests.serving.world import World


@contextlib.contextmanager
def worker(world: World, *, clock: Clock | None = None, n_workers: int = 1) -> Iterator[Parts]:
    """Yield the parts of a worker on event time that has looked at the ledger once."""
    parts = build_parts(
        ServingSettings(world.layout, is_event_time=True, n_workers=n_workers, requires_keys=False), clock
    )
    parts.watch.poll()
    try:
        yield parts
    finally:
        parts.close()


def question(body: Any, request_id: str = "request-1") -> Question:
    """Return a question as the hot path puts it."""
    asked: Ask = decode(json.dumps(body).encode())
    assert asked.request_timestamp is not None
    return Question(asked, request_id, to_us(asked.request_timestamp), monotonic())


def answers(parts: Parts, questions: Sequence[Question], mode: Mode = Mode.MODEL, why: str = "") -> list[Any]:
    """Compute some questions as one batch; return the parsed answer of each."""
    replies = parts.service.finish(parts.service.compute(questions, mode, why))
    assert all(isinstance(reply, Reply) for reply in replies), replies
    return [json.loads(reply.body) for reply in replies if isinstance(reply, Reply)]


def gathered(parts: Parts, bodies: Sequence[Any], timeout: bytes | None = None) -> list[Reply | Exception | None]:
    """Ask everything at the same moment through the batcher; return replies and refusals in order."""

    async def ask_all() -> list[Any]:
        headers = {} if timeout is None else {TIMEOUT: timeout}
        waiting: list[Awaitable[Reply | None]] = [
            parts.batcher.answer(question(body, f"request-{place:03d}"), headers, None)
            for place, body in enumerate(bodies)
        ]
        return await asyncio.gather(*waiting, return_exceptions=True)

    return asyncio.run(asyncio.wait_for(ask_all(), PATIENCE_S))


class Asked:
    """An application that is asked without a socket."""

    def __init__(self, app: Any, runner: asyncio.Runner) -> None:
        self._app = app
        self._runner = runner

    def predict(
        self,
        body: bytes,
        headers: Mapping[str, str] | None = None,
        *,
        path: str = "/v1/predictions",
        is_gone: bool = False,
    ) -> Answer:
        """POST a body; a client that is gone leaves with its last byte."""
        given = {"content-type": "application/json", "content-length": str(len(body)), **(headers or {})}
        return self._runner.run(_ask(self._app, "POST", path, body, given, is_gone=is_gone))

    def get(self, path: str) -> Answer:
        """GET a path."""
        return self._runner.run(_ask(self._app, "GET", path, b"", {}))


@contextlib.contextmanager
def application(world: World) -> Iterator[Asked]:
    """Yield the application of a worker on event time, started."""
    app = create_app(ServingSettings(world.layout, is_event_time=True, requires_keys=False))
    life = app.router.lifespan_context(app)
    with asyncio.Runner() as runner:
        runner.run(_step(life.__aenter__()))
        try:
            yield Asked(app, runner)
        finally:
            runner.run(_step(life.__aexit__(None, None, None)))


async def _step(awaited: Awaitable[Any]) -> None:
    await awaited


class _Gone:
    """A client that has gone, as `serving.connection` knows it."""

    disconnected = True


async def _ask(
    app: Any, method: str, path: str, body: bytes, headers: Mapping[str, str], *, is_gone: bool = False
) -> Answer:
    scope: dict[str, Any] = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    if is_gone:
        scope[CLIENT] = _Gone()
    sent: list[Any] = []
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Any:
        return waiting.pop() if waiting else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    with contextlib.suppress(ArithmeticError):  # what a test lets fail: the framework raises it on after answering
        await app(scope, receive, send)
    names = {name.decode().lower(): value.decode() for name, value in sent[0]["headers"]}
    return Answer(sent[0]["status"], names, b"".join(message.get("body", b"") for message in sent[1:]))
