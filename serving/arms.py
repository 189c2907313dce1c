"""Who may answer a unit: its arm, and the rungs of the ladder that its arm has."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from flightdeck.inference.ladder import Rung
from flightdeck.inference.release_bundle import LoadedRelease
from flightdeck.inference.routes import CANARY, CHAMPION
from flightdeck.inference.routing import assign
from serving.question import Question
from serving.release_watch import LiveReleases

MODEL, FALLBACK, RULES, NO_MODE = "model", "fallback", "rules", "refused"
MODES = (MODEL, FALLBACK, RULES, NO_MODE)
Score = Callable[[npt.NDArray[np.intp]], npt.NDArray[np.float64]]


class Step(NamedTuple):
    """A rung, the mode that it stamps and the release that it belongs to."""

    rung: Rung
    mode: str
    release: LoadedRelease


def route(unit_id: str, live: LiveReleases) -> tuple[str, list[LoadedRelease]]:
    """Return the unit's arm and the releases that may answer it, best first; none if the arm has none.

    A unit of the canary's share may be answered by the champion where the canary fails, never the other way round.
    """
    arm = CHAMPION
    if live.canary is not None:
        arm = assign(unit_id, salt=live.canary.digest, canary_share=live.canary_share)
    chosen = (live.canary, live.champion) if arm == CANARY else (live.champion,)
    return arm, [release for release in chosen if release is not None]


def build_ladder(question: Question, arm: str, releases: list[LoadedRelease]) -> list[Step]:
    """Return the rungs: the model of each of `releases`, then fallback model and rules of the last one."""
    names = (CANARY, CHAMPION) if arm == CANARY else (CHAMPION,)
    models = [
        Step(Rung(name, _model(question, release), question.reading(release).unusable), MODEL, release)
        for name, release in zip(names, releases, strict=False)
    ]
    base = releases[-1]
    fallback: Score = lambda rows: base.score_fallback(question.rows(rows))  # noqa: E731
    rules: Score = lambda rows: base.score_rules(question.rows(rows))  # noqa: E731
    return [*models, Step(Rung(FALLBACK, fallback), FALLBACK, base), Step(Rung(RULES, rules), RULES, base)]


def _model(question: Question, release: LoadedRelease) -> Score:
    def score(rows: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
        return release.score_model(question.rows(rows), question.features(release)[rows])

    return score
