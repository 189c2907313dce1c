"""Drift of inputs and of predictions: the one door to Evidently.

The index of a column is compared with what whole days of the reference show among themselves, not with the customary
0.1 or 0.25: the score of a healthy model exceeds 0.25 on two training days in three. And because 80 columns at one per
cent each alarm somewhere on every other day, the number of drifted columns has a limit of its own, from the same days.
Evidently takes 5 s to import; it is imported when something is compared.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from flightdeck.monitoring.binning import day_indices, fit_bins
from flightdeck.monitoring.settings import MonitoringSettings
from flightdeck.monitoring.thresholds import resampled_bounds

PREDICTION = "probability"
TABLE_TYPES = {
    "column": "object",
    "kind": "object",
    "psi": "float64",
    "threshold": "float64",
    "breached": "bool",
    "n_current": "int64",
    "note": "object",
}
MINIMUM_DAY_ROWS = 30


@dataclass(frozen=True)
class Drift:
    """What was compared.

    Parameters
    ----------
    table
        One row a column, the columns of `TABLE_TYPES`; psi and threshold are NaN where nothing was judged, and `note`
        says why.
    n_breached
        Number of input columns above their threshold.
    n_breached_limit
        Number of drifted input columns that healthy days stay within; infinite if unknown.
    """

    table: pd.DataFrame
    n_breached: int = 0
    n_breached_limit: float = float("inf")


def no_drift() -> Drift:
    """Return the result of comparing nothing."""
    return Drift(pd.DataFrame({name: pd.Series([], dtype=kind) for name, kind in TABLE_TYPES.items()}))


def measure_drift(
    reference: pd.DataFrame, reference_day: np.ndarray, current: pd.DataFrame, settings: MonitoringSettings
) -> Drift:
    """Compare each column of `current` with the reference.

    Parameters
    ----------
    reference
        Columns of the model's inputs and `probability`.
    reference_day
        Number of the day of each reference row, shape `(n_rows,)`, any integers.
    current
        Columns of the same names; a missing, empty or constant one harms no other.
    settings
        Sizes, rates and seed.
    """
    if not len(reference):
        return no_drift()
    rows, by_day = [], []
    sample = current.sample(min(len(current), settings.drift_rows), random_state=settings.seed)
    _, day, counts = np.unique(reference_day, return_inverse=True, return_counts=True)
    is_whole = counts >= MINIMUM_DAY_ROWS
    for name in (column for column in reference.columns if column not in settings.drift_ignores):
        row, indices = _compare(name, reference[name], day, is_whole, sample, settings)
        rows.append(row)
        if name != PREDICTION:
            by_day.append(indices > row["threshold"])
    table = pd.DataFrame(rows).astype(TABLE_TYPES)
    limit = _limit(by_day, settings)
    return Drift(table, int(table.loc[table["kind"] == "input", "breached"].sum()), limit)


def population_stability_index(reference: np.ndarray, current: np.ndarray) -> float:
    """Return Evidently's index of two samples of bin numbers."""
    from evidently.legacy.calculations.stattests import psi_stat_test
    from evidently.legacy.core import ColumnType

    result = psi_stat_test(pd.Series(reference), pd.Series(current), ColumnType.Categorical, 0.1)
    return float(result.drift_score)


def render_report(reference: pd.DataFrame, current: pd.DataFrame, drift: Drift, settings: MonitoringSettings) -> str:
    """Return Evidently's report of the most drifted columns as one HTML page that needs nothing else.

    Columns that Evidently cannot draw (no finite value on one side) are left out; the table has them.
    """
    judged = drift.table[drift.table["psi"].notna()]
    excess = (judged["psi"] / judged["threshold"].fillna(settings.minimum_psi)).sort_values(ascending=False)
    first = [PREDICTION, *judged.loc[excess.index, "column"]]
    frames = [frame.replace([np.inf, -np.inf], np.nan) for frame in (reference, current)]
    names = [name for name in dict.fromkeys(first) if all(name in f and f[name].notna().any() for f in frames)]
    if not names or judged.empty:
        notes = sorted(set(drift.table["note"])) or ["no predictions to compare, or no champion to compare with"]
        return _page(f"Nothing was compared: {'; '.join(notes)}.")
    return _evidently_report(*(frame[names[: settings.report_columns]] for frame in frames), table=judged)


def _compare(
    name: str,
    reference: "pd.Series[float]",
    day: np.ndarray,
    is_whole: np.ndarray,
    current: pd.DataFrame,
    settings: MonitoringSettings,
) -> tuple[dict[str, Any], np.ndarray]:
    """Return the row of one column and the index of each whole day of the reference."""
    bins = fit_bins(reference)
    numbers = bins.number_of(reference)
    indices = day_indices(numbers, day, bins.n_bins)[is_whole]
    bounds = resampled_bounds(
        indices,
        false_alarm_rate=settings.false_alarm_rate,
        is_two_sided=False,
        n_resamples=settings.n_resamples,
        seed=settings.seed,
    )
    note = _why_not(name, current, settings.minimum_rows)
    psi, threshold = float("nan"), float("nan")
    if not note:
        psi = population_stability_index(numbers, bins.number_of(current[name]))
    if bounds is None:
        note = note or "too few days in the reference for a threshold"
    else:
        threshold = max(bounds.high, settings.minimum_psi)
    kind = "prediction" if name == PREDICTION else "input"
    values = (name, kind, psi, threshold, bool(psi > threshold), len(current), note)
    return dict(zip(TABLE_TYPES, values, strict=True)), indices


def _why_not(name: str, current: pd.DataFrame, minimum_rows: int) -> str:
    if len(current) < minimum_rows:
        return f"{len(current)} comparable predictions, {minimum_rows} are needed"
    return "" if name in current else "not among the current columns"


def _limit(by_day: Sequence[np.ndarray], settings: MonitoringSettings) -> float:
    """Return how many columns may drift on a healthy day."""
    bounds = resampled_bounds(
        np.asarray(np.sum(by_day, axis=0, dtype=np.int64)),
        false_alarm_rate=settings.false_alarm_rate,
        is_two_sided=False,
        n_resamples=settings.n_resamples,
        seed=settings.seed,
    )
    return float("inf") if bounds is None else bounds.high


def _evidently_report(reference: pd.DataFrame, current: pd.DataFrame, *, table: pd.DataFrame) -> str:
    from evidently import DataDefinition, Dataset, Report
    from evidently.metrics import ValueDrift

    numeric = list(reference.select_dtypes("number"))
    text = [name for name in reference if name not in numeric]
    definition = DataDefinition(numerical_columns=numeric, categorical_columns=text)
    thresholds = table.set_index("column")["threshold"]
    metrics = [ValueDrift(column=name, method="psi", threshold=float(thresholds.get(name, 0.1))) for name in reference]
    datasets = [
        Dataset.from_pandas(frame.astype(dict.fromkeys(text, str)), data_definition=definition)
        for frame in (current, reference)
    ]
    logging.getLogger("evidently").setLevel(logging.WARNING)
    return str(Report(metrics).run(*datasets).get_html_str(as_iframe=False))


def _page(message: str) -> str:
    return f"<!DOCTYPE html><html lang='en'><meta charset='utf-8'><title>Drift</title><p>{message}</p></html>\n"
