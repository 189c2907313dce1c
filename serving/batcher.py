"""Computes together what waits together: batching by arrival, without a timer.

A request waits until the event loop comes round once more; what arrived meanwhile is one batch. The scheduler says who
is computed, by which rung at best, and who is refused, so that one turn stays short whatever waits. Everything runs in
the loop: handing a batch to a thread costs as much as computing it, and the turn is bounded anyway.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Mapping
from time import monotonic, thread_time
from typing import NamedTuple, Protocol

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


class Waiter(Protocol):
    """Who waits for a reply."""

    @property
    def is_gone(self) -> bool:
        """Whether nobody wants the reply any more; asked before it is computed."""
        ...

    def give(self, outcome: Reply | Exception) -> None:
        """Take the reply, or why there is none."""


class Client(Protocol):
    """What knows whether a client is gone: uvicorn's account of a request.

    ASGI tells it by a message, for which a task would have to wait, at the price of a request.
    """

    disconnected: bool


class Future:
    """A waiter of a coroutine.

    Parameters
    ----------
    client
        Tells whether the client is gone; None where nobody can tell.
    """

    def __init__(self, client: Client | None) -> None:
        self.reply: asyncio.Future[Reply | None] = asyncio.get_running_loop().create_future()
        self._client = client

    @property
    def is_gone(self) -> bool:
        """Whether it was cancelled, or the client is gone; then it is told so."""
        if self.reply.done():
            return True
        if self._client is None or not self._client.disconnected:
            return False
        self.reply.set_result(None)
        return True

    def give(self, outcome: Reply | Exception) -> None:
        """Wake the coroutine."""
        if self.reply.done():
            return
        if isinstance(outcome, Exception):
            self.reply.set_exception(outcome)
        else:
            self.reply.set_result(outcome)


class Pending(NamedTuple):
    """A request in the scheduler.

    Parameters
    ----------
    question
        The request.
    waiter
        Who waits.
    capped_by
        Why it may not have the best rung (`drill`, `budget`); empty if it may.
    """

    question: Question
    waiter: Waiter
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
        waiter = Future(client)
        self.ask(question, headers, waiter)
        return await waiter.reply

    def ask(self, question: Question, headers: Mapping[bytes, bytes], waiter: Waiter) -> None:
        """Let a request wait for its batch: `waiter` is given the reply, or why there is none, unless it is gone.

        Parameters
        ----------
        question, headers
            As for `answer`.
        waiter
            Who waits.

        Raises
        ------
        RequestRefused
            503 if it cannot be answered in time: nothing waits then.
        """
        surface = question.ask.surface
        highest, capped_by = self._limits.highest(surface)
        if highest is Mode.REFUSED:
            raise refusal_of(capped_by, 1.0)
        taken = self._scheduler.add(
            surface,
            len(question.ask.flights),
            question.arrived_s,
            self._limits.deadline_s(surface, question.arrived_s, headers.get(TIMEOUT)),
            Pending(question, waiter, capped_by),
            highest,
        )
        if isinstance(taken, Refusal):
            raise refusal_of(taken.why, taken.retry_after_s)
        if question.trace is not None:
            question.trace.admitted()
        self._come_round()

    def _come_round(self) -> None:
        """Do a turn once the loop has come round: not at the end of this round but of the next one.

        Reading what has arrived takes as long as it takes others to arrive. A second look costs a microsecond, and
        whoever is found by it shares the cost of the batch, which is as much as that of eight requests more.
        """
        if not self._is_due:
            self._is_due, self._due_s, self._due_cpu_s = True, monotonic(), thread_time()
            loop = asyncio.get_running_loop()
            loop.call_soon(loop.call_soon, self._turn)

    def _turn(self) -> None:
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
            if not pending.waiter.is_gone:
                groups[waiting.mode, waiting.why or pending.capped_by].append(pending)
        for (mode, why), group in groups.items():
            self._compute(mode, why, group)
        if self._scheduler.n_waiting:
            self._come_round()
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
        now_s = monotonic()
        questions = [p.question for p, reply in zip(group, replies, strict=True) if isinstance(reply, Reply)]
        self._metrics.count_answered((question.ask.surface, now_s - question.arrived_s) for question in questions)
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
    try:
        pending.waiter.give(reply)
    except Exception:  # noqa: BLE001 - one answer that cannot be sent costs nobody else theirs
        _log.exception("giving a reply failed")
