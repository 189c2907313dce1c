"""Who may answer which items of a batch: the rungs of each group of items, best first."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from time import thread_time
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from flightdeck.inference.ladder import Descent, Rung, descend
from flightdeck.inference.modes import Mode
from flightdeck.inference.release_bundle import LoadedRelease
from flightdeck.inference.routes import CHAMPION, Route
from serving.batch import Batch, Floats, Rows, Served
from serving.release_watch import LiveReleases
from serving.trace import Fact


class Step(NamedTuple):
    """A rung, the mode that it stamps and the release that it belongs to."""

    name: str
    mode: Mode
    release: LoadedRelease


@dataclass(slots=True)
class Answered:
    """A group of items with the same releases, answered.

    Parameters
    ----------
    rows
        Their rows in the batch, shape `(n,)`.
    steps
        Their rungs, best first.
    found
        What the ladder found for them, in the order of `rows`.
    served
        What the models of the rungs read, by place of the rung; row numbers are places in `rows`.
    """

    rows: Rows
    steps: Sequence[Step]
    found: Descent
    served: dict[int, Served] = field(default_factory=dict)


def steps_for(way: Route, live: LiveReleases) -> list[Step]:
    """Return the rungs of a route, best first: the models of its versions, then fallback and rules of the last one.

    A unit of a canary or an experiment may be answered by the champion where its own version fails, never the other
    way round.
    """
    named = ((way.arm.replace(":", "/"), way.version), (CHAMPION, way.fallback_version))
    found = [(name, live.release(version)) for name, version in named if version is not None]
    models = [Step(name, Mode.MODEL, release) for name, release in found if release is not None]
    base = models[-1].release
    return [*models, *(Step(mode.label, mode, base) for mode in (Mode.FALLBACK, Mode.RULES))]


def answer(batch: Batch, rows: Rows, steps: Sequence[Step], highest: Mode, why: str) -> Answered:
    """Let the rungs answer some rows of a batch; those above `highest` are not tried, for the reason `why`."""
    served: dict[int, Served] = {}
    rungs = (
        Rung(step.name, partial(_score, batch, rows, step, served, place), _barred(batch, rows, step, highest, why))
        for place, step in enumerate(steps)
    )  # each is made when it is its turn
    return Answered(rows, steps, descend(rungs, len(rows)), served)


def _barred(batch: Batch, rows: Rows, step: Step, highest: Mode, why: str) -> str | npt.NDArray[np.object_]:
    if step.mode < highest:
        return why
    if step.mode is not Mode.MODEL:
        return ""
    unusable = batch.reading(step.release).unusable
    return unusable if isinstance(unusable, str) else unusable[rows]


def _score(batch: Batch, rows: Rows, step: Step, served: dict[int, Served], place: int, chosen: Rows) -> Floats:
    if batch.steps is None:
        return _scored(batch, rows, step, served, place, chosen)
    facts: dict[str, Fact] = {"flightdeck.mode": step.mode.label, "flightdeck.model_version": step.release.version}
    with batch.steps.take(f"plan {step.name}", {**facts, "flightdeck.batch_items": len(chosen)}):
        return _scored(batch, rows, step, served, place, chosen)


def _scored(batch: Batch, rows: Rows, step: Step, served: dict[int, Served], place: int, chosen: Rows) -> Floats:
    of_batch = rows[chosen]
    if step.mode is Mode.RULES:
        return step.release.score_rules(batch.rows(of_batch))
    began_s = thread_time()
    if step.mode is Mode.MODEL:
        scores = batch.score_model(step.release, of_batch)
    else:
        scores = step.release.score_fallback(batch.rows(of_batch))
    if len(scores.numeric) == len(chosen):  # else nobody can say which item was given what
        took_ms = (thread_time() - began_s) * 1e3
        served[place] = Served(step.release, chosen, scores.numeric, took_ms)
    return scores.probability
