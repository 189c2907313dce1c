"""What goes back: the answers of a batch as columns, and each request's part of them as JSON bytes."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from flightdeck.core.clock import from_us
from flightdeck.inference.ladder import REFUSED
from flightdeck.inference.modes import Mode
from flightdeck.inference.release_bundle import LoadedRelease
from serving.batch import Batch
from serving.ladders import Answered
from serving.trace import Fact
from serving.use_case import flight_ids

_encoder = msgspec.json.Encoder()
_LABELS = {mode: mode.label for mode in Mode}
_RANKS = {mode.label: mode for mode in Mode}
JOIN = "; "


class Item(msgspec.Struct, gc=False):
    """The answer for one flight, as `serving.schemas.Prediction` describes it; NaN becomes null."""

    flight_id: str
    probability: float
    decision: str | None
    mode: str
    reason: str | None
    arm: str
    model_version: int | None
    feature_ages_s: Any
    features_known_until: str | None
    feature_offset: str | None


class _Body(msgspec.Struct, gc=False):
    request_id: str
    surface: str
    predictions: list[Item]


@dataclass(slots=True)
class Answers:
    """The answers of a batch, a value each row.

    Parameters
    ----------
    flight_id, decision, mode, reason
        As answered; a row that nothing could answer has mode `refused` and no decision.
    probability
        float64 of shape `(n_rows,)`, NaN where there is none.
    model_version, bundle_digest
        Of the release that answered, None where none did.
    ages
        Ages of the features that were given, by view; empty where none were read.
    known_until, offset
        What those features reflect.
    """

    flight_id: list[str]
    probability: npt.NDArray[np.float64]
    decision: list[str | None]
    mode: list[str]
    reason: list[str | None]
    model_version: list[int | None]
    bundle_digest: list[str | None]
    ages: list[Any]
    known_until: list[str | None]
    offset: list[str | None]


def answers_of(batch: Batch, surfaces: Sequence[str], answered: Sequence[Answered]) -> Answers:
    """Return the answers of a batch.

    Parameters
    ----------
    batch
        The batch.
    surfaces
        Surface of each row.
    answered
        Groups that together cover each row once.
    """
    ids = flight_ids(batch.request)
    if len(answered) == 1:
        return Answers(ids, *_group(batch, surfaces, answered[0]))
    n_rows = batch.n_rows
    probability = np.full(n_rows, np.nan)
    columns: list[list[Any]] = [[None] * n_rows for _ in range(8)]
    for group in answered:
        values, *lists = _group(batch, surfaces, group)
        probability[group.rows] = values
        rows = group.rows.tolist()
        for column, found in zip(columns, lists, strict=True):
            for row, value in zip(rows, found, strict=True):
                column[row] = value
    return Answers(ids, probability, *columns)


def items_of(answers: Answers, arms: Sequence[str]) -> list[Item]:
    """Return the answers of a batch, a row each."""
    columns = (
        answers.flight_id,
        answers.probability.tolist(),
        answers.decision,
        answers.mode,
        answers.reason,
        arms,
        answers.model_version,
        answers.ages,
        answers.known_until,
        answers.offset,
    )
    return list(map(Item, *columns))


def encode(request_id: str, surface: str, items: list[Item]) -> bytes:
    """Return the body of the answer to a request."""
    return _encoder.encode(_Body(request_id, surface, items))


def traced_facts(answers: Answers, arms: Sequence[str], start: int, end: int) -> dict[str, Fact]:
    """Return what a trace says about the answer to the request whose rows are `start` to `end`."""
    versions = dict.fromkeys(version for version in answers.model_version[start:end] if version is not None)
    return {
        "flightdeck.mode": lowest_mode(answers.mode[start:end]),
        "flightdeck.reason": tuple(dict.fromkeys(reason for reason in answers.reason[start:end] if reason)),
        "flightdeck.arm": tuple(dict.fromkeys(arms[start:end])),
        "flightdeck.model_version": tuple(versions),
    }


def lowest_mode(modes: Sequence[str]) -> str:
    """Return the lowest of some modes."""
    first = modes[0]
    return first if modes.count(first) == len(modes) else max(modes, key=_RANKS.__getitem__)


def _group(batch: Batch, surfaces: Sequence[str], group: Answered) -> tuple[Any, ...]:
    """Return the answers of a group but for the ids, in the order of its rows."""
    rungs, rows = group.found.rung.tolist(), group.rows.tolist()
    places = dict.fromkeys(rungs)
    decisions = _decide(surfaces, rows, rungs, group)
    reasons = _reasons(batch, rows, group)
    facts = {place: _facts(batch, group, place) for place in places}
    if len(places) == 1:
        (mode, version, digest, ages, until, offset), n = facts[rungs[0]], len(rows)
        spread = [[mode] * n, reasons, [version] * n, [digest] * n, _pick(ages, rows), [until] * n, [offset] * n]
    else:
        chosen = [facts[rung] for rung in rungs]
        modes, versions, digests, _, untils, offsets = map(list, zip(*chosen, strict=True))
        ages = [fact[3][row] if fact[3] else {} for fact, row in zip(chosen, rows, strict=True)]
        spread = [modes, reasons, versions, digests, ages, untils, offsets]
    return group.found.probability, decisions, *spread


def _pick(ages: list[Any], rows: list[int]) -> list[Any]:
    if not ages:
        return [{}] * len(rows)
    return ages if len(ages) == len(rows) else [ages[row] for row in rows]


def _facts(batch: Batch, group: Answered, place: int) -> tuple[Any, ...]:
    """Return mode, version and digest of a rung's release, and what it was given: ages, watermark and offset."""
    step = group.steps[max(place, 0)]
    release: LoadedRelease = step.release
    is_refused = place == REFUSED
    own = (_LABELS[Mode.REFUSED], None, None) if is_refused else (_LABELS[step.mode], release.version, release.digest)
    read = batch.reading(release).features if batch.has_read(release) else None
    if read is None:
        return *own, [], None, None
    return *own, batch.ages(release), _iso(read.watermark_us), read.offset


def _reasons(batch: Batch, rows: list[int], group: Answered) -> list[str | None]:
    notes = batch.notes(group.steps[0].release)
    failures = group.found.failures
    if notes is None:
        return [JOIN.join(why) if why else None for why in failures] if any(failures) else [None] * len(rows)
    return [JOIN.join((*why, *notes[row])) or None for why, row in zip(failures, rows, strict=True)]


def _decide(surfaces: Sequence[str], rows: list[int], rungs: list[int], group: Answered) -> list[str | None]:
    """Return each row's decision by its surface and the thresholds of the release that answered it."""
    names = surfaces if len(rows) == len(surfaces) else [surfaces[row] for row in rows]
    decisions: list[str | None] = [None] * len(rows)
    cells: dict[tuple[str, int], list[int]] = {}
    if names.count(names[0]) == len(names) and rungs.count(rungs[0]) == len(rungs):
        cells[names[0], rungs[0]] = list(range(len(rows)))
    else:
        for place, cell in enumerate(zip(names, rungs, strict=True)):
            cells.setdefault(cell, []).append(place)
    for (surface, rung), places in cells.items():
        if rung == REFUSED:
            continue
        labels = group.steps[rung].release.surfaces.decide(surface, group.found.probability[places])
        if len(places) == len(rows):
            return labels
        for place, label in zip(places, labels, strict=True):
            decisions[place] = label
    return decisions


@lru_cache(maxsize=64)
def _iso(at_us: int) -> str:
    return from_us(at_us).isoformat()
