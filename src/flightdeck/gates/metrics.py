"""Measures of probabilities against outcomes, in numpy: ranking, calibration, proper scores, day-block intervals.

Days, not rows, are the independent pieces: rows of one day share their weather and their queues, and an interval that
resamples rows is several times too narrow.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
N_BINS = 15


def roc_auc(label: NDArray[np.int64], probability: Floats, weight: Floats | None = None) -> float:
    """Return the area under the ROC curve, ties counted half; nan with one class only or a nan.

    Parameters
    ----------
    label
        0 or 1, shape (n,).
    probability
        Predicted probability of 1, shape (n,).
    weight
        How many rows each row stands for, shape (n,); one each if not given.

    Notes
    -----
    The Mann-Whitney form, O(n log n): the share of pairs of a 1 and a 0 that are in order, each pair as often as the
    weights of its rows say.

    Examples
    --------
    >>> roc_auc(np.array([0, 1, 1]), np.array([0.1, 0.1, 0.9]))
    0.75
    """
    weights = np.ones(len(label)) if weight is None else weight
    _, group = np.unique(probability, return_inverse=True)
    positive, negative = (np.bincount(group, weights=weights * (label == value)) for value in (1, 0))
    n_pairs = float(positive.sum() * negative.sum())
    if n_pairs == 0 or np.isnan(probability).any():
        return float("nan")
    below = np.cumsum(negative) - negative / 2.0
    return float((positive * below).sum()) / n_pairs


def log_losses(label: NDArray[np.int64], probability: Floats) -> Floats:
    """Return the log loss of each row in nats, shape (n,); probabilities are kept 1e-15 away from 0 and 1."""
    clipped = np.clip(probability, 1e-15, 1.0 - 1e-15)
    return -np.log(np.where(label == 1, clipped, 1.0 - clipped))


def brier(label: NDArray[np.int64], probability: Floats) -> float:
    """Return the mean squared difference between probability and outcome."""
    return float(np.mean((probability - label) ** 2))


def reliability(label: NDArray[np.int64], probability: Floats) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Return mean probability, rate of 1 and number of rows in each of 15 equal-width bins that is not empty.

    Rows whose probability is no number in [0, 1] are left out.
    """
    valid = (probability >= 0) & (probability <= 1)
    label, probability = label[valid], probability[valid]
    bins = np.minimum((probability * N_BINS).astype(np.int64), N_BINS - 1)
    counts = np.bincount(bins, minlength=N_BINS)
    filled = counts > 0
    predicted = np.bincount(bins, weights=probability, minlength=N_BINS)[filled] / counts[filled]
    observed = np.bincount(bins, weights=label, minlength=N_BINS)[filled] / counts[filled]
    return predicted, observed, counts[filled].astype(np.int64)


def calibration_error(label: NDArray[np.int64], probability: Floats) -> float:
    """Return the expected calibration error over 15 equal-width bins; nan without rows or with an invalid one.

    Notes
    -----
    Guo et al., On Calibration of Modern Neural Networks (2017), equation 3.
    """
    if len(label) == 0 or not ((probability >= 0) & (probability <= 1)).all():
        return float("nan")
    predicted, observed, counts = reliability(label, probability)
    return float(np.sum(counts * np.abs(predicted - observed)) / counts.sum())


def day_block_interval(
    values: Floats, day: NDArray[np.int64], *, seed: int = 0, n_resamples: int = 2000, level: float = 0.95
) -> tuple[float, float, float]:
    """Return the mean of `values` and the ends of its interval when whole days are drawn with replacement.

    Parameters
    ----------
    values
        One value a row, shape (n,).
    day
        Number of the day that the row belongs to, shape (n,).
    seed
        Seed of the resampling: the same rows give the same interval.
    n_resamples
        How many times the days are drawn.
    level
        Probability that the interval is to cover, in (0, 1).

    Returns
    -------
    tuple of float
        Mean, lower end, upper end; nan without rows.

    Examples
    --------
    >>> day_block_interval(np.ones(4), np.array([1, 1, 2, 2]))
    (1.0, 1.0, 1.0)
    """
    if len(values) == 0:
        return float("nan"), float("nan"), float("nan")
    _, block = np.unique(day, return_inverse=True)
    sums = np.bincount(block, weights=values)
    counts = np.bincount(block).astype(np.float64)
    drawn = np.random.default_rng(seed).integers(0, len(sums), size=(n_resamples, len(sums)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(values.mean()), float(low), float(high)
