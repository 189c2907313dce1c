"""Who answered, and how fast: counts and latency by surface, mode, arm and model version."""

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
        The columns of `TABLE_TYPES`: `n` items, median and 95th percentile of the latency of their requests in
        milliseconds; sorted by the group.
    """
    if predictions.empty:
        return pd.DataFrame({name: pd.Series([], dtype=kind) for name, kind in TABLE_TYPES.items()})
    grouped = predictions.groupby(GROUP, dropna=False)["latency_ms"]
    table = grouped.agg(
        n="size", p50_ms=lambda values: values.quantile(0.5), p95_ms=lambda values: values.quantile(0.95)
    )
    return table.reset_index().astype(TABLE_TYPES)


def degraded_share(predictions: pd.DataFrame) -> float:
    """Return the share of items that something below the model answered; NaN without items."""
    return float((predictions["mode"] != "model").mean()) if len(predictions) else float("nan")


def p95_ms(predictions: pd.DataFrame) -> float:
    """Return the 95th percentile of the requests' latency in milliseconds, each request once; NaN without any."""
    requests = predictions.drop_duplicates("request_id")["latency_ms"]
    return float(requests.quantile(0.95)) if len(requests) else float("nan")
