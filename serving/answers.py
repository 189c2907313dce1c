"""What a request gets back, and what the prediction log keeps of it."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from flightdeck.core.clock import from_us
from flightdeck.inference.ladder import REFUSED, Descent
from flightdeck.inference.prediction_log_batch import NONE, FeatureGroup, LogBatch
from serving.arms import NO_MODE, RULES, Step
from serving.question import Question
from serving.schemas import PredictionRequest
from serving.use_case import flight_ids

Item = dict[str, Any]
ANSWERED = ("flight_id", "mode", "reason", "arm", "decision", "model_version")


def answer_items(surface: str, question: Question, arm: str, steps: Sequence[Step], found: Descent) -> list[Item]:
    """Return the items of an answer, in the order of the request; NaN stands for null."""
    decisions = _decide(surface, steps, found)
    known = [_known(question, step) for step in steps]
    ages_s = {place: question.feature_ages_s(steps[place].release) for place in {0, *found.rung.tolist()} - {REFUSED}}
    rows = zip(
        flight_ids(question.request),
        found.probability.tolist(),
        decisions,
        found.rung.tolist(),
        found.failures,
        question.notes(steps[0].release),
        strict=True,
    )
    return [
        {
            "flight_id": flight_id,
            "probability": probability,
            "decision": decision,
            "mode": NO_MODE if place == REFUSED else steps[place].mode,
            "reason": "; ".join((*failures, *notes)) or None,
            "arm": arm,
            "model_version": None if place == REFUSED else steps[place].release.version,
            "feature_ages_s": ages_s[max(place, 0)][row],
            **known[max(place, 0)],
        }
        for row, (flight_id, probability, decision, place, failures, notes) in enumerate(rows)
    ]


def log_batch(
    request: PredictionRequest,
    request_id: str,
    question: Question,
    items: Sequence[Item],
    steps: Sequence[Step],
    found: Descent,
    *,
    logged_at_us: int,
    latency_ms: float,
) -> LogBatch:
    """Return the prediction log's rows of a request: the answers, the flights, and the features as they were served.

    Parameters
    ----------
    request, request_id
        The request.
    question, items, steps, found
        What happened to it.
    logged_at_us
        Time of the answer, UTC microseconds.
    latency_ms
        Time that it took.
    """
    n = len(items)
    reads = [question.reading(steps[max(place, 0)].release).features for place in found.rung.tolist()]
    return LogBatch(
        request_id=[request_id] * n,
        item=np.arange(n),
        surface=[request.surface] * n,
        unit_id=[request.unit_id] * n,
        **{name: [item[name] for item in items] for name in ANSWERED},
        bundle_digest=[None if place == REFUSED else steps[place].release.digest for place in found.rung.tolist()],
        feature_offset=[None if read is None else read.offset for read in reads],
        probability=np.array([item["probability"] for item in items], dtype=np.float64),
        latency_ms=np.full(n, latency_ms),
        logged_at_us=np.full(n, logged_at_us),
        request_us=question.request["request_us"],
        feature_us=np.array([NONE if read is None else read.at_us for read in reads]),
        watermark_us=np.array([NONE if read is None else read.watermark_us for read in reads]),
        request=question.request,
        features=list(_features_as_served(question, steps, found)),
    )


def _features_as_served(question: Question, steps: Sequence[Step], found: Descent) -> Iterator[FeatureGroup]:
    """Yield the features of the rows that each model answered."""
    for place, step in enumerate(steps):
        rows = np.flatnonzero(found.rung == place)
        if step.mode != RULES and len(rows):
            served = question.features_as_served(step.release)
            if served is not None:
                yield FeatureGroup(step.release.digest, served[rows], rows)


def _known(question: Question, step: Step) -> Item:
    """Return what the features that a rung was given reflect."""
    read = question.reading(step.release).features
    if read is None:
        return {"features_known_until": None, "feature_offset": None}
    return {"features_known_until": from_us(read.watermark_us).isoformat(), "feature_offset": read.offset}


def _decide(surface: str, steps: Sequence[Step], found: Descent) -> list[str | None]:
    """Return each row's decision by the thresholds of the release that answered it."""
    decisions: list[str | None] = [None] * len(found.failures)
    for place, step in enumerate(steps):
        rows = np.flatnonzero(found.rung == place)
        if len(rows):
            labels = step.release.surfaces.decide(surface, found.probability[rows])
            for row, label in zip(rows.tolist(), labels, strict=True):
                decisions[row] = label
    return decisions
