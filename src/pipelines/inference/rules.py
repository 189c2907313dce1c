"""The rule baseline: the late rate of a carrier at an hour of day, known by heart and needing no model runtime."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from flightdeck.core.clock import MINUTE_US

DAY_MIN = 1440


def score_rules(rules: Mapping[str, Any], columns: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.float64]:
    """Return the late rate by carrier and local hour of departure, shape `(n_rows,)`, in [0, 1].

    Parameters
    ----------
    rules
        `rate` (overall) and `by_carrier_hour` (`"UA:17"` -> rate), made by training.
    columns
        Request columns `carrier`, `scheduled_departure_us`, `origin_utc_offset_min`.

    Notes
    -----
    A carrier and hour that training has not seen gets the overall rate.
    """
    local_min = columns["scheduled_departure_us"] // MINUTE_US + columns["origin_utc_offset_min"]
    hours = (local_min % DAY_MIN // 60).tolist()
    table, overall = rules["by_carrier_hour"], rules["rate"]
    cells = zip(columns["carrier"].tolist(), hours, strict=True)
    return np.array([table.get(f"{carrier}:{hour}", overall) for carrier, hour in cells], dtype=np.float64)
