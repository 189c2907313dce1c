"""Drift of training data: the features that a draft learned from against those that the champion learned from.

Each bundle carries a sample of its training rows. Bins are those of monitoring (`flightdeck.monitoring.binning`),
fitted to the champion's sample, and the index is Evidently's by the same formula (ADR 10). New data is a reason to
train, so drift is no fault in itself; a column that has moved a lot is one that somebody should have looked at.
"""

import math
from pathlib import Path

import numpy as np
import pandas as pd

from flightdeck.core.errors import ContractViolation, NotFoundError, some
from flightdeck.gates.bounds import at_most, nothing_to_hold
from flightdeck.gates.evidence import Evidence
from flightdeck.gates.thresholds import Thresholds
from flightdeck.gates.verdict import Check
from flightdeck.monitoring.binning import Bins, day_indices, fit_bins

NAME = "psi"
SAMPLE = Path("reference") / "features.parquet"
NO_FEATURES = ("request_timestamp", "probability")


def training_drift(evidence: Evidence, thresholds: Thresholds) -> list[Check]:
    """Check the largest population stability index of any feature between the champion's training data and the draft's.

    Raises
    ------
    ContractViolation
        If a sample has no row, or the two have no feature in common.
    NotFoundError
        If there is no sample.
    """
    bound = thresholds.psi_at_most
    if evidence.champion_problem:
        detail = f"the champion cannot be compared with: {evidence.champion_problem}"
        return [at_most(NAME, math.nan, bound, thresholds, detail)]
    if evidence.champion_path is None:
        detail = "no champion yet: nothing to compare the training data with"
        return [nothing_to_hold(NAME, bound, thresholds, detail)]
    reference, current = (_read_sample(folder / SAMPLE) for folder in (evidence.champion_path, evidence.draft))
    shared = [name for name in reference.columns if name in current.columns]
    if not shared:
        raise ContractViolation(
            f"comparing training data: the champion's features ({some(reference.columns)}) and the draft's "
            f"({some(current.columns)}) have nothing in common",
            next_step="leave training_drift out of the tier's gates for a first model of another kind",
        )
    indices = {name: stability_index(reference[name], current[name]) for name in shared}
    ranked = sorted(indices, key=lambda name: -indices[name])
    alone = sorted(set(reference.columns) ^ set(current.columns))
    detail = (
        f"largest PSI of {len(shared)} features between the training rows of the champion ({len(reference):,} of them) "
        f"and of the draft ({len(current):,}): {some((f'{name} {indices[name]:.3f}' for name in ranked), 3)}; "
        f"of one side only: {some(alone) or 'none'}"
    )
    return [at_most(NAME, indices[ranked[0]], bound, thresholds, detail)]


def stability_index(reference: pd.Series, current: pd.Series) -> float:
    """Return the population stability index of two samples of a column, in bins of the first.

    Examples
    --------
    >>> stability_index(pd.Series([1.0, 2.0, 3.0, 4.0]), pd.Series([4.0, 3.0, 2.0, 1.0]))
    0.0
    """
    bins = _fit_bins(reference)
    numbers = [bins.number_of(values) for values in (reference, current)]
    which = np.repeat([0, 1], [len(reference), len(current)])
    return float(day_indices(np.concatenate(numbers), which, bins.n_bins)[1])


def _fit_bins(reference: pd.Series) -> Bins:
    """Return monitoring's bins; where one value is most of a column, what lies above it is told from it."""
    bins = fit_bins(reference)
    if bins.edges is None or len(bins.edges) != 1:
        return bins
    return Bins(np.append(bins.edges, np.nextafter(bins.edges, np.inf)))


def _read_sample(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise NotFoundError(f"comparing training data: {path} does not exist", next_step="kedro run --config kedro.yml")
    frame = pd.read_parquet(path).drop(columns=list(NO_FEATURES), errors="ignore")
    if frame.empty:
        raise ContractViolation(f"comparing training data: {path} has no row or no feature")
    return frame
