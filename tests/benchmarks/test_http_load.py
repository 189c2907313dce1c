"""The load generator counts what a server really did: answers, refusals, modes, and what was never answered."""

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from benchmarks.http_connection import request_bytes
from benchmarks.http_load import Load, stream
from benchmarks.load_generator import send_times_s
from benchmarks.seen import LOST, MODES

REFUSED = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\n\r\n{}"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"


class Tiny:
    """A server that answers by the field `do` of the body, and counts what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await _read_head(reader):
            n_bytes = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            body = json.loads(await reader.readexactly(n_bytes))
            do = body["do"]
            self.asked.append(do)
            if do == "hang_up":
                writer.close()
                return
            for piece in _pieces(do):
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
            if body.get("then") == "hang_up":
                writer.close()
                return


async def _read_head(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""


def _pieces(do: str) -> list[bytes]:
    """Return an answer, in pieces as a network may deliver it."""
    if do == "refuse":
        return [REFUSED]
    if do == "chunks":
        return [CHUNKED[:30], CHUNKED[30:-3], CHUNKED[-3:]]
    head = f"HTTP/1.1 200 OK\r\nx-flightdeck-mode: {do}\r\nContent-Length: 4\r\n\r\n".encode()
    return [head[:20], head[20:] + b"nu", b"ll"]


@contextmanager
def tiny_server() -> Iterator[tuple[Tiny, int]]:
    tiny, loop = Tiny(), asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(tiny.serve, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield tiny, server.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.close()
        loop.close()


def test_a_closed_loop_counts_every_answer_once_by_status_and_mode() -> None:
    bodies = [{"do": do} for do in ("model", "fallback", "refuse", "chunks")]
    with tiny_server() as (tiny, port), Load(port, [stream("all", "/", bodies, 3)], 0.4) as load:
        seen = load.run()["all"]
        n_asked = len(tiny.asked)
    assert len(seen) == n_asked > 8
    for do, status, mode in (("model", 200, "model"), ("fallback", 200, "fallback"), ("refuse", 503, "")):
        found = (seen.status == status) & (seen.mode == MODES.index(mode))
        assert int(found.sum()) == tiny.asked.count(do)
    assert int((seen.status == LOST).sum()) == 0
    assert bool((seen.latency_s > seen.lag_s).all())


def test_an_open_loop_sends_what_was_planned_and_counts_from_the_intended_time() -> None:
    streams = [
        stream("one", "/", [{"do": "model"}], 4, rates=[(0.3, 100), (0.2, 50)]),
        stream("two", "/", [{"do": "refuse"}], 1, rates=[(0.5, 40)]),
    ]
    with tiny_server() as (tiny, port), Load(port, streams, 0.5) as load:
        seen = load.run()
    assert (len(seen["one"]), len(seen["two"])) == (40, 20)
    assert (tiny.asked.count("model"), tiny.asked.count("refuse")) == (40, 20)
    assert set(seen["two"].status.tolist()) == {503}
    assert bool((seen["two"].lag_s >= 0).all())
    assert np.allclose(np.sort(seen["one"].at_s), send_times_s([(0.3, 100), (0.2, 50)], 0), atol=1e-4)


def test_a_request_whose_connection_is_closed_is_lost_and_the_next_one_gets_another_connection() -> None:
    asked = stream("all", "/", [{"do": "hang_up"}], 2, rates=[(0.2, 25)])
    with tiny_server() as (tiny, port), Load(port, [asked], 0.2) as load:
        seen = load.run()["all"]
    assert len(tiny.asked) == 5
    assert seen.status.tolist() == [LOST] * 5


def test_a_connection_that_is_closed_between_two_requests_costs_none_of_them() -> None:
    asked = stream("all", "/", [{"do": "model", "then": "hang_up"}], 8, rates=[(0.5, 20)])
    with tiny_server() as (tiny, port), Load(port, [asked], 0.5) as load:
        seen = load.run()["all"]
    assert len(tiny.asked) == len(seen) == 10
    assert set(seen.status.tolist()) == {200}


def test_a_load_can_be_ended_early() -> None:
    asked = stream("all", "/", [{"do": "model"}], 2, rates=[(600.0, 100)])
    with tiny_server() as (tiny, port), Load(port, [asked], 600.0) as load:
        timer = threading.Timer(0.3, load.stop)
        timer.start()
        seen = load.run()["all"]
        timer.join()
    assert 0 < len(seen) == len(tiny.asked) < 600


def test_a_request_is_whole_http() -> None:
    whole = request_bytes("/x", {"A": "b"}, b"{}")
    assert whole == b"POST /x HTTP/1.1\r\nHost: localhost\r\nA: b\r\nContent-Length: 2\r\n\r\n{}"


@pytest.mark.parametrize("seed", [0, 1])
def test_times_of_sending_are_ascending_and_as_many_as_planned_in_each_part(seed: int) -> None:
    times_s = send_times_s([(1.0, 50), (0.5, 200)], seed)
    assert bool((np.diff(times_s) >= 0).all())
    assert (int((times_s < 1.0).sum()), len(times_s)) == (50, 150)


def test_a_generator_whose_asker_is_gone_ends() -> None:
    with (
        tiny_server() as (_, port),
        Load(port, [stream("all", "/", [{"do": "model"}], 2, rates=[(600.0, 9)])], 600.0) as load,
    ):
        assert load._process.stdin is not None
        load._process.stdin.close()
        assert load._process.wait(30) == 1
        load._process.stdin = None
