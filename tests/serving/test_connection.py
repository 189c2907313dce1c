"""Heads of requests are bounded in time and size, and whoever stretches them disturbs nobody."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from serving import connection
from serving.connection import HEAD_BYTES, BoundedConnection
from tests.redis_server import wait_for
from tests.serving.process import Service

OK = b"HTTP/1.1 200 OK"


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the number of bytes of the body."""
    n_bytes = 0
    while (message := await receive()).get("more_body") or message["type"] == "http.request":
        n_bytes += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
    await send({"type": "http.response.body", "body": b"%04d" % n_bytes})


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A server inside this process whose heads must come within a fifth of a second."""
    monkeypatch.setattr(connection, "HEAD_S", 0.2)
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(echo, http=BoundedConnection, lifespan="off", log_level="error", ws="none")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve([listening])))
    thread.start()
    wait_for(lambda: server.started, "the server")
    yield listening.getsockname()[1]
    server.should_exit = True
    thread.join()


def talk(port: int, *pieces: bytes, n_bytes: int = 4096) -> bytes:
    """Send some pieces and return what comes back until the other side closes or `n_bytes` are there."""
    with contextlib.closing(socket.create_connection(("127.0.0.1", port), 10)) as plain:
        with contextlib.suppress(OSError):
            for piece in pieces:
                plain.sendall(piece)
        found = b""
        with contextlib.suppress(ConnectionResetError):
            while len(found) < n_bytes and (data := plain.recv(4096)):
                found += data
        return found


GET = b"GET / HTTP/1.1\r\nhost: x\r\n"


def test_a_head_that_never_ends_is_cut_and_others_are_served_meanwhile(port: int) -> None:
    for begun in (b"", b"G", GET, GET + b"x-slow: a"):
        with contextlib.closing(socket.create_connection(("127.0.0.1", port), 10)) as slow:
            slow.sendall(begun)
            assert talk(port, GET + b"connection: close\r\n\r\n").startswith(OK)
            assert slow.recv(100) == b"", "closed by the service"


def test_a_drip_of_header_bytes_does_not_begin_the_time_anew(port: int) -> None:
    with contextlib.closing(socket.create_connection(("127.0.0.1", port), 10)) as slow:
        slow.sendall(GET)
        slow.settimeout(0.05)
        is_closed = False
        for _ in range(200):
            with contextlib.suppress(TimeoutError):
                try:
                    slow.sendall(b"a")
                    is_closed = slow.recv(10) == b""
                except (ConnectionResetError, BrokenPipeError):
                    is_closed = True
            if is_closed:
                break
        assert is_closed


def test_the_second_head_of_a_connection_is_bounded_too(port: int) -> None:
    with contextlib.closing(socket.create_connection(("127.0.0.1", port), 10)) as slow:
        slow.sendall(GET + b"\r\n")
        with slow.makefile("rb") as answers:  # head and body may come apart
            head = list(iter(answers.readline, b"\r\n"))
            assert head[0].startswith(OK)
            length = next(int(line.split(b":")[1]) for line in head if line.lower().startswith(b"content-length:"))
            assert len(answers.read(length)) == length
            slow.sendall(GET)
            assert answers.read(100) == b""


def test_a_head_of_megabytes_is_431_and_one_within_the_bound_is_served(port: int) -> None:
    many = [b"x-%d: %s\r\n" % (n, b"a" * 1000) for n in range(2000)]
    assert talk(port, GET, *many).startswith(b"HTTP/1.1 431")
    assert talk(port, GET + b"x-one: ", b"a" * (4 << 20)).startswith(b"HTTP/1.1 431")
    fits = b"x-one: " + b"a" * (HEAD_BYTES // 2) + b"\r\nconnection: close\r\n\r\n"
    assert talk(port, GET + fits).startswith(OK)


def test_a_body_is_no_head_however_long_it_takes(port: int) -> None:
    head = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 8\r\nconnection: close\r\n\r\n"
    with contextlib.closing(socket.create_connection(("127.0.0.1", port), 10)) as slow:
        slow.sendall(head + b"aaaa")
        threading.Event().wait(0.5)
        slow.sendall(b"bbbb")
        assert slow.recv(4096).startswith(OK)


def test_trailers_without_end_are_cut(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    head = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n"
    monkeypatch.setattr(connection, "MESSAGE_BYTES", 4 << 20)
    assert talk(port, head, *[b"x-%d: %s\r\n" % (n, b"a" * 60_000) for n in range(100)]) == b""
    assert talk(port, head, b"x-one: ", b"a" * (6 << 20)) == b""
    assert talk(port, head.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"), b"x-one: a\r\n\r\n").startswith(OK)


def test_an_answer_to_head_is_sent_and_the_connection_goes_on(service: Service) -> None:
    reply = service.send("HEAD", "/healthz")
    assert (reply.status, reply.content) == (405, b"")
    pipelined = (
        b"HEAD /healthz HTTP/1.1\r\nhost: x\r\n\r\n" + b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    )
    found = talk(service.port, pipelined)
    assert found.startswith(b"HTTP/1.1 405")
    assert found.endswith(b'{"status":"ok"}')


@pytest.mark.slow
def test_a_body_that_does_not_come_is_408_after_ten_seconds(service: Service) -> None:
    head = b"POST /v1/predictions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n"
    with contextlib.closing(socket.create_connection(("127.0.0.1", service.port), 30)) as slow:
        slow.sendall(head)
        assert slow.recv(4096).startswith(b"HTTP/1.1 408")
