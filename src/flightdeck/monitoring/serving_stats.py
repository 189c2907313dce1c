"""Who answered, and how fast: counts and latency by surface, mode, arm and model version.

All of it is about answers, not about records: a record counts as often as its weight says.
"""

import numpy as np
import pandas as pd

GROUP = ["surface", "mode", "arm", "model_version"]
TABLE_TYPES = {**dict.fromkeys(GROUP, "object"), "n": "int64", "p50_ms": "float64", "p95_ms": "float64"}


def count_answers(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each surface, mode, arm and model version that answered.

    Parameters
    ----------
    predictions
        Rows of `prediction_log.read_predictions`.

    Returns
    -------
    DataFrame
        The columns of `TABLE_TYPES`: `n` items (an estimate where only some units are logged), median and 95th
        percentile of the latency of their requests in milliseconds; sorted by the group.
    """
    if predictions.empty:
        return pd.DataFrame({name: pd.Series([], dtype=kind) for name, kind in TABLE_TYPES.items()})
    rows = []
    for group, answers in predictions.groupby(GROUP, dropna=False):
        quantiles = [weighted_quantile(answers["latency_ms"], answers["weight"], level) for level in (0.5, 0.95)]
        rows.append((*group, round(answers["weight"].sum()), *quantiles))
    return pd.DataFrame(rows, columns=list(TABLE_TYPES)).astype(TABLE_TYPES)


def count_modes(predictions: pd.DataFrame) -> dict[str, int]:
    """Return how many items each mode answered, the most frequent first."""
    counts = predictions.groupby("mode")["weight"].sum().sort_values(ascending=False, kind="stable")
    return {str(mode): round(n) for mode, n in counts.items()}


def degraded_share(predictions: pd.DataFrame) -> float:
    """Return the share of items that something below the model answered; NaN without items."""
    if predictions.empty:
        return float("nan")
    return float(np.average(predictions["mode"] != "model", weights=predictions["weight"]))


def p95_ms(predictions: pd.DataFrame) -> float:
    """Return the 95th percentile of the requests' latency in milliseconds, each request once; NaN without any."""
    requests = predictions.drop_duplicates("request_id")
    return weighted_quantile(requests["latency_ms"], requests["weight"], 0.95)


def weighted_quantile(values: "pd.Series[float]", weights: "pd.Series[float]", level: float) -> float:
    """Return the quantile of values that each occur as often as their weight says; NaN without any.

    Parameters
    ----------
    values
        Shape `(n,)`; NaN are left out.
    weights
        Above 0, shape `(n,)`.
    level
        In [0, 1].

    Notes
    -----
    Between two values it is interpolated, so that equal weights give what `Series.quantile` gives.

    Examples
    --------
    >>> weighted_quantile(pd.Series([1.0, 2.0, 4.0]), pd.Series([1.0, 1.0, 1.0]), 0.75)
    3.0
    >>> weighted_quantile(pd.Series([1.0, 2.0]), pd.Series([99.0, 1.0]), 0.5)
    1.0
    """
    there = values.notna().to_numpy()
    value, weight = values.to_numpy(dtype=np.float64)[there], weights.to_numpy(dtype=np.float64)[there]
    if not len(value):
        return float("nan")
    order = np.argsort(value, kind="stable")
    value, weight = value[order], weight[order]
    last = np.cumsum(weight) - 1.0  # place of the last of the copies that a row stands for, among all copies from 0
    places = np.ravel(np.column_stack([last - weight + 1.0, last]))
    return float(np.interp(level * max(last[-1], 0.0), places, np.repeat(value, 2)))
