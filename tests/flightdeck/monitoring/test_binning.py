"""Bins are the reference's; the fast index over all days is Evidently's, day by day."""

import numpy as np
import pandas as pd
import pytest

from flightdeck.monitoring.binning import MISSING, day_indices, fit_bins
from flightdeck.monitoring.drift import population_stability_index


def test_numeric_bins_are_deciles_and_missing_is_a_bin() -> None:
    reference = pd.Series(np.arange(1000.0))
    bins = fit_bins(reference)
    counts = np.bincount(bins.number_of(reference), minlength=bins.n_bins)
    assert counts[MISSING] == 0 and (np.abs(counts[1:] - 100) <= 1).all()
    odd = bins.number_of(pd.Series([np.nan, np.inf, -np.inf, -5.0, 5000.0]))
    assert odd.tolist() == [MISSING, MISSING, MISSING, 1, bins.n_bins - 1]


def test_rare_and_unseen_categories_share_a_bin() -> None:
    bins = fit_bins(pd.Series(["a"] * 60 + ["b"] * 39 + ["c"]))
    assert bins.number_of(pd.Series(["a", "b", "c", "z", None])).tolist() == [1, 2, 3, 3, MISSING]


@pytest.mark.parametrize("values", [[np.nan] * 3, [1.0] * 3, [np.inf] * 3])
def test_degenerate_references_have_bins(values: list[float]) -> None:
    bins = fit_bins(pd.Series(values))
    assert (bins.number_of(pd.Series([1.0, np.nan, 7.0])) < bins.n_bins).all()


@pytest.mark.parametrize("seed", range(5))
def test_day_indices_equal_evidently(seed: int) -> None:
    random = np.random.default_rng(seed)
    n_bins, n_days = 6, 4
    bins = np.minimum(random.poisson(1.0, 400), n_bins - 1)
    day = random.integers(0, n_days, 400)
    found = day_indices(bins, day, n_bins)
    expected = [population_stability_index(bins[day != one], bins[day == one]) for one in range(n_days)]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
