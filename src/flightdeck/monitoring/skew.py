"""Training-serving skew: the served features, computed again offline from the log, value by value.

A served feature is what the online store said at `feature_us`, knowing what `watermark_us` says of the part of the log
that `feature_offset` names; where a store is fed in partitions, the offset also says which were ahead (`reflected.py`).
The offline engine is asked for the same moment of the same part, by the declarations of the bundle that answered; the
column functions run on its answer, and both sides are compared as the float32 that the model read. On a healthy day
nothing differs, not in the last bit. How stale the answers were is another question, which `freshness.py` answers.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from flightdeck.core.errors import ConfigError
from flightdeck.events.log import EventLog
from flightdeck.events.offset import versions_of
from flightdeck.features.audit import recompute
from flightdeck.features.reflected import reflected_us
from flightdeck.features.view import FeatureView
from flightdeck.monitoring.prediction_log import NO_TIME_US, REQUEST_FIELDS

Columns = Mapping[str, np.ndarray[Any, Any]]
ComputeColumns = Callable[[Columns], Columns]
TABLE_TYPES = {"feature": "object", "n_compared": "int64", "n_mismatched": "int64", "max_abs_difference": "float64"}


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
        Number of predictions that were served by a bundle that is gone, or that was made with other column functions
        than this code has.
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


def audit_skew(
    predictions: pd.DataFrame,
    *,
    served_features: Mapping[str, Mapping[str, Any]],
    views: Sequence[FeatureView],
    nodes: Mapping[str, str],
    log: EventLog,
    compute_columns: ComputeColumns,
) -> SkewAudit:
    """Recompute the features of predictions that a model answered and compare them with the log.

    Parameters
    ----------
    predictions
        Rows of `prediction_log.read_predictions`.
    served_features
        Parsed `features.json` by bundle digest (64 characters).
    views
        Feature views of this code, for bundles without declarations of their own.
    nodes
        Fingerprint of each column function of this code, by name (`flightdeck.core.identifiers.fingerprint`).
    log
        Event log.
    compute_columns
        Takes request columns and view columns by name, arrays of shape `(n,)`; returns the computed columns.

    Raises
    ------
    NotFoundError
        If the log lacks a stream.
    """
    asked = predictions[(predictions["mode"] == "model") & (predictions["feature_us"] != NO_TIME_US)]
    asked = asked[asked["features"].notna()]
    tables, n_audited = [], 0
    for (digest, offset), rows in asked.groupby(["bundle_digest", "feature_offset"]):
        features = served_features.get(str(digest))
        declared = None if features is None else _declared(features, views)
        if features is None or declared is None or not _is_made_by(features.get("nodes", {}), nodes):
            continue
        same_length = rows[rows["features"].map(len) == len(features["numeric"])]
        if same_length.empty:
            continue
        again = _recompute(same_length, declared, log, str(offset), compute_columns)
        tables.append(_compare(same_length, list(features["numeric"]), again))
        n_audited += len(same_length)
    return SkewAudit(_merge(tables), n_audited, len(asked) - n_audited)


def _declared(features: Mapping[str, Any], running: Sequence[FeatureView]) -> Sequence[FeatureView] | None:
    """Return the views that a bundle was made with; None where this code cannot compute them as they were."""
    try:
        views = [FeatureView.from_json(declared) for declared in features.get("declarations", ())] or running
    except ConfigError:
        return None
    return views if _is_made_by(features["views"], {view.name: view.digest for view in views}) else None


def _is_made_by(sealed: Mapping[str, str], running: Mapping[str, str]) -> bool:
    """Return whether everything that a bundle was sealed with is what runs here."""
    return all(running.get(name) == digest for name, digest in sealed.items())


def _recompute(
    rows: pd.DataFrame,
    views: Sequence[FeatureView],
    log: EventLog,
    offset: str,
    compute_columns: ComputeColumns,
) -> Columns:
    entity = {name: rows[name].to_numpy(object) for name, kind in REQUEST_FIELDS.items() if kind == "object"}
    known_us = reflected_us(offset, rows["watermark_us"].to_numpy(), views, entity)
    windowed = recompute(views, log, entity, rows["feature_us"].to_numpy(), known_us, versions_of(offset))
    request = {name: rows[name].to_numpy() for name in (*REQUEST_FIELDS, "request_us")}
    at_hand = {**request, **windowed}
    return {**at_hand, **compute_columns(at_hand)}


def _compare(rows: pd.DataFrame, names: list[str], again: Columns) -> pd.DataFrame:
    """Compare value by value as float32; two missing values are equal."""
    served = np.stack(rows["features"].tolist()).astype(np.float32)
    found = []
    for place, name in enumerate(names):
        ours, theirs = again[name].astype(np.float32), served[:, place]
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
