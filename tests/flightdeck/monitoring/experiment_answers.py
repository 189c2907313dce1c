"""Generated answers of experiments: one a unit, dealt evenly to the arms."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd

from flightdeck.inference.experiments import Experiment, split
from flightdeck.monitoring.experiment_periods import Period

BEGAN = datetime(2013, 9, 12, 9, tzinfo=UTC)
TWO = Period(Experiment("colour", "colour@7", split([("old", 1, 0.5), ("new", 2, 0.5)])), 7, BEGAN)
THREE = Period(Experiment("many", "many@8", split([("a", 1, 0.5), ("b", 2, 0.25), ("c", 3, 0.25)])), 8, BEGAN)


def answers(n: int, seed: int, *, arms: tuple[str, ...] = ("colour:old", "colour:new"), **columns: Any) -> pd.DataFrame:
    """Return one answer each of `n` units, dealt evenly; `columns` replace those there are."""
    rng = np.random.default_rng(seed)
    at = pd.Timestamp(BEGAN) + pd.to_timedelta(10 + np.arange(n), unit="s")
    frame = pd.DataFrame(
        {
            "logged_at": at.strftime("%Y-%m-%dT%H:%M:%S.000+00:00"),
            "unit_id": [f"u{i}" for i in range(n)],
            "arm": rng.choice(arms, n),
            "probability": rng.beta(1.5, 5, n),
            "latency_ms": rng.gamma(4, 3, n),
            "reason": None,
            "weight": 1.0,
        }
    )
    return frame.assign(**columns)
