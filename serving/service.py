"""The path of a batch: route, read features, descend the ladders, decide, answer, log.

`compute` only reads and may run in a thread beside the event loop; `finish` writes log and metrics, in the loop. A
batch sees one moment of the releases, so no answer mixes two of them.
"""

import time
from collections.abc import Callable, Sequence
from itertools import compress

import numpy as np

from flightdeck.core.clock import Clock, to_us
from flightdeck.features.online import OnlineFeatures
from flightdeck.inference.modes import Mode
from flightdeck.inference.prediction_log import PredictionLogWriter
from flightdeck.inference.routes import Route
from flightdeck.inference.routing import route
from serving.answers import Answers, Item, answers_of, encode, items_of, lowest_mode, traced_facts
from serving.batch import Batch, Rows
from serving.errors import RequestRefused
from serving.feature_source import FeatureSource, oldest_ages_s
from serving.ladders import answer, steps_for
from serving.log_records import log_batch
from serving.metrics import Metrics
from serving.release_watch import LiveReleases
from serving.use_case import request_columns
from serving.wire import Ask, first_broken
from serving.wire import items_of as flights_of
from serving.work import Question, Reply, Work, steps_of

RETRY_AFTER_S = "5"
REFUSED = Mode.REFUSED.label


class TimesBroken(Exception):
    """The times of a request's flights break a rule: the declared route says which."""


class PredictionService:
    """Answers batches of validated requests.

    Parameters
    ----------
    releases
        Gives what is live now.
    features
        The online store.
    log
        The prediction log.
    metrics
        Where to count.
    clock
        Time of logging, and of requests that do not carry one.
    is_event_time
        Whether requests carry their time.
    """

    def __init__(
        self,
        releases: Callable[[], LiveReleases],
        features: FeatureSource,
        log: PredictionLogWriter,
        metrics: Metrics,
        clock: Clock,
        *,
        is_event_time: bool,
    ) -> None:
        self._releases = releases
        self._features = features
        self._log = log
        self._metrics = metrics
        self._clock = clock
        self._is_event_time = is_event_time
        self._last_read: OnlineFeatures | None = None

    def show_features(self) -> None:
        """Show in the metrics what was read last; called a few times a second."""
        read, self._last_read = self._last_read, None
        if read is not None:
            self._metrics.observe_features(read.staleness_s, oldest_ages_s(read))

    def question(self, ask: Ask, request_id: str, arrived_s: float) -> Question:
        """Return a request with its time, in the time that this service runs on.

        Raises
        ------
        RequestRefused
            422 if it brings a time and must not, or the other way round; 503 if no release can answer anything.
        """
        live = self._releases()
        if live.champion is None:
            raise _unavailable("no_release", *live.absence())
        asked = ask.request_timestamp
        if self._is_event_time == (asked is not None):
            return Question(ask, request_id, to_us(self._clock.now() if asked is None else asked), arrived_s)
        rule = (
            "required: this service runs on event time (FLIGHTDECK_CLOCK=event)"
            if self._is_event_time
            else "not allowed: this service runs on its own clock; with FLIGHTDECK_CLOCK=event it would take yours"
        )
        raise RequestRefused(
            422,
            "invalid_request",
            "the body breaks a rule of the request",
            violations=[("request_timestamp", rule)],
        )

    def compute(self, questions: Sequence[Question], highest: Mode = Mode.MODEL, why: str = "") -> Work:
        """Compute the answers of some requests together.

        Parameters
        ----------
        questions
            The requests.
        highest
            Highest rung that may be tried.
        why
            Why no higher one may.
        """
        began_s = time.perf_counter()
        live = self._releases()
        sizes = [len(question.ask.flights) for question in questions]
        request_us = np.repeat(np.array([question.request_us for question in questions], dtype=np.int64), sizes)
        flights = flights_of([question.ask for question in questions])
        batch = Batch(request_columns(flights, request_us), self._features, steps_of(questions))
        units = [unit for q, n in zip(questions, sizes, strict=True) for unit in (q.ask.unit_id,) * n]
        routes = route(live.table, units, batch.request)
        groups = routes.groups()
        answered = [answer(batch, rows, steps_for(way, live), highest, why) for way, rows in groups]
        return Work(
            questions,
            batch,
            live,
            answered,
            _arms(groups, batch.n_rows),
            [surface for q, n in zip(questions, sizes, strict=True) for surface in (q.ask.surface,) * n],
            routes.shadows,
            time.perf_counter() - began_s,
        )

    def finish(self, work: Work) -> list[Reply | Exception]:
        """Log and count a computed batch; return the reply to each request, or why there is none.

        Every item is in the prediction log (or counted as left out or dropped) before this returns.
        """
        if work.batch.steps is None:
            return self._finish(work)
        with work.batch.steps.take("answer", {"flightdeck.batch_items": work.batch.n_rows}):
            return self._finish(work)

    def _finish(self, work: Work) -> list[Reply | Exception]:
        answers = answers_of(work.batch, work.surfaces, work.answered)
        broken = first_broken(work.batch.request)
        items = items_of(answers, work.arms)
        is_any_broken = np.count_nonzero(broken) > 0
        replies: list[Reply | Exception] = []
        rows: list[int] = []
        start = 0
        for question in work.questions:
            end = start + len(question.ask.flights)
            if is_any_broken and broken[start:end].any():
                replies.append(TimesBroken())
            else:
                replies.append(_reply(question, items[start:end]))
                if isinstance(replies[-1], Reply):
                    rows += range(start, end)
            if question.trace is not None:
                question.trace.facts |= traced_facts(answers, work.arms, start, end)
            start = end
        self._log_and_count(work, answers, rows)
        return replies

    def _log_and_count(self, work: Work, answers: Answers, rows: list[int]) -> None:
        logged = self._log.append(log_batch(work, answers, rows, to_us(self._clock.now())))
        self._metrics.count_log(*logged)
        counted = zip(work.surfaces, answers.mode, work.arms, strict=True)
        self._metrics.count_predictions(
            counted if len(rows) == len(answers.mode) else compress(counted, _marked(rows, len(answers.mode))),
            (failures for group in work.answered for failures in group.found.failures if failures),
        )
        for reading in work.batch.readings():
            if reading.features is not None:
                self._last_read = reading.features


def _reply(question: Question, items: list[Item]) -> Reply | RequestRefused:
    mode = lowest_mode([item.mode for item in items])
    if mode == REFUSED and all(item.mode == REFUSED for item in items):
        return _unavailable("nothing_answers", "no rung of the ladder could answer", "try again, and see /readyz")
    return Reply(encode(question.request_id, question.ask.surface, items), mode)


def _marked(rows: list[int], n_rows: int) -> list[bool]:
    marked = [False] * n_rows
    for row in rows:
        marked[row] = True
    return marked


def _unavailable(code: str, message: str, next_step: str) -> RequestRefused:
    return RequestRefused(503, code, message, next_step=next_step, headers={"Retry-After": RETRY_AFTER_S})


def _arms(groups: Sequence[tuple[Route, Rows]], n_rows: int) -> list[str]:
    """Return the arm of each row, `<segment>/<arm>` inside a segment."""
    names = [f"{way.segment}/{way.arm}" if way.segment else way.arm for way, _ in groups]
    if len(groups) == 1:
        return names * n_rows
    arms = [""] * n_rows
    for name, (_, rows) in zip(names, groups, strict=True):
        for row in rows.tolist():
            arms[row] = name
    return arms
