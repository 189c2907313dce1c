"""What the prediction log is given: one batch of answered items, column by column."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

Text = Sequence[str | None]
Whole = npt.NDArray[np.int64]
Real = npt.NDArray[np.float64]
NONE = -1


class FeatureGroup(NamedTuple):
    """Features that one bundle was given for some rows of a batch, as they were served.

    Parameters
    ----------
    bundle_digest
        The bundle whose features these are: its declaration names the columns.
    values
        float32 of shape `(n_group, n_features)`; NaN where a feature has no value.
    rows
        Row of the batch for each row of `values`, shape `(n_group,)`, each at most once over all groups of the batch;
        None: all rows of the batch in order.
    """

    bundle_digest: str
    values: npt.NDArray[np.float32]
    rows: npt.NDArray[np.intp] | None = None


class LogBatch(msgspec.Struct, frozen=True, eq=False):
    """Answered items, one a row. Rows may come from different requests, releases and rungs.

    All columns have shape `(n,)`. Times are microseconds since 1970 UTC, -1 where there is none.

    Parameters
    ----------
    request_id, surface, unit_id, flight_id, mode, arm
        Text, as answered.
    reason, decision, bundle_digest, feature_offset
        Text or None.
    model_version
        Version that answered; None where none did.
    item
        Place of the item in its request, from 0.
    logged_at_us, request_us, feature_us, watermark_us
        When it was logged, asked about, read from the store, and what the store reflected.
    probability, latency_ms
        NaN where there is none.
    model_ms
        CPU milliseconds of the run of the model that gave the probability, with all items that it was given at once;
        NaN where no model of an arm gave it. None: nobody measured.
    request
        Request columns by name: text, whole or real numbers. `request_us` among them is the column above and is not
        written twice.
    features
        Features as served; a row in no group was answered without any.
    """

    request_id: Text
    item: Whole
    surface: Text
    unit_id: Text
    flight_id: Text
    mode: Text
    reason: Text
    arm: Text
    decision: Text
    model_version: Sequence[int | str | None]
    bundle_digest: Text
    feature_offset: Text
    probability: Real
    latency_ms: Real
    logged_at_us: Whole
    request_us: Whole
    feature_us: Whole
    watermark_us: Whole
    request: Mapping[str, npt.NDArray[Any]]
    features: Sequence[FeatureGroup] = ()
    model_ms: Real | None = None

    def __len__(self) -> int:
        return len(self.request_id)

    def take(self, rows: npt.NDArray[np.intp]) -> "LogBatch":
        """Return the batch of some of its rows, in the order of `rows`, each at most once."""
        place = np.full(len(self), NONE, dtype=np.intp)
        place[rows] = np.arange(len(rows))
        columns = {
            name: _take(getattr(self, name), rows)
            for name in self.__struct_fields__
            if name not in ("request", "features")
        }
        return msgspec.structs.replace(
            self,
            **columns,
            request={name: values[rows] for name, values in self.request.items()},
            features=[_move(group, place) for group in self.features],
        )


def _take(values: Any, rows: npt.NDArray[np.intp]) -> Any:
    if values is None:
        return None
    return values[rows] if isinstance(values, np.ndarray) else [values[row] for row in rows.tolist()]


def _move(group: FeatureGroup, place: npt.NDArray[np.intp]) -> FeatureGroup:
    """Return what is left of a group when each row of the batch goes to its `place`, or away (-1)."""
    there = place if group.rows is None else place[group.rows]
    is_kept = there >= 0
    return FeatureGroup(group.bundle_digest, group.values[is_kept], there[is_kept])
