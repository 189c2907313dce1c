"""What goes back: the items of each request as JSON bytes."""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
import numpy as np

from flightdeck.core.clock import from_us
from flightdeck.inference.ladder import REFUSED
from flightdeck.inference.modes import Mode
from flightdeck.inference.release_bundle import LoadedRelease
from flightdeck.inference.surfaces import Surfaces
from serving.batch import Batch
from serving.ladders import Answered
from serving.use_case import flight_ids

_encoder = msgspec.json.Encoder()
_RANK = {mode.label: mode for mode in Mode}
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
    feature_ages_s: dict[str, float]
    features_known_until: str | None
    feature_offset: str | None


class _Body(msgspec.Struct, gc=False):
    request_id: str
    surface: str
    predictions: list[Item]


class Asked(NamedTuple):
    """One request of a batch: who asks, and how many items are theirs."""

    request_id: str
    surface: str
    n_items: int


def encode(asked: Asked, items: list[Item]) -> bytes:
    """Return the body of the answer to one request."""
    return _encoder.encode(_Body(asked.request_id, asked.surface, items))


def lowest_mode(items: Iterable[Item]) -> str:
    """Return the lowest mode among some items."""
    return max((item.mode for item in items), key=_RANK.__getitem__)


def items_of(batch: Batch, surfaces: Sequence[str], arms: Sequence[str], answered: Sequence[Answered]) -> list[Item]:
    """Return an item for each row of the batch, in order.

    Parameters
    ----------
    batch
        The batch.
    surfaces, arms
        Surface and arm of each row, length `n_rows`.
    answered
        Groups that together cover each row once.
    """
    items: list[Any] = [None] * batch.n_rows
    ids = flight_ids(batch.request)
    for group in answered:
        for row, item in zip(group.rows.tolist(), _group_items(batch, surfaces, arms, ids, group), strict=True):
            items[row] = item
    return items


def _group_items(
    batch: Batch, surfaces: Sequence[str], arms: Sequence[str], ids: Sequence[str], group: Answered
) -> Iterable[Item]:
    rows, steps, found = group.rows.tolist(), group.steps, group.found
    notes = batch.notes(steps[0].release)
    decisions = _decide(surfaces, group)
    by_release = {id(step.release): _known(batch, step.release) for step in steps}
    known = [by_release[id(step.release)] for step in steps]
    for place, (row, rung, probability) in enumerate(
        zip(rows, found.rung.tolist(), found.probability.tolist(), strict=True)
    ):
        ages, until, offset = known[max(rung, 0)]
        why = found.failures[place] if notes is None else (*found.failures[place], *notes[row])
        step = None if rung == REFUSED else steps[rung]
        yield Item(
            ids[row],
            probability,
            decisions[place],
            Mode.REFUSED.label if step is None else step.mode.label,
            JOIN.join(why) or None,
            arms[row],
            None if step is None else step.release.version,
            ages[row] if ages else {},
            until,
            offset,
        )


def _decide(surfaces: Sequence[str], group: Answered) -> list[str | None]:
    """Return each row's decision by its surface and the thresholds of the release that answered it."""
    decisions: list[str | None] = [None] * len(group.rows)
    rungs = group.found.rung
    names = [surfaces[row] for row in group.rows.tolist()]
    if len(set(names)) == 1 and len(rungs) and (rungs == rungs[0]).all():
        if rungs[0] == REFUSED:
            return decisions
        surfaces_of: Surfaces = group.steps[rungs[0]].release.surfaces
        return surfaces_of.decide(names[0], group.found.probability)
    cells: dict[tuple[str, int], list[int]] = {}
    for place, cell in enumerate(zip(names, rungs.tolist(), strict=True)):
        cells.setdefault(cell, []).append(place)
    for (surface, rung), places in cells.items():
        if rung != REFUSED:
            labels = group.steps[rung].release.surfaces.decide(surface, group.found.probability[np.array(places)])
            for place, label in zip(places, labels, strict=True):
                decisions[place] = label
    return decisions


def _known(batch: Batch, release: LoadedRelease) -> tuple[list[dict[str, float]], str | None, str | None]:
    """Return what the features that a release was given reflect: ages of each row, watermark and offset."""
    read = batch.reading(release).features if batch.has_read(release) else None
    if read is None:
        return [], None, None
    ages = [dict(zip(read.views, row, strict=True)) for row in read.ages.tolist()]
    return ages, _iso(read.watermark_us), read.offset


@lru_cache(maxsize=64)
def _iso(at_us: int) -> str:
    return from_us(at_us).isoformat()
