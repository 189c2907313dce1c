"""Predictions that are answered by the connection itself: in order, once each, and like the declared route does."""

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from serving import connection
from serving.app import Application, create_app
from serving.connection import BoundedConnection
from serving.hot_path import HotPath
from serving.service import PredictionService
from serving.settings import ServingSettings
from serving.work import Question
from tests.redis_server import wait_for
from tests.serving.world import World, ask

IDLE_S = 1
CHARSET = "application/json;charset=utf-8"  # not written as the hot path knows it: the declared route answers


@dataclass
class Running:
    """The application on a port of this process, and what it has computed."""

    app: Application
    port: int
    computed: list[str]

    @property
    def hot_path(self) -> HotPath:
        """What the connections ask."""
        assert self.app.hot_path is not None
        return self.app.hot_path

    def talk(self, *pieces: bytes, n_answers: int = 1) -> list[tuple[int, dict[str, str], Any]]:
        """Send some pieces on one connection; return status, headers and JSON of the answers, in order."""
        with self.connected() as (plain, stream):
            for piece in pieces:
                plain.sendall(piece)
                threading.Event().wait(0.02 if len(pieces) > 1 else 0)
            return [_answer(stream) for _ in range(n_answers)]

    @contextlib.contextmanager
    def connected(self) -> Iterator[tuple[socket.socket, Any]]:
        """Yield a connection and what comes back on it."""
        with contextlib.closing(socket.create_connection(("127.0.0.1", self.port), 30)) as plain:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with plain.makefile("rb") as stream:
                yield plain, stream


@pytest.fixture(scope="module")
def running(live_world: World) -> Iterator[Running]:
    app = create_app(ServingSettings(live_world.layout, is_event_time=True, requires_keys=False))
    assert isinstance(app, Application)
    config = uvicorn.Config(
        app, http=BoundedConnection, log_level="error", ws="none", proxy_headers=False, timeout_keep_alive=IDLE_S
    )
    server = uvicorn.Server(config)
    listening = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listening])))
    thread.start()
    wait_for(lambda: server.started, "the server")
    yield Running(app, listening.getsockname()[1], [])
    server.should_exit = True
    thread.join()


@pytest.fixture(autouse=True)
def watch(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Note the unit of each question that is computed."""
    compute = PredictionService.compute

    def noted(self: PredictionService, questions: list[Question], *given: Any) -> Any:
        running.computed += [question.ask.unit_id for question in questions]
        return compute(self, questions, *given)

    running.computed.clear()
    monkeypatch.setattr(PredictionService, "compute", noted)


def request(body: Any, *lines: str, content_type: str = "application/json") -> bytes:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    head = ["POST /v1/predictions HTTP/1.1", "host: x", f"content-type: {content_type}", *lines]
    return "\r\n".join([*head, f"content-length: {len(content)}", "", ""]).encode() + content


def test_both_ways_answer_alike(running: Running) -> None:
    body = ask(3, unit_id="both")
    (hot,) = running.talk(request(body, "x-request-id: request-1"))
    (declared,) = running.talk(request(body, "x-request-id: request-1", content_type=CHARSET))
    assert (hot[0], hot[2]) == (declared[0], declared[2]) == (200, hot[2])
    for name in ("content-type", "content-length", "x-request-id", "x-flightdeck-mode"):
        assert hot[1][name] == declared[1][name]
    assert set(declared[1]) == set(hot[1])


def test_a_body_in_pieces_is_answered_without_the_framework(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running.hot_path, "behind", _raises)
    whole = request(ask(40, unit_id="pieces"))
    (found,) = running.talk(whole[:70], whole[70:300], whole[300:301], whole[301:])
    assert (found[0], len(found[2]["predictions"])) == (200, 40)


def test_what_is_pipelined_is_answered_in_order_whoever_answers(running: Running) -> None:
    asked = [request(ask(n, unit_id=f"unit-{n}"), content_type=kind) for n, kind in enumerate(KINDS, start=1)]
    for pieces in ([b"".join(asked)], [b"".join(asked)[:-5], asked[-1][-5:]]):
        found = running.talk(*pieces, n_answers=len(asked))
        assert [status for status, _, _ in found] == [200] * len(asked)
        assert [len(body["predictions"]) for _, _, body in found] == [1, 2, 3, 4, 5]


KINDS = ("application/json", "application/json", CHARSET, "application/json", "application/json")


def test_a_connection_goes_on_after_every_outcome(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    late = ask(unit_id="late", scheduled_arrival="2013-09-12T13:00:00+00:00")
    asked = [b"{", {**ask(), "surface": "none"}, late, ask(unit_id="raises"), ask(unit_id="fine")]
    compute = PredictionService.compute

    def fail(self: PredictionService, questions: list[Question], *given: Any) -> Any:
        if any(question.ask.unit_id == "raises" for question in questions):
            raise ArithmeticError("a defect of ours")
        return compute(self, questions, *given)

    monkeypatch.setattr(PredictionService, "compute", fail)
    found = []
    with running.connected() as (plain, stream):
        for body in asked:
            plain.sendall(request(body))
            found.append(_answer(stream))
    assert [status for status, _, _ in found] == [422, 422, 422, 500, 200]
    assert found[2][2]["error"]["violations"], "the declared route says which rule the times break"


def test_a_client_that_waits_for_100_continue_is_told_to_go_on(running: Running) -> None:
    whole = request(ask(unit_id="expects"), "expect: 100-continue")
    end = whole.index(b"\r\n\r\n") + 4
    with running.connected() as (plain, stream):
        plain.sendall(whole[:end])
        assert stream.readline() == b"HTTP/1.1 100 Continue\r\n"
        assert stream.readline() == b"\r\n"
        plain.sendall(whole[end:])
        assert _answer(stream)[0] == 200


def test_a_body_that_does_not_come_is_408_and_the_next_client_is_served(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "BODY_S", 0.1)
    (found,) = running.talk(request(ask())[:-10])
    assert (found[0], found[1]["connection"]) == (408, "close")
    monkeypatch.setattr(connection, "BODY_S", 10.0)
    assert running.talk(request(ask()))[0][0] == 200


def test_the_body_of_a_pipelined_request_is_waited_for_no_longer(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "BODY_S", 0.1)
    found = running.talk(request(ask(unit_id="whole")) + request(ask())[:-10], n_answers=2)
    assert [status for status, _, _ in found] == [200, 408]


def test_an_idle_connection_is_closed_and_a_busy_one_is_not(running: Running) -> None:
    with running.connected() as (plain, stream):
        for _ in range(4):
            plain.sendall(request(ask()))
            assert _answer(stream)[0] == 200
            threading.Event().wait(IDLE_S * 0.4)
        assert stream.read(1) == b"", "closed by the service"


@pytest.mark.parametrize("content_type", ["application/json", CHARSET])
def test_for_a_client_that_has_gone_nothing_is_computed_or_written(running: Running, content_type: str) -> None:
    asked = request(ask(unit_id="gone"), content_type=content_type)
    assert _spoken(running, asked, lambda one: one.connection_lost(ConnectionResetError())) == b""
    assert running.computed == []


@pytest.mark.parametrize("content_type", ["application/json", CHARSET])
def test_a_connection_that_is_to_end_answers_first_and_says_so(running: Running, content_type: str) -> None:
    asked = request(ask(unit_id="last"), content_type=content_type)
    written = _spoken(running, asked, BoundedConnection.shutdown)
    assert written.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"connection: close\r\n" in written
    assert running.computed == ["last"]


class _Transport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.is_closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.is_closed = True


def _spoken(running: Running, asked: bytes, then: Callable[[BoundedConnection], None]) -> bytes:
    """Ask, do something while the request waits for its turn, and return what has been written in the end."""

    async def speak() -> bytes:
        config = uvicorn.Config(running.app, ws="none", proxy_headers=False)
        state, transport = ServerState(), _Transport()
        one = BoundedConnection(config, state, {})
        one.connection_made(transport)
        one.data_received(asked)
        await asyncio.sleep(0)
        then(one)
        for _ in range(10):
            await asyncio.sleep(0)
        while state.tasks:
            await asyncio.sleep(0.01)
        return transport.written

    return asyncio.run(asyncio.wait_for(speak(), 30))


async def _raises(*_: Any) -> None:
    raise AssertionError("the framework was asked")


def _answer(stream: Any) -> tuple[int, dict[str, str], Any]:
    status = int(stream.readline().split()[1])
    lines = iter(stream.readline, b"\r\n")
    headers = {
        name.decode().lower(): value.strip().decode() for name, _, value in (line.partition(b":") for line in lines)
    }
    return status, headers, json.loads(stream.read(int(headers["content-length"])))
