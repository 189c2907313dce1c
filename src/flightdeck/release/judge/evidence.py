"""What the judge is shown: requests that were answered, and items whose labels have arrived.

Failures that a client caused are left out by whoever makes the evidence: they never count against a model.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Keys = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Requests:
    """Requests of both arms, in any order; all arrays have shape `(n,)`.

    Parameters
    ----------
    at_s
        When each was answered, seconds on one axis for both arms.
    unit
        Key of the unit that was assigned, 64 bits; a request without a unit has a key of its own.
    is_canary
        Whether the canary answered, otherwise the champion.
    is_error
        Whether the arm failed, by its own fault: raised, timed out, or gave something that is no probability.
    latency_s
        Seconds until the answer; NaN where there was none.
    prediction
        Probability that was answered; NaN where there was none.
    """

    at_s: Floats
    unit: Keys
    is_canary: Bools
    is_error: Bools
    latency_s: Floats
    prediction: Floats

    def __len__(self) -> int:
        return len(self.at_s)

    def sorted(self) -> "Requests":
        """Return the requests by time; ties in an order that does not depend on how they came."""
        if (np.diff(self.at_s) > 0).all():
            return self
        order = np.lexsort((self.prediction, self.latency_s, self.is_error, self.is_canary, self.unit, self.at_s))
        return self.take(order)

    def take(self, rows: npt.NDArray[np.intp] | Bools) -> "Requests":
        """Return some of the requests, in the order of `rows`."""
        return Requests(*(getattr(self, field.name)[rows] for field in fields(self)))


@dataclass(frozen=True)
class LabelledItems:
    """Items whose outcome is known, in any order; all arrays have shape `(n,)`.

    Parameters
    ----------
    at_s
        When the request was made, not when the label arrived: quick labels are a biased sample.
    unit
        Key of its unit.
    label
        0 or 1.
    champion, canary
        Probability that each version gave it; NaN for a version that did not score it. An item with both is paired.
    """

    at_s: Floats
    unit: Keys
    label: Floats
    champion: Floats
    canary: Floats

    def __len__(self) -> int:
        return len(self.at_s)


@dataclass(frozen=True)
class CanaryEvidence:
    """One batch: what has been answered since the last one.

    Parameters
    ----------
    requests
        New requests of both arms.
    until_s
        Up to when the requests are complete, seconds.
    labels
        New labelled items; None if there are none.
    labels_until_s
        Up to which time of request the labels are complete; blocks that end by then may vote.
    """

    requests: Requests
    until_s: float
    labels: LabelledItems | None = None
    labels_until_s: float = float("-inf")


def problems(evidence: CanaryEvidence) -> list[str]:
    """Return everything that is malformed in `evidence`; values that are missing (NaN) are not, they say nothing."""
    found = [*_shapes("requests", evidence.requests), *_shapes("labels", evidence.labels)]
    if np.isnan(evidence.until_s) or np.isnan(evidence.labels_until_s):
        found.append("until_s and labels_until_s must be numbers")
    if found:
        return found
    requests, labels = evidence.requests, evidence.labels
    found += _outside("requests.at_s", requests.at_s, -np.inf, np.inf, strict=True)
    found += _outside("requests.latency_s", requests.latency_s, 0, np.inf)
    answered = requests.prediction[~requests.is_error]
    found += _outside("requests.prediction", answered, 0, 1)
    if labels is not None:
        found += _outside("labels.at_s", labels.at_s, -np.inf, np.inf, strict=True)
        if not np.isin(labels.label, (0.0, 1.0)).all():
            found.append("labels.label must be 0 or 1")
        for name in ("champion", "canary"):
            values = getattr(labels, name)
            found += _outside(f"labels.{name}", values, 0, 1)
    return found


def _shapes(what: str, table: Requests | LabelledItems | None) -> Iterator[str]:
    if table is None:
        return
    columns = {field.name: getattr(table, field.name) for field in fields(table)}
    kinds = {"unit": np.uint64, "is_canary": np.bool_, "is_error": np.bool_}
    for name, column in columns.items():
        kind = np.dtype(kinds.get(name, np.float64))
        if not isinstance(column, np.ndarray) or column.dtype != kind or column.shape != (len(columns["at_s"]),):
            yield f"{what}.{name} must be an array of {kind}, as long as at_s"


def _outside(what: str, values: Floats, low: float, high: float, strict: bool = False) -> Iterator[str]:
    """Say whether a value is outside; infinity always is, NaN only if `strict`."""
    bad = ~((values >= low) & (values <= high) & np.isfinite(values))
    if not strict:
        bad &= ~np.isnan(values)
    if bad.any():
        yield f"{what} must be from {low} to {high}, {values[bad][0]} is not"
