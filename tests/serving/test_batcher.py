"""Batching by arrival: whoever waits hears, in the right order, and nobody computes for who has gone."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from flightdeck.inference.modes import Mode
from serving.errors import RequestRefused
from serving.parts import Parts
from serving.service import PredictionService
from serving.work import Question, Reply
from tests.serving.worker import Asked, application, gathered, question, worker
from tests.serving.world import World, ask

BAD_UNIT = "unit-bad"


@pytest.fixture(scope="module")
def parts(live_world: World) -> Iterator[Parts]:
    with worker(live_world) as found:
        yield found


def watched(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> list[list[Question]]:
    """Return what is computed from now on, batch by batch; a question of `BAD_UNIT` raises."""
    batches: list[list[Question]] = []
    compute = parts.service.compute

    def watch(questions: list[Question], mode: Mode = Mode.MODEL, why: str = "") -> Any:
        batches.append(questions)
        if any(one.ask.unit_id == BAD_UNIT for one in questions):
            raise ArithmeticError("a defect of ours")
        return compute(questions, mode, why)

    monkeypatch.setattr(parts.service, "compute", watch)
    return batches


def test_what_arrives_together_is_computed_together(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = watched(parts, monkeypatch)
    replies = gathered(parts, [ask(2, unit_id=f"unit-{n}") for n in range(5)])
    assert [len(batch) for batch in batches] == [5]
    for place, reply in enumerate(replies):
        assert isinstance(reply, Reply)
        assert json.loads(reply.body)["request_id"] == f"request-{place:03d}"


def test_an_error_of_ours_reaches_who_caused_it_and_the_others_are_answered(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched(parts, monkeypatch)
    replies = gathered(parts, [ask(unit_id=unit) for unit in ("unit-1", BAD_UNIT, "unit-2")])
    assert [type(reply) for reply in replies] == [Reply, ArithmeticError, Reply]


def test_an_error_in_finishing_reaches_everybody(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Any) -> Any:
        raise ArithmeticError("a defect of ours")

    monkeypatch.setattr(parts.service, "finish", fail)
    assert [type(reply) for reply in gathered(parts, [ask(), ask()])] == [ArithmeticError] * 2


def test_a_shadow_queue_that_raises_costs_no_answer(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Any) -> None:
        raise ArithmeticError("a defect of a shadow")

    monkeypatch.setattr(parts.batcher._shadow, "offer", fail)
    assert [type(reply) for reply in gathered(parts, [ask(), ask(surface="alerts")])] == [Reply] * 2


def test_who_has_gone_is_not_computed_and_who_was_cancelled_disturbs_nobody(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = watched(parts, monkeypatch)

    async def ask_all() -> Any:
        there, gone, cancelled = (
            asyncio.ensure_future(parts.batcher.answer(question(ask(unit_id=unit)), {}, _Client(is_gone)))
            for unit, is_gone in (("unit-1", False), ("unit-2", True), ("unit-3", True))
        )
        await asyncio.sleep(0)
        cancelled.cancel()
        return list(await asyncio.gather(there, gone, cancelled, return_exceptions=True))

    there, gone, cancelled = asyncio.run(asyncio.wait_for(ask_all(), 10))
    assert isinstance(there, Reply)
    assert gone is None
    assert isinstance(cancelled, asyncio.CancelledError)
    assert [one.ask.unit_id for batch in batches for one in batch] == ["unit-1"]


def test_more_than_fits_is_answered_most_critical_first_or_refused_with_retry_after(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = watched(parts, monkeypatch)
    surfaces = ["search", "itinerary", "alerts"] * 80  # more would be late before all of them have been asked
    replies = gathered(parts, [ask(4, surface=surface) for surface in surfaces])
    order = [one.ask.surface for batch in batches for one in batch]
    assert order[0] == "alerts"
    first_search = order.index("search") if "search" in order else len(order)
    assert order.index("alerts") < first_search
    refused = dict.fromkeys(("alerts", "itinerary", "search"), 0)
    for surface, reply in zip(surfaces, replies, strict=True):
        if isinstance(reply, Reply):
            continue
        assert isinstance(reply, RequestRefused)
        assert (reply.status, reply.code) in ((503, "overloaded"), (503, "deadline"))
        assert int(reply.headers["Retry-After"]) >= 1
        refused[surface] += 1
    assert refused["search"] > 0
    assert refused["alerts"] <= refused["itinerary"] <= refused["search"]


def test_a_defect_of_ours_is_a_counted_500_in_the_one_form(served: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise ArithmeticError("a defect of ours")

    with monkeypatch.context() as broken:
        broken.setattr(PredictionService, "compute", fail)
        for content_type in ("application/json", "application/json;charset=utf-8"):
            reply = served.predict(json.dumps(ask()).encode(), {"content-type": content_type})
            assert (reply.status, reply.json()["error"]["code"]) == (500, "internal_error")
    assert served.predict(json.dumps(ask()).encode()).status == 200
    shown = served.get("/metrics").content.decode()
    assert 'flightdeck_requests_total{status="500",surface="search"} 2.0' in shown


@pytest.fixture
def served(world: World) -> Iterator[Asked]:
    world.release(world.seal())
    with application(world) as asked:
        yield asked


@dataclass
class _Client:
    disconnected: bool
