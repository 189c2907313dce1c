"""Canaries to judge: drawn from a seed, healthy unless asked otherwise."""

import numpy as np

from flightdeck.gates.judge_policy import ErrorRule, JudgePolicy, LatencyRule, LogLossRule, PredictionRule
from flightdeck.release.judge.evidence import CanaryEvidence, LabelledItems, Requests

DAY_S = 86_400.0
POLICY = JudgePolicy(
    bake_s=600.0,
    silence_s=600.0,
    errors=ErrorRule(n_units_at_least=50),
    latency=LatencyRule(n_units_at_least=50),
    predictions=PredictionRule(n_units_at_least=50),
    log_loss=LogLossRule(n_units_a_block_at_least=5),
)


def make_requests(
    n: int,
    *,
    share: float = 0.5,
    seed: int = 1,
    n_units: int = 0,
    error_rates: tuple[float, float] = (0.001, 0.001),
    latency_ratio: float = 1.0,
    shift: float = 0.0,
    tie_s: float = 0.0,
) -> Requests:
    """Return `n` requests of one hour; errors of champion and canary, and what the canary does worse."""
    random = np.random.default_rng(seed)
    n_units = n_units or n
    is_canary_unit = random.random(n_units) < share
    unit = random.integers(0, n_units, n)
    is_canary = is_canary_unit[unit]
    at_s = np.sort(random.random(n)) * 3600
    is_error = random.random(n) < np.where(is_canary, error_rates[1], error_rates[0])
    latency_s = random.lognormal(-5, 0.5, n) * np.where(is_canary, latency_ratio, 1.0)
    prediction = np.clip(random.beta(1.2, 3.3, n) + np.where(is_canary, shift, 0.0), 0, 1)
    return Requests(
        np.floor(at_s / tie_s) * tie_s if tie_s else at_s,
        unit.astype(np.uint64),
        is_canary,
        is_error,
        np.where(is_error, np.nan, latency_s),
        np.where(is_error, np.nan, prediction),
    )


def make_evidence(requests: Requests, until_s: float = 3600.0) -> CanaryEvidence:
    return CanaryEvidence(requests, until_s)


def make_labels(n_days: int, *, noise: float = 0.0, n_a_day: int = 100, seed: int = 1) -> LabelledItems:
    """Return paired labelled items; `noise` is what the canary adds to the logit."""
    random = np.random.default_rng(seed)
    n = n_days * n_a_day
    logit = random.normal(-1.2, 1.0, n)
    label = (random.random(n) < 1 / (1 + np.exp(-logit))).astype(np.float64)
    arms = [1 / (1 + np.exp(-(logit + random.normal(0, scale, n)))) for scale in (0.1, 0.1 + noise)]
    at_s = np.repeat(np.arange(n_days), n_a_day) * DAY_S + random.random(n) * DAY_S
    return LabelledItems(at_s, np.arange(n, dtype=np.uint64), label, arms[0], arms[1])


def cut(requests: Requests, places: list[int]) -> list[Requests]:
    """Cut requests, which are in the order of time, at `places`."""
    return [requests.take(rows) for rows in np.split(np.arange(len(requests)), sorted(places))]
