"""Training-serving skew: the served features, computed again offline from the log, value by value.

A served feature is what the online store said at `feature_us`, knowing what `watermark_us` says of the part of the log
that `feature_offset` names; where a store is fed in partitions, the offset also says which were ahead (`reflected.py`).
The offline engine is asked for the same moment of the same part, by the declarations of the bundle that answered; that
bundle's own graph turns the answer into what its model reads, so that an old bundle is audited by its own meaning, and
both sides are compared as the float32 that the model read. On a healthy day nothing differs, not in the last bit. How
stale the answers were is another question, which `freshness.py` answers.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from flightdeck.events.log import EventLog
from flightdeck.events.offset import versions_of
from flightdeck.features.audit import recompute
from flightdeck.features.reflected import reflected_us
from flightdeck.features.view import FeatureView
from flightdeck.monitoring.prediction_log import NO_TIME_US, REQUEST_FIELDS

Columns = Mapping[str, npt.NDArray[Any]]
Read = Callable[[Columns, npt.NDArray[np.float64]], npt.NDArray[np.float32]]
TABLE_TYPES = {"feature": "object", "n_compared": "int64", "n_mismatched": "int64", "max_abs_difference": "float64"}


@dataclass(frozen=True)
class ServedModel:
    """What the model of a bundle reads, and how it comes to it.

    Parameters
    ----------
    numeric
        Names of its numeric features in order.
    views
        Its feature views as they were declared when it was trained.
    read
        Its graph: takes request columns `(n,)` and the columns of `views` `(n, n_view_columns)`, returns what the model
        reads, float32 `(n, n_numeric)`.
    """

    numeric: tuple[str, ...]
    views: tuple[FeatureView, ...]
    read: Read


@dataclass(frozen=True)
class SkewAudit:
    """What was compared.

    Parameters
    ----------
    table
        One row a feature: `feature`, `n_compared`, `n_mismatched`, `max_abs_difference` (infinite where one side is
        missing or infinite and the other is not).
    n_audited
        Number of predictions whose features were recomputed.
    n_not_auditable
        Number of predictions that were served by a bundle that is gone, or that this code cannot open.
    """

    table: pd.DataFrame
    n_audited: int
    n_not_auditable: int

    @property
    def n_compared(self) -> int:
        """Number of values compared."""
        return int(self.table["n_compared"].sum())

    @property
    def n_mismatched(self) -> int:
        """Number of values that differ."""
        return int(self.table["n_mismatched"].sum())


def audit_skew(predictions: pd.DataFrame, *, served: Mapping[str, ServedModel], log: EventLog) -> SkewAudit:
    """Recompute the features of predictions that a model answered and compare them with the log.

    Parameters
    ----------
    predictions
        Rows of `prediction_log.read_predictions`.
    served
        The models that answered, by bundle digest (64 characters).
    log
        Event log.

    Raises
    ------
    NotFoundError
        If the log lacks a stream.
    """
    asked = predictions[(predictions["mode"] == "model") & (predictions["feature_us"] != NO_TIME_US)]
    asked = asked[asked["features"].notna()]
    tables, n_audited = [], 0
    for (digest, offset), rows in asked.groupby(["bundle_digest", "feature_offset"]):
        model = served.get(str(digest))
        if model is None:
            continue
        same_length = rows[rows["features"].map(len) == len(model.numeric)]
        if same_length.empty:
            continue
        again = _recompute(same_length, model, log, str(offset))
        tables.append(_compare(same_length, model.numeric, again))
        n_audited += len(same_length)
    return SkewAudit(_merge(tables), n_audited, len(asked) - n_audited)


def _recompute(rows: pd.DataFrame, model: ServedModel, log: EventLog, offset: str) -> npt.NDArray[np.float32]:
    """Return what the model would have read, float32 `(n, n_numeric)`."""
    entity = {name: rows[name].to_numpy(object) for name, kind in REQUEST_FIELDS.items() if kind == "object"}
    known_us = reflected_us(offset, rows["watermark_us"].to_numpy(), model.views, entity)
    windowed = recompute(model.views, log, entity, rows["feature_us"].to_numpy(), known_us, versions_of(offset))
    columns = [windowed[column] for view in model.views for column in view.columns]
    views = np.stack(columns, axis=1) if columns else np.empty((len(rows), 0))
    return model.read({name: rows[name].to_numpy() for name in (*REQUEST_FIELDS, "request_us")}, views)


def _compare(rows: pd.DataFrame, names: tuple[str, ...], again: npt.NDArray[np.float32]) -> pd.DataFrame:
    """Compare value by value as float32; two missing values are equal."""
    served = np.stack(rows["features"].tolist()).astype(np.float32)
    found = []
    for place, name in enumerate(names):
        ours, theirs = again[:, place], served[:, place]
        differs = ~((ours == theirs) | (np.isnan(ours) & np.isnan(theirs)))
        found.append((name, len(rows), int(differs.sum()), _largest(ours[differs], theirs[differs])))
    return pd.DataFrame(found, columns=list(TABLE_TYPES))


def _largest(ours: np.ndarray[Any, Any], theirs: np.ndarray[Any, Any]) -> float:
    if not len(ours):
        return 0.0
    with np.errstate(invalid="ignore"):
        differences = np.abs(ours.astype(np.float64) - theirs.astype(np.float64))
    return float(np.where(np.isnan(differences), np.inf, differences).max())


def _merge(tables: list[pd.DataFrame]) -> pd.DataFrame:
    """Sum the counts of a feature over all bundles that served it."""
    if not tables:
        return pd.DataFrame({name: pd.Series([], dtype=kind) for name, kind in TABLE_TYPES.items()})
    grouped = pd.concat(tables).groupby("feature", sort=False, as_index=False)
    return grouped.agg({"n_compared": "sum", "n_mismatched": "sum", "max_abs_difference": "max"}).astype(TABLE_TYPES)
