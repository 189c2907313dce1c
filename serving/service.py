"""The path of a request: route, read features, descend the ladder, decide, log, answer."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from flightdeck.core.clock import Clock, to_us
from flightdeck.inference.ladder import REFUSED, descend
from flightdeck.inference.prediction_log import PredictionLogWriter
from serving.answers import answer_items, log_batch
from serving.arms import MODES, build_ladder, route
from serving.errors import RequestRefused
from serving.feature_source import FeatureSource, oldest_ages_s
from serving.metrics import Metrics
from serving.question import Question
from serving.release_watch import LiveReleases
from serving.schemas import PredictionRequest
from serving.use_case import request_columns

RETRY_AFTER_S = "5"
_ENCODER = msgspec.json.Encoder()


@dataclass(frozen=True)
class Answer:
    """What goes back.

    Parameters
    ----------
    body
        JSON.
    mode
        The lowest mode among the items.
    """

    body: bytes
    mode: str


class PredictionService:
    """Answers validated requests. Runs in the event loop: a request costs milliseconds and waits for nothing.

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

    def answer(self, request: PredictionRequest, request_id: str) -> Answer:
        """Answer a request; every item is in the prediction log before this returns.

        Raises
        ------
        RequestRefused
            If the time of the request is missing or not allowed (422), or nothing can answer at all (503).
        """
        started = time.perf_counter()
        request_us = self._request_us(request)
        live = self._releases()
        arm, releases = route(request.unit_id, live)
        if not releases:
            raise _unavailable("no_release", *live.absence())
        columns = request_columns(request.flights, request_us)
        question = Question(columns, lambda views: self._features.read(columns, request_us, views))
        steps = build_ladder(question, arm, releases)
        found = descend([step.rung for step in steps], question.n_rows)
        if (found.rung == REFUSED).all():
            raise _unavailable("nothing_answers", "no rung of the ladder could answer", "try again, and see /readyz")
        items = answer_items(request.surface, question, arm, steps, found)
        body = _ENCODER.encode({"request_id": request_id, "surface": request.surface, "predictions": items})
        batch = log_batch(
            request,
            request_id,
            question,
            items,
            steps,
            found,
            logged_at_us=to_us(self._clock.now()),
            latency_ms=round((time.perf_counter() - started) * 1e3, 3),
        )
        logged = self._log.append(batch)
        modes = [item["mode"] for item in items]
        self._metrics.count_log(logged.n_written, logged.n_dropped)
        self._metrics.count_predictions(request.surface, arm, modes, found.failures)
        read = question.reading(releases[0]).features
        if read is not None:
            self._metrics.observe_features(read.staleness_s, oldest_ages_s(read))
        return Answer(body, max(modes, key=MODES.index))

    def _request_us(self, request: PredictionRequest) -> int:
        """Return the time of the question, in the time that this service runs on."""
        asked = request.request_timestamp
        if self._is_event_time == (asked is not None):
            return to_us(self._clock.now() if asked is None else asked)
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


def _unavailable(code: str, message: str, next_step: str) -> RequestRefused:
    return RequestRefused(503, code, message, next_step=next_step, headers={"Retry-After": RETRY_AFTER_S})
