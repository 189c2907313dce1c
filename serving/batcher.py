"""Computes together what waits together: batching by arrival, without a timer.

A request waits until the event loop comes round once more; what arrived meanwhile is one batch. The scheduler says who
is computed, by which rung at best, and who is refused, so that one turn stays short whatever waits. Everything runs in
the loop: handing a batch to a thread costs as much as computing it, and the turn is bounded anyway.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic, thread_time
from typing import Protocol

from flightdeck.inference.modes import Mode
from flightdeck.inference.scheduler import Scheduler
from flightdeck.inference.waiting import Refusal, Waiting
from serving.errors import RequestRefused
from serving.limits import Limits
from serving.metrics import Metrics
from serving.service import PredictionService
from serving.shadow import Shadow
from serving.work import Question, Reply

TIMEOUT = b"x-request-timeout-ms"
_log = logging.getLogger(__name__)
_EXPLAINED = {
    "overload": ("overloaded", "more waits than can be answered in time"),
    "deadline": ("deadline", "nothing can answer within the time that the request allows"),
    "drill": ("drill", "a drill refuses requests on purpose"),
}


class Client(Protocol):
    """What knows whether a client is gone: uvicorn's account of a request.

    ASGI tells it by a message, for which a task would have to wait, at the price of a request.
    """

    disconnected: bool


@dataclass(slots=True)
class Pending:
    """A request in the scheduler: what to answer, and who waits.

    Parameters
    ----------
    question
        The request.
    reply
        Gets the reply, None if the client is gone.
    client
        Tells whether the client is gone; None where nobody can tell.
    capped_by
        Why it may not have the best rung (`drill`, `budget`); empty if it may.
    """

    question: Question
    reply: "asyncio.Future[Reply | None]"
    client: Client | None
    capped_by: str


class Batcher:
    """Answers requests in batches, for one event loop.

    Parameters
    ----------
    service
        Computes and finishes batches.
    scheduler
        Decides who is computed when.
    limits
        Deadlines, drills and budgets.
    shadow
        What is scored after the answers.
    metrics
        Where batches are counted.
    """

    def __init__(
        self, service: PredictionService, scheduler: Scheduler, limits: Limits, shadow: Shadow, metrics: Metrics
    ) -> None:
        self._service = service
        self._scheduler = scheduler
        self._limits = limits
        self._shadow = shadow
        self._metrics = metrics
        self._is_due = False
        self._due_s = self._due_cpu_s = self._ended_cpu_s = 0.0

    async def answer(self, question: Question, headers: Mapping[bytes, bytes], client: Client | None) -> Reply | None:
        """Return the reply to a request, once its batch is computed; None if the client is gone by then.

        Parameters
        ----------
        question
            The request.
        headers
            Its headers, among them perhaps how long the answer is worth waiting for.
        client
            Tells whether the client is gone; None where nobody can tell.

        Raises
        ------
        RequestRefused
            503 if it cannot be answered in time, or nothing can answer.
        TimesBroken
            If the times of its flights break a rule.
        """
        loop = asyncio.get_running_loop()
        surface = question.ask.surface
        highest, capped_by = self._limits.highest(surface)
        if highest is Mode.REFUSED:
            raise refusal_of(capped_by, 1.0)
        reply: asyncio.Future[Reply | None] = loop.create_future()
        taken = self._scheduler.add(
            surface,
            len(question.ask.flights),
            question.arrived_s,
            self._limits.deadline_s(surface, question.arrived_s, headers.get(TIMEOUT)),
            Pending(question, reply, client, capped_by),
            highest,
        )
        if isinstance(taken, Refusal):
            raise refusal_of(taken.why, taken.retry_after_s)
        if question.trace is not None:
            question.trace.admitted()
        self._come_round(loop)
        return await reply

    def _come_round(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._is_due:
            self._is_due, self._due_s, self._due_cpu_s = True, monotonic(), thread_time()
            loop.call_soon(self._turn, loop)

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        """Do one turn of work; times are `monotonic`, because uvloop's clock counts whole milliseconds."""
        now_s, cpu_s = monotonic(), thread_time()
        self._is_due = False
        # a loop that was late because others had the processor is not overloaded: waiting less would not help it
        self._scheduler.observe_lag(min(now_s - self._due_s, cpu_s - self._due_cpu_s))
        self._scheduler.observe_outside(cpu_s - self._ended_cpu_s)
        turn = self._scheduler.next(now_s)
        if turn.refuse:
            self._refuse(turn.refuse)
        groups: dict[tuple[Mode, str], list[Pending]] = defaultdict(list)
        for waiting in turn.compute:
            pending: Pending = waiting.payload
            if pending.reply.done():  # cancelled
                continue
            if pending.client is not None and pending.client.disconnected:
                pending.reply.set_result(None)
            else:
                groups[waiting.mode, waiting.why or pending.capped_by].append(pending)
        for (mode, why), group in groups.items():
            self._compute(mode, why, group)
        if self._scheduler.n_waiting:
            self._come_round(loop)
        else:
            self._shadow.start()
        self._ended_cpu_s = thread_time()

    def _compute(self, mode: Mode, why: str, group: list[Pending]) -> None:
        """Compute one batch and give everybody the reply; an error of ours is an answer too."""
        began_s = monotonic()
        try:
            work = self._service.compute([pending.question for pending in group], mode, why)
        except Exception as error:  # noqa: BLE001 - whatever fails, whoever waits must hear of it
            if len(group) > 1:  # nothing was logged or counted yet: who did not cause it is answered
                for pending in group:
                    self._compute(mode, why, [pending])
                return
            self._fail(group, error)
            return
        try:
            replies = self._service.finish(work)
        except Exception as error:  # noqa: BLE001 - as above
            self._fail(group, error)
            return
        for pending, reply in zip(group, replies, strict=True):
            _give(pending, reply)
        took_s = monotonic() - began_s
        self._scheduler.observe(mode, work.batch.n_rows, took_s, len(group))
        self._metrics.observe_batch(work.batch.n_rows, self._limits.charge(work.items_by_surface, took_s))
        try:
            self._shadow.offer(work)
        except Exception:  # noqa: BLE001 - a shadow costs nobody an answer
            _log.exception("queueing a batch of %d items for shadows failed", work.batch.n_rows)

    def _fail(self, group: list[Pending], error: Exception) -> None:
        _log.error("answering a batch of %d requests failed", len(group), exc_info=error)
        for pending in group:
            _give(pending, error)

    def _refuse(self, refused: list[Waiting]) -> None:
        began_s = monotonic()
        for waiting in refused:
            _give(waiting.payload, refusal_of(waiting.why, waiting.retry_after_s))
        self._scheduler.observe(Mode.REFUSED, 0, monotonic() - began_s, len(refused))


def refusal_of(why: str, retry_after_s: float) -> RequestRefused:
    """Return the refusal of a request that admission does not take; `why` as the scheduler says it."""
    code, message = _EXPLAINED.get(why, (why, why))
    retry_after = {"Retry-After": str(max(1, round(retry_after_s)))}
    return RequestRefused(503, code, message, next_step="come back after Retry-After seconds", headers=retry_after)


def _give(pending: Pending, reply: Reply | Exception) -> None:
    if pending.reply.done():
        return
    if isinstance(reply, Exception):
        pending.reply.set_exception(reply)
    else:
        pending.reply.set_result(reply)
