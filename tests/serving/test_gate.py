"""The gate refuses unread what admission would refuse, and nothing else; a connection goes on after it."""

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st

from flightdeck.inference.modes import Mode
from flightdeck.inference.scheduler import Scheduler
from flightdeck.inference.surface_policy import AdmissionSettings, read_surface_policies
from flightdeck.inference.waiting import Refusal
from serving import connection
from serving.connection import BoundedConnection
from serving.gate import GATE, Gate, surface_of
from serving.metrics import Metrics
from tests.redis_server import wait_for

SURFACES = ("alerts", "itinerary", "search")
LINE = "POST /v1/predictions HTTP/1.1"
ITEM_S = 1e-3


def request(
    surface: str = "search", *headers: str, line: str = LINE, body: str | None = None, n_bytes: int | None = None
) -> bytes:
    """Return a request as bytes; `n_bytes` is announced instead of the length of the body."""
    content = (json.dumps({"surface": surface, "flights": []}) if body is None else body).encode()
    length = len(content) if n_bytes is None else n_bytes
    return "\r\n".join([line, "Host: x", *headers, f"Content-Length: {length}", "", ""]).encode() + content


def scheduler(n_waiting: int = 0, surface: str = "alerts") -> Scheduler:
    """Return a scheduler that knows what a request costs, with so many waiting."""
    found = Scheduler(read_surface_policies(environment={}), AdmissionSettings())
    for mode in (Mode.MODEL, Mode.FALLBACK, Mode.RULES):
        for _ in range(20):
            found.observe(mode, 1, ITEM_S)
    for _ in range(n_waiting):
        found.add(surface, 1, 0.0, 1e9, None)
    return found


def refused(gate: Gate, *requests: bytes) -> list[bool]:
    """Tell for requests that are read in one round of an event loop which the gate refuses."""

    async def read() -> list[bool]:
        loop = asyncio.get_running_loop()
        found = [gate.refuse(data, loop) is not None for data in requests]
        await asyncio.sleep(0)
        return found

    return asyncio.run(read())


@pytest.mark.parametrize("surface", SURFACES)
def test_an_ordinary_request_shows_its_surface(surface: str) -> None:
    assert surface_of(request(surface)) == surface.encode()
    assert surface_of(request(surface, "Connection: keep-alive", "X-API-Key: k")) == surface.encode()
    late = json.dumps({"flights": [{"carrier": "UA"}], "surface": surface}, indent=2)
    assert surface_of(request(body=late).replace(b"Content-Length", b"content-length")) == surface.encode()


@pytest.mark.parametrize(
    "data",
    [
        request(line="GET /v1/predictions HTTP/1.1"),
        request(line="POST /v1/predictions/ HTTP/1.1"),
        request(line="POST /v1/predictions HTTP/1.0"),
        request(line="POST /invocations HTTP/1.1"),
        request("search", "Transfer-Encoding: chunked"),
        request("search", "Connection: close"),
        request("search", "Expect: 100-continue"),
        request("search", "Upgrade: websocket"),
        request("search", "Content-Length: 3"),
        request("search", "X-Folded: a\r\n b"),
        request(n_bytes=1000),
        request(n_bytes=3),
        request() + request(),
        request(body='{"flights": []}'),
        request(body='{"unit_id": "\\"surface\\": \\"search\\""}'),
        request(body='{"surface": "sea\\u0072ch"}'),
        b"POST /v1/predictions HTTP/1.1\r\nHost: x\r\n\r\n",
        b"",
    ],
)
def test_whatever_is_out_of_the_ordinary_shows_none_and_passes(data: bytes) -> None:
    assert surface_of(data) == b""
    assert refused(Gate(scheduler(500), Metrics()), data) == [False]


def test_nobody_is_refused_while_there_is_room() -> None:
    assert refused(Gate(scheduler(), Metrics()), *map(request, SURFACES)) == [False] * 3


def test_what_was_let_in_and_is_not_at_the_scheduler_takes_room() -> None:
    found = refused(Gate(scheduler(), Metrics()), *[request()] * 500)
    assert found == sorted(found) and found[-1] and not found[0]
    gate = Gate(scheduler(), Metrics())
    assert [any(refused(gate, *[request()] * 10)) for _ in range(20)] == [False] * 20, "forgotten with each round"


def test_the_lowest_is_refused_first_and_critical_last() -> None:
    order = [refused(Gate(scheduler(n), Metrics()), *map(request, SURFACES)) for n in range(0, 200, 5)]
    for critical, normal, lowest in order:
        assert critical <= normal <= lowest
    assert order[0] == [False] * 3 and order[-1] == [True] * 3
    assert [False, False, True] in order


def test_an_unknown_surface_passes_to_where_it_is_judged() -> None:
    assert refused(Gate(scheduler(500), Metrics()), request("nonsense")) == [False]


@given(st.lists(st.sampled_from(SURFACES), max_size=200), st.sampled_from(SURFACES), st.floats(0.0, 5e-4))
def test_the_gate_decides_as_admission_does(waiting: list[str], surface: str, outside_s: float) -> None:
    gated, plain = scheduler(), scheduler()
    for each in (gated, plain):
        each.rooms.learn_outside(outside_s)
        for name in waiting:
            each.add(name, 1, 0.0, 1e9, None)
    added = plain.add(surface, 1, 0.0, 1e9, None)
    assert gated.has_room_for(surface, [0, 0, 0], 0.0) is not isinstance(added, Refusal)
    if gated.has_room_for_all(0):
        assert not isinstance(added, Refusal)


def test_refusals_are_counted_and_carry_the_form_of_every_refusal() -> None:
    metrics = Metrics()
    gate = Gate(scheduler(500), metrics)
    assert refused(gate, *[request()] * 7) == [True] * 7
    assert b'flightdeck_requests_total{status="503",surface="search"} 7.0' in metrics.render()
    loop = asyncio.new_event_loop()
    head, _, body = (gate.refuse(request(), loop) or b"").partition(b"\r\n\r\n")
    loop.close()
    lines = dict(line.split(": ") for line in head.decode().splitlines()[1:])
    assert head.startswith(b"HTTP/1.1 503 ") and int(lines["content-length"]) == len(body)
    assert 1 <= int(lines["retry-after"]) <= 30 and lines["content-type"] == "application/json"
    assert json.loads(body)["error"]["code"] == "overloaded"


class Served:
    """A server inside this process whose gate asks `scheduler`, which a test may replace what waits in."""

    def __init__(self) -> None:
        self.scheduler = scheduler(500)
        self.port = 0

    def free(self) -> None:
        """Let nothing wait any more."""
        while self.scheduler.n_waiting:
            self.scheduler.next(10.0)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer 200 to every request, when its body is there."""
        if scope["type"] == "lifespan":
            await receive()
            scope["state"][GATE] = Gate(self.scheduler, Metrics())
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})


@pytest.fixture
def serving(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[float], Served]]:
    """Start servers; the time in which a first head must come, and idle time, in seconds."""
    ends: list[Callable[[], None]] = []

    def start(keep_alive_s: float) -> Served:
        monkeypatch.setattr(connection, "HEAD_S", 1.5)
        served, listening = Served(), socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(served, http=BoundedConnection, lifespan="on", log_level="error", ws="none")
        config.timeout_keep_alive = keep_alive_s  # type: ignore[assignment]
        server = uvicorn.Server(config)
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listening])))
        thread.start()
        ends.extend([thread.join, lambda: setattr(server, "should_exit", True)])
        wait_for(lambda: server.started, "the server")
        served.port = listening.getsockname()[1]
        return served

    yield start
    for end in reversed(ends):
        end()


@contextlib.contextmanager
def client(port: int) -> Iterator[Callable[..., int]]:
    """Yield what sends pieces on one connection and returns the status of the answer, 0 once it is closed."""
    with contextlib.closing(socket.create_connection(("127.0.0.1", port), 30)) as plain:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        answers = plain.makefile("rb")

        def ask(*pieces: bytes, pause_s: float = 0.1) -> int:
            for place, piece in enumerate(pieces):
                if place:
                    threading.Event().wait(pause_s)
                plain.sendall(piece)
            head = list(iter(answers.readline, b"\r\n")) if (first := answers.peek(1)) else []
            lengths = [int(line.split(b":")[1]) for line in head if line.startswith(b"content-length")]
            answers.read(sum(lengths))
            return int(head[0].split()[1]) if first else 0

        yield ask


def test_a_connection_goes_on_after_refusals(serving: Callable[[float], Served]) -> None:
    served = serving(75)
    with client(served.port) as ask:
        assert [ask(request()) for _ in range(5)] == [503] * 5
        assert ask(request("search", "Connection: keep-alive")) == 503
        served.free()
        assert [ask(request()), ask(request("alerts"))] == [200, 200]
        for _ in range(500):
            served.scheduler.add("search", 1, 10.0, 1e9, None)
        assert ask(request()) == 503, "also after an answer"
        assert ask(request(line="GET / HTTP/1.1")) == 200


def test_requests_in_pieces_and_one_after_the_other_are_parsed(serving: Callable[[float], Served]) -> None:
    served, whole = serving(75), request()
    for cut in (5, 60, len(whole) - 3):
        with client(served.port) as ask:
            assert ask(whole[:cut], whole[cut:]) == 200
            assert ask(whole) == 503
            assert ask(whole[:cut], whole[cut:]) == 200
    with client(served.port) as ask:
        assert ask(whole + whole) == 200


def test_a_refused_client_is_neither_slow_nor_idle(serving: Callable[[float], Served]) -> None:
    served = serving(2)
    with client(served.port) as ask:
        assert [ask(request()) for _ in range(12) if not threading.Event().wait(0.25)] == [503] * 12
    with client(served.port) as ask:
        assert ask(request(line="GET / HTTP/1.1")) == 200
        assert [ask(request()) for _ in range(12) if not threading.Event().wait(0.25)] == [503] * 12
        assert ask(b"") == 0, "idle at last, and closed"
