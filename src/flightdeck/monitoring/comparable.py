"""The predictions that may be compared with the reference: asked as training asks, once an item and lead.

People ask when they like and about some items a hundred times. The reference was made by asking once about each item
at fixed leads; comparing all traffic with it would find the askers' habits, every day.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from flightdeck.core.clock import MINUTE_US


def select_comparable(
    predictions: pd.DataFrame, due_column: str, leads_min: Sequence[int], tolerance_min: int, *, key: str
) -> pd.DataFrame:
    """Return for each item and lead the last prediction asked in `[lead, lead + tolerance)` minutes before.

    Parameters
    ----------
    predictions
        Rows with `request_us`, `key` and `due_column`.
    due_column
        Time that leads count back from, int64 UTC microseconds.
    leads_min
        Leads in minutes.
    tolerance_min
        How much earlier a request may be, minutes, at least 1.
    key
        Name of the item's identifier.

    Returns
    -------
    DataFrame
        A subset of the rows in their order, with the column `lead_min`.
    """
    lead_us = (predictions[due_column] - predictions["request_us"]).to_numpy()
    chosen = np.full(len(predictions), -1, dtype=np.int64)
    for lead in leads_min:
        near = (lead_us >= lead * MINUTE_US) & (lead_us < (lead + tolerance_min) * MINUTE_US)
        chosen[near] = lead
    rows = predictions.assign(lead_min=chosen)[chosen >= 0]
    last = rows.sort_values("request_us", kind="stable").drop_duplicates([key, "lead_min"], keep="last")
    return rows.loc[rows.index.isin(last.index)]
