"""Quality of the answers once their labels are mature: by window of request time, and by day.

A record of a surface of which only some units are logged stands for several answers: measures of all answers count it
as often as its weight says. Numbers of rows stay numbers of records, because those are the evidence. A day counts each
item once, whoever asked: there a weight would say how much traffic an item had.
"""

import numpy as np
import pandas as pd

from flightdeck.core.clock import SECOND_US
from flightdeck.gates.metrics import log_losses, roc_auc

WINDOW_COLUMNS = (
    "window_start",
    "window_end",
    "n_labelled",
    "n_pending",
    "positive_rate",
    "mean_probability",
    "auc",
    "log_loss",
    "brier",
)
DAY_COLUMNS = ("day", "n_labelled", "n_pending", "gap", "log_loss")


def measure_quality(label: np.ndarray, probability: np.ndarray, weight: np.ndarray | None = None) -> dict[str, float]:
    """Return positive rate, mean probability, AUC, log loss and Brier score; NaN where undefined.

    Parameters
    ----------
    label
        0 or 1, shape `(n,)`.
    probability
        In [0, 1], shape `(n,)`.
    weight
        How many answers each row stands for, shape `(n,)`; one each if not given.
    """
    names = ("positive_rate", "mean_probability", "auc", "log_loss", "brier")
    if not len(label):
        return dict.fromkeys(names, float("nan"))
    y = label.astype(np.int64)
    measured = (
        np.average(y, weights=weight),
        np.average(probability, weights=weight),
        roc_auc(y, probability, weight),
        np.average(log_losses(y, probability), weights=weight),
        np.average((probability - y) ** 2, weights=weight),
    )
    return {name: float(value) for name, value in zip(names, measured, strict=True)}


def quality_by_window(labelled: pd.DataFrame, window_s: int) -> pd.DataFrame:
    """Return the quality of each window of request time that holds predictions, oldest first.

    Parameters
    ----------
    labelled
        Rows of `labels.join_labels` with `request_us`, `probability` and `weight`; rows without a probability are left
        out.
    window_s
        Length of a window in seconds; windows begin at multiples of it since the epoch.

    Returns
    -------
    DataFrame
        The columns of `WINDOW_COLUMNS`. Only mature rows are measured: whether a row is, its outcome does not decide.
    """
    rows = labelled[labelled["probability"].notna()]
    window_us = window_s * SECOND_US
    found = []
    for window, group in rows.groupby(rows["request_us"] // window_us):
        mature = group[group["is_mature"]]
        start_us = int(str(window)) * window_us
        found.append(
            {
                "window_start": pd.Timestamp(start_us, unit="us", tz="UTC"),
                "window_end": pd.Timestamp(start_us + window_us, unit="us", tz="UTC"),
                "n_labelled": len(mature),
                "n_pending": len(group) - len(mature),
                **measure_quality(*(mature[name].to_numpy() for name in ("label", "probability", "weight"))),
            }
        )
    return _typed(pd.DataFrame(found, columns=list(WINDOW_COLUMNS)))


def quality_by_day(labelled: pd.DataFrame, day: "pd.Series[str]") -> pd.DataFrame:
    """Return calibration gap (rate of 1 minus mean probability) and log loss of each day's mature rows.

    Parameters
    ----------
    labelled
        As `quality_by_window` takes, each item once; weights do not count.
    day
        Day that each row counts for, same index.
    """
    found = []
    rows = labelled[labelled["probability"].notna()]
    for name, group in rows.groupby(day.loc[rows.index]):
        mature = group[group["is_mature"]]
        measured = measure_quality(mature["label"].to_numpy(), mature["probability"].to_numpy())
        gap = measured["positive_rate"] - measured["mean_probability"]
        counts = (len(mature), len(group) - len(mature))
        found.append(dict(zip(DAY_COLUMNS, (str(name), *counts, gap, measured["log_loss"]), strict=True)))
    return pd.DataFrame(found, columns=list(DAY_COLUMNS))


def _typed(windows: pd.DataFrame) -> pd.DataFrame:
    """Give an empty frame the types of a full one, so that its file reads the same."""
    kinds = dict.fromkeys(WINDOW_COLUMNS, "float64") | dict.fromkeys(("n_labelled", "n_pending"), "int64")
    kinds |= dict.fromkeys(("window_start", "window_end"), "datetime64[us, UTC]")
    return windows.astype(kinds)
