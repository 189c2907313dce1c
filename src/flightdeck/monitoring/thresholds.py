"""Bounds from day-block resampling: how a healthy day may look, told by healthy days.

The rows of one day share their weather and their queues: a day of 900 flights carries the evidence of about 40, and a
binomial test alarms on half of all healthy days. So days are drawn whole; several days are drawn as a run of
consecutive ones, because neighbours resemble each other (moving block bootstrap, Kunsch 1989).
"""

from dataclasses import dataclass

import numpy as np

MINIMUM_DAYS = 20


@dataclass(frozen=True)
class Bounds:
    """Closed range that healthy values lie in; infinite on a side that is not bounded."""

    low: float
    high: float

    def broken_by(self, value: float) -> float | None:
        """Return the bound that `value` breaks, None if it breaks none or is NaN."""
        if value > self.high:
            return self.high
        return self.low if value < self.low else None


def resampled_bounds(
    day_values: np.ndarray,
    *,
    false_alarm_rate: float,
    is_two_sided: bool,
    n_days: int = 1,
    weights: np.ndarray | None = None,
    n_resamples: int = 10_000,
    seed: int = 0,
) -> Bounds | None:
    """Return the bounds that the mean of `n_days` healthy days breaks with probability `false_alarm_rate`.

    Parameters
    ----------
    day_values
        One value a day in the order of the days, shape `(n,)`; days without a finite value are left out.
    false_alarm_rate
        In (0, 1); halved between the sides if `is_two_sided`, else all of it bounds from above.
    is_two_sided
        Whether small values alarm as well.
    n_days
        Number of consecutive days that are judged together.
    weights
        Rows a day, shape `(n,)`; equal if not given.
    n_resamples
        Number of draws.
    seed
        Seed of the draws.

    Returns
    -------
    Bounds or None
        None with fewer than 20 days: too little to know what is healthy.
    """
    values = np.asarray(day_values, dtype=np.float64)
    weight = np.ones(len(values)) if weights is None else np.asarray(weights, dtype=np.float64)
    there = np.isfinite(values) & (weight > 0)
    values, weight = values[there], weight[there]
    if len(values) < max(MINIMUM_DAYS, n_days):
        return None
    first = np.random.default_rng(seed).integers(0, len(values) - n_days + 1, size=n_resamples)
    drawn = first[:, None] + np.arange(n_days)
    means = (values[drawn] * weight[drawn]).sum(axis=1) / weight[drawn].sum(axis=1)
    if not is_two_sided:
        return Bounds(float("-inf"), float(np.quantile(means, 1 - false_alarm_rate)))
    low, high = np.quantile(means, [false_alarm_rate / 2, 1 - false_alarm_rate / 2])
    return Bounds(float(low), float(high))
