"""Bins of a column, fitted to the reference: what the population stability index counts in.

Numeric columns are cut at the reference's deciles, so that one outlier does not stretch the bins; "no finite value" is
a bin of its own, because a feed that falls silent is the drift one most wants to see. Rare categories share a bin.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

N_QUANTILES = 10
RARE_SHARE = 0.03
MISSING = 0


@dataclass(frozen=True)
class Bins:
    """How values become bin numbers: 0 is missing, then the numeric intervals or categories, then all others.

    Parameters
    ----------
    edges
        Inner edges of the intervals `[edge, next edge)`, ascending; None for a categorical column.
    categories
        Values that have a bin of their own.
    """

    edges: np.ndarray | None
    categories: tuple[str, ...] = ()

    @property
    def n_bins(self) -> int:
        """Number of bins."""
        return 2 + (len(self.categories) if self.edges is None else len(self.edges))

    def number_of(self, values: "pd.Series[Any]") -> np.ndarray:
        """Return the bin of each value, int64, same order."""
        if self.edges is None:
            place = {category: number + 1 for number, category in enumerate(self.categories)}
            others = len(self.categories) + 1
            found = values.map(lambda value: place.get(str(value), others)).to_numpy(dtype=np.int64)
            return np.where(values.isna().to_numpy(), MISSING, found)
        number = pd.to_numeric(values, errors="coerce").to_numpy(dtype=np.float64)
        bins = 1 + np.searchsorted(self.edges, number, side="right")
        return np.where(np.isfinite(number), bins, MISSING)


def fit_bins(reference: "pd.Series[Any]") -> Bins:
    """Return the bins of a column; one without any finite value has only "missing" and "there"."""
    if not is_numeric_dtype(reference):
        shares = reference.astype(str)[reference.notna()].value_counts(normalize=True)
        return Bins(None, tuple(sorted(str(name) for name, share in shares.items() if share >= RARE_SHARE)))
    finite = reference.to_numpy(dtype=np.float64)
    finite = finite[np.isfinite(finite)]
    inner = np.arange(1, N_QUANTILES) / N_QUANTILES
    return Bins(np.unique(np.quantile(finite, inner)) if len(finite) else np.empty(0))


def day_indices(bins: np.ndarray, day: np.ndarray, n_bins: int) -> np.ndarray:
    """Return the population stability index of each day against all other days, in the order of the days.

    Parameters
    ----------
    bins
        Bin of each reference row, shape `(n_rows,)`.
    day
        Number of its day, 0 to n_days - 1, shape `(n_rows,)`.
    n_bins
        Number of bins.

    Notes
    -----
    Equals Evidently's `psi_stat_test` on the same bins, day by day, in one pass over all days.
    """
    n_days = int(day.max()) + 1
    counts = np.bincount(day * n_bins + bins, minlength=n_days * n_bins).reshape(n_days, n_bins).astype(np.float64)
    rest = counts.sum(axis=0) - counts
    present = counts + rest > 0
    p, q = _shares(rest, present), _shares(counts, present)
    with np.errstate(invalid="ignore", divide="ignore"):
        terms = (p - q) * np.log(p / q)
    return np.asarray(np.where(present, terms, 0.0).sum(axis=1))


def _shares(counts: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Return shares by day, with Evidently's stand-in for zero."""
    shares = counts / counts.sum(axis=1, keepdims=True)
    least = np.where(shares > 0, shares, np.inf).min(axis=1, keepdims=True)
    zero = np.where(least <= 1e-4, least / 1e6, 1e-4)
    return np.where(present & (shares == 0), zero, shares)
