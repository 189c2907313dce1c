"""The family `skew`: whether a real server gives the model what training gave it, and answers the same."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from flightdeck.gates.bounds import at_most
from flightdeck.gates.evidence import Evidence
from flightdeck.gates.thresholds import Thresholds
from flightdeck.gates.verdict import Check
from pipelines.evaluation.served_draft import served

N_NAMED = 3


def skew_checks(evidence: Evidence, thresholds: Thresholds) -> Sequence[Check]:
    """Compare features and probabilities of a replayed part of the sample with those of training, value by value.

    Features are compared as the float32 that the model reads; two missing ones are equal, and none may differ.

    Raises
    ------
    FlightdeckError
        As `served_draft.served`.
    """
    seen = served(evidence)
    rows = seen.replayed.rows
    n_differing = count_differing(seen.replayed.numeric, seen.sample.numeric[rows])
    differences = np.abs(seen.replayed.probability - seen.sample.probability[rows])
    return [
        at_most(
            "served_difference_features",
            int(n_differing.sum()),
            0,
            thresholds,
            f"of {seen.replayed.numeric.size:,} values of {len(rows)} rows of the training set, replayed, those served "
            f"otherwise: {_most(n_differing, seen.sample.names)}",
        ),
        at_most(
            "served_difference",
            float(differences.max()),
            thresholds.served_difference_at_most,
            thresholds,
            f"largest difference of a probability of the same {len(rows)} rows, served and in training",
        ),
    ]


def count_differing(served: npt.NDArray[np.float32], trained: npt.NDArray[np.float32]) -> npt.NDArray[np.intp]:
    """Return how many values of each column differ; both are `(n_rows, n_columns)`, and a missing value equals one.

    Examples
    --------
    >>> nan = np.nan
    >>> count_differing(np.array([[1, nan], [2, 3]], np.float32), np.array([[1, nan], [2, nan]], np.float32)).tolist()
    [0, 1]
    """
    is_same = (served == trained) | (np.isnan(served) & np.isnan(trained))
    return np.asarray((~is_same).sum(axis=0))


def _most(n_differing: npt.NDArray[np.intp], names: Sequence[str]) -> str:
    """Name the columns with the most differing values."""
    worst = [place for place in np.argsort(-n_differing, kind="stable")[:N_NAMED] if n_differing[place]]
    return ", ".join(f"{names[place]} ({n_differing[place]})" for place in worst) or "none"
