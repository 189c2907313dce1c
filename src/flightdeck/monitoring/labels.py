"""Joining labels to predictions as of a time of knowledge, without the bias of early labels.

An item's outcome is negative, positive, or silence: a flight that lands elsewhere never reports. So each item has a
*due* time: when a negative outcome would be known, silence means positive (the timer rule). Among the items whose label
happens to be known, one class is known earlier than the other and any rate is biased (by 10 points after 4 hours,
measured on flights); among the items that are *due* every label is known and nothing is selected by its outcome. Judge
those, `is_mature`.
"""

import numpy as np
import pandas as pd

PENDING_US = -1


def join_labels(
    predictions: pd.DataFrame,
    expected: pd.DataFrame,
    negatives: pd.DataFrame,
    positives: pd.DataFrame,
    as_of_us: int,
    *,
    key: str,
) -> pd.DataFrame:
    """Return `predictions` with what is known of their outcomes at `as_of_us`.

    Parameters
    ----------
    predictions
        Rows with the column `key`.
    expected
        Items that will have an outcome: `key`, `known_us` (when the item itself became known), `due_us` (when silence
        means positive). An item that is not expected never gets a label: nobody knows that it exists.
    negatives, positives
        Outcomes: `key`, `known_us`.
    as_of_us
        Nothing that became known later is used, UTC microseconds.
    key
        Name of the item's identifier.

    Returns
    -------
    DataFrame
        Same rows and order, with `label` (float64: 0, 1, NaN while pending), `label_known_us` and `due_us` (int64, -1
        while unknown) and `is_mature` (bool).

    Notes
    -----
    A negative outcome outweighs a positive one and a timer that ran out before it: late news corrects the label.
    """
    items = predictions[key]
    due_us = _times(items, _known(expected, as_of_us), key, "due_us")
    negative_us = _times(items, _known(negatives, as_of_us), key, "known_us")
    positive_us = _times(items, _known(positives, as_of_us), key, "known_us")
    is_due = ~np.isnan(due_us) & (due_us <= as_of_us)
    is_negative = ~np.isnan(negative_us)
    is_positive = ~is_negative & (is_due | ~np.isnan(positive_us))
    timer_us = np.where(is_due, due_us, np.nan)
    known_us = np.where(is_negative, negative_us, np.where(is_positive, np.fmin(positive_us, timer_us), np.nan))
    return predictions.assign(
        label=np.where(is_negative, 0.0, np.where(is_positive, 1.0, np.nan)),
        label_known_us=_whole(known_us),
        due_us=_whole(due_us),
        is_mature=is_due,
    )


def _known(events: pd.DataFrame, as_of_us: int) -> pd.DataFrame:
    return events[events["known_us"] <= as_of_us]


def _times(items: "pd.Series[str]", events: pd.DataFrame, key: str, column: str) -> np.ndarray:
    """Return the earliest time of each item among `events`, NaN if none; float64 holds microseconds up to 2255."""
    first = events.groupby(key)[column].min()
    return items.map(first).to_numpy(dtype=np.float64)


def _whole(at_us: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(at_us), PENDING_US, at_us).astype(np.int64)
