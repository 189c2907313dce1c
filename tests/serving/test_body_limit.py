"""The bounds on a body, with an application behind that says what it received."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from serving import body_limit
from serving.body_limit import BodyLimit

Sent = list[Message]


async def echo(_: Scope, receive: Receive, send: Send) -> None:
    first = await receive()
    after = await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": first["body"] + b"|" + after["type"].encode()})


def run(messages: Iterable[Message], *, stall: bool = False, method: str = "POST", **limits: Any) -> Sent:
    """Send messages through the limit; the client then goes away, or with `stall` stays and sends nothing."""
    waiting = iter(messages)
    sent: Sent = []

    async def receive() -> Message:
        message = next(waiting, None)
        if message is None and stall:
            await asyncio.Event().wait()
        return message or {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope: Scope = {"type": "http", "method": method, "path": "/", "headers": limits.pop("headers", [])}
    call: Callable[[Scope, Receive, Send], Awaitable[None]] = BodyLimit(echo, **limits)
    asyncio.run(call(scope, receive, send))  # type: ignore[arg-type]
    return sent


def part(body: bytes, more: bool = True) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


def test_a_body_arrives_in_one_piece_and_the_disconnect_stays_visible() -> None:
    sent = run([part(b"ab"), part(b""), part(b"c", more=False)])
    assert sent[1]["body"] == b"abc|http.disconnect"


def test_exactly_the_limit_is_taken_and_a_byte_more_is_413() -> None:
    assert run([part(b"x" * 10, more=False)], max_bytes=10)[0]["status"] == 200
    assert run([part(b"x" * 9), part(b"xx", more=False)], max_bytes=10)[0]["status"] == 413


@pytest.mark.parametrize("announced", [b"11", b"9" * 5000])
def test_an_announced_excess_is_413_whatever_comes(announced: bytes) -> None:
    sent = run([part(b"", more=False)], max_bytes=10, headers=[(b"content-length", announced)])
    assert sent[0]["status"] == 413
    assert (b"connection", b"close") in sent[0]["headers"]


def test_a_body_that_never_ends_is_408(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_limit, "DISCARD_S", 0.05)
    assert run([part(b"x")], stall=True, max_s=0.05)[0]["status"] == 408


def test_a_client_that_leaves_gets_nothing() -> None:
    assert run([part(b"x")]) == []


def test_an_excess_is_not_read_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_limit, "DISCARD_BYTES", 1000)
    n_read = 0

    def endless() -> Iterable[Message]:
        nonlocal n_read
        while True:
            n_read += 1
            yield part(b"x" * 100)

    assert run(endless(), max_bytes=200)[0]["status"] == 413
    assert n_read < 20


def test_other_methods_pass_untouched() -> None:
    assert run([part(b"x", more=False)], method="GET", max_bytes=0)[0]["status"] == 200
