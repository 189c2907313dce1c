"""Canaries for the judge: one world a kind of traffic, the same for both arms unless a regression is asked for.

A world is four weeks of requests of units that come back. What is correlated comes from the flights: the daily rate of
the labels has a standard deviation of 0.066 around the prediction, a design effect of 24 for a day of 920 flights.
"""

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from flightdeck.release.judge.evidence import CanaryEvidence, LabelledItems, Requests

DAY_S, N_DAYS = 86_400.0, 28
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Regression:
    """What the canary does worse: nothing by default."""

    error_ratio: float = 1.0
    error_rate: float | None = None
    latency_ratio: float = 1.0


@dataclass(frozen=True)
class World:
    """One kind of traffic.

    Parameters
    ----------
    n_units, n_requests_a_unit
        How many units there are, and their mean number of requests (geometric).
    error_rate
        Mean share of requests that fail by the fault of the arm.
    is_bursty
        Whether most requests come in 40 bursts of five minutes, five of which are outages for both arms.
    tie_s
        Times are rounded down to this, seconds; 0 for no ties.
    unit_effect, day_effect
        Standard deviations of effects on log latency and logit of the prediction. With a unit effect, one unit in 50
        fails six times in ten, whatever is asked; with a day effect, one day in four has ten times the errors, and the
        labels of a day miss the predictions together.
    is_paired
        Whether both versions scored every labelled item, each with its own good and bad days.
    """

    n_units: int = 1200
    n_requests_a_unit: float = 2.5
    error_rate: float = 0.002
    is_bursty: bool = False
    tie_s: float = 0.0
    unit_effect: float = 0.0
    day_effect: float = 0.0
    is_paired: bool = False
    regression: Regression = field(default_factory=Regression)


WORLDS = {
    "poisson": World(),
    "bursty": World(is_bursty=True),
    "by_user": World(n_units=300, n_requests_a_unit=10.0, unit_effect=0.8),
    "by_day": World(day_effect=0.6, is_paired=True),
    "tied": World(tie_s=3600.0),
    "zero_errors": World(error_rate=0.0),
}
BETTER = replace(WORLDS["by_user"], regression=Regression(error_ratio=0.5))  # its frail units only fail later
AT_MARGIN = World(error_rate=0.02, regression=Regression(error_ratio=1.25, latency_ratio=1.1))


def make_evidence(
    world: World, share: float, random: np.random.Generator, *, with_labels: bool = True
) -> CanaryEvidence:
    """Return one canary, whole; times in seconds from the first midnight."""
    unit = np.repeat(np.arange(world.n_units), random.geometric(1 / world.n_requests_a_unit, world.n_units))
    n = len(unit)
    unit = random.permutation(unit)
    is_canary = (random.random(world.n_units) < share)[unit]
    at_s, in_outage = _times(world, n, random)
    order = np.argsort(at_s)  # a log is in order; units are in none, so they may stay where they are
    at_s, in_outage = at_s[order], in_outage[order]
    day = np.floor(at_s / DAY_S).astype(np.int64)
    is_error = random.random(n) < _error_rates(world, unit, is_canary, day, in_outage, random)
    unit_effects = random.normal(0, world.unit_effect, (2, world.n_units))
    day_effects = random.normal(0, world.day_effect, (2, N_DAYS))
    slower = np.where(is_canary, np.log(world.regression.latency_ratio), 0.0)
    latency_s = np.exp(-5 + slower + random.normal(0, 0.5, n) + unit_effects[0, unit] + day_effects[0, day])
    logit = random.normal(-1.3, 1.0, n) + unit_effects[1, unit] + day_effects[1, day]
    prediction = _probability(logit)
    keys = unit.astype(np.uint64)
    shown = [np.where(is_error, np.nan, values) for values in (latency_s, prediction)]
    requests = Requests(at_s, keys, is_canary, is_error, *shown)
    if not with_labels:
        return CanaryEvidence(requests, N_DAYS * DAY_S)
    labels = _labels(world, requests, logit, day, random)
    return CanaryEvidence(requests, N_DAYS * DAY_S, labels, N_DAYS * DAY_S)


def without_clusters(evidence: CanaryEvidence) -> CanaryEvidence:
    """Return the same canary as somebody sees it who takes every request for a unit of its own."""
    own = np.arange(len(evidence.requests), dtype=np.uint64)
    return replace(evidence, requests=replace(evidence.requests, unit=own))


def _times(world: World, n: int, random: np.random.Generator) -> tuple[Floats, npt.NDArray[np.bool_]]:
    at_s, in_outage = random.random(n) * N_DAYS * DAY_S, np.zeros(n, dtype=np.bool_)
    if world.is_bursty:
        burst = random.integers(0, 40, n)
        inside = random.random(n) < 0.7
        begins_s = random.random(40) * (N_DAYS * DAY_S - 300)
        at_s = np.where(inside, begins_s[burst] + random.random(n) * 300, at_s)
        in_outage = inside & (burst < 5)
    return (np.floor(at_s / world.tie_s) * world.tie_s if world.tie_s else at_s), in_outage


def _error_rates(
    world: World,
    unit: npt.NDArray[np.int64],
    is_canary: npt.NDArray[np.bool_],
    day: npt.NDArray[np.int64],
    in_outage: npt.NDArray[np.bool_],
    random: np.random.Generator,
) -> Floats:
    rates = np.full(len(unit), world.error_rate)
    if world.unit_effect:
        rates = np.where((random.random(world.n_units) < 0.02)[unit], 0.6, rates)
    if world.day_effect:
        rates = np.where((random.random(N_DAYS) < 0.25)[day], 10 * rates, rates)
    rates = np.where(in_outage, 0.5, rates)
    worse = rates * world.regression.error_ratio
    if world.regression.error_rate is not None:
        worse = np.full(len(unit), world.regression.error_rate)
    return np.where(is_canary, worse, rates)


def _labels(
    world: World, requests: Requests, logit: Floats, day: npt.NDArray[np.int64], random: np.random.Generator
) -> LabelledItems:
    """Label every request; the truth of a day lies off the predictions, and so do both versions if they are paired."""
    truth = _probability(logit + random.normal(0, 0.066 / 0.15, N_DAYS)[day])  # 0.15: mean of p * (1 - p)
    label = (random.random(len(truth)) < truth).astype(np.float64)
    if not world.is_paired:
        said = _probability(logit)
        missing = np.full(len(said), np.nan)
        arms = (np.where(requests.is_canary, missing, said), np.where(requests.is_canary, said, missing))
    else:
        off_days = random.normal(0, 0.15, (2, N_DAYS))
        noise = random.normal(0, 0.25, (2, len(truth)))
        arms = (_probability(logit + off_days[0, day] + noise[0]), _probability(logit + off_days[1, day] + noise[1]))
    return LabelledItems(requests.at_s, requests.unit, label, *arms)


def _probability(logit: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-logit)))


def make_labelled_days(
    n_days: int, n_items: int, noise: float, share: float | None, random: np.random.Generator
) -> LabelledItems:
    """Return days of labelled items, each of a unit of its own.

    Parameters
    ----------
    n_days, n_items
        How many days, and items a day.
    noise
        Standard deviation of what the canary adds to the logit: its regression.
    share
        Share of the items that the canary scores, the champion the others; None if both score all.
    random
        Source of randomness.
    """
    n = n_days * n_items
    day = np.repeat(np.arange(n_days), n_items)
    logit = random.normal(-1.3, 1.0, n) + random.normal(0, 0.6, n_days)[day]
    truth = _probability(logit + random.normal(0, 0.066 / 0.15, n_days)[day])
    off_days = random.normal(0, 0.15, (2, n_days))
    champion = _probability(logit + off_days[0, day])
    canary = _probability(logit + off_days[1, day] + random.normal(0, noise, n))
    if share is not None:
        is_canary = random.random(n) < share
        champion, canary = np.where(is_canary, np.nan, champion), np.where(is_canary, canary, np.nan)
    label = (random.random(n) < truth).astype(np.float64)
    return LabelledItems((day + 0.5) * DAY_S, np.arange(n, dtype=np.uint64), label, champion, canary)
