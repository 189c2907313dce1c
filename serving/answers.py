"""What a request gets back, and what the prediction log keeps of it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flightdeck.core.clock import from_us
from flightdeck.inference.ladder import REFUSED, Descent
from serving.arms import NO_MODE, RULES, Step
from serving.question import Question
from serving.schemas import PredictionRequest
from serving.use_case import flight_ids

Item = dict[str, Any]
NOT_LOGGED = ("feature_ages_s", "features_known_until")


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


def log_records(
    request: PredictionRequest,
    shared: Mapping[str, object],
    question: Question,
    items: Sequence[Item],
    steps: Sequence[Step],
    found: Descent,
) -> list[dict[str, Any]]:
    """Return one prediction log record an item: the answer, the flight, and the features as they were served.

    Parameters
    ----------
    request
        The request.
    shared
        Facts that all items share: request id, times, latency.
    question, items, steps, found
        What happened to it.
    """
    common = {
        **shared,
        "request_us": int(question.request["request_us"][0]),
        "surface": request.surface,
        "unit_id": request.unit_id,
    }
    names = [name for name in question.request if name != "request_us"]
    flights = zip(*(question.request[name].tolist() for name in names), strict=True)
    vectors = {
        place: question.features_as_served(step.release)
        for place, step in enumerate(steps)
        if step.mode != RULES and (found.rung == place).any()
    }
    records = []
    for row, (item, flight, place) in enumerate(zip(items, flights, found.rung.tolist(), strict=True)):
        read = question.reading(steps[max(place, 0)].release).features
        records.append(
            common
            | {name: value for name, value in item.items() if name not in NOT_LOGGED}
            | {
                "item": row,
                "flight": dict(zip(names, flight, strict=True)),
                "bundle_digest": None if place == REFUSED else steps[place].release.digest,
                "feature_us": None if read is None else read.at_us,
                "watermark_us": None if read is None else read.watermark_us,
                "feature_offset": None if read is None else read.offset,
                "features": vectors[place].get(row) if place in vectors else None,
            }
        )
    return records


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
