"""The draft's sample of training rows, as questions to a server: what is asked, and what training computed for it.

A bundle holds the sample twice, row by row: `reference/inputs.parquet` as a server would be given it,
`reference/features.parquet` as the model read it in training.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta, timezone
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pandas as pd

from flightdeck.core.clock import from_us
from flightdeck.core.errors import ContractViolation, some
from flightdeck.inference.release_bundle import FeatureList
from pipelines.features.model_input import REQUEST_COLUMNS

INPUTS, FEATURES = "reference/inputs.parquet", "reference/features.parquet"
SURFACE = "alerts"  # the surface that scores every flight at the model's horizons
DAY_US = 86_400_000_000
Rows = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Sample:
    """Rows of the training set.

    Parameters
    ----------
    requests
        Request columns, one row a question.
    numeric
        What the model read in training, float32 `(n_rows, n_numeric)`.
    names
        Names of the columns of `numeric`.
    probability
        What the model answered, `(n_rows,)`.
    """

    requests: pd.DataFrame
    numeric: npt.NDArray[np.float32]
    names: tuple[str, ...]
    probability: npt.NDArray[np.float64]

    @property
    def request_us(self) -> npt.NDArray[np.int64]:
        """When each question was asked, UTC microseconds, `(n_rows,)`."""
        return self.requests["request_us"].to_numpy(np.int64)

    def spread_over_days(self, n_days: int, n_a_day: int) -> list[Rows]:
        """Return at most `n_a_day` rows of each of `n_days` UTC days, evenly spread over the sample and in order."""
        day = self.request_us // DAY_US
        days = np.unique(day)
        chosen = np.unique(np.linspace(0, len(days) - 1, n_days + 2).round().astype(np.intp)[1:-1])
        return [self._evenly(np.flatnonzero(day == days[place]), n_a_day) for place in chosen]

    def spread(self, n: int) -> Rows:
        """Return at most `n` rows spread evenly over the sample, in order of time."""
        return self._evenly(np.arange(len(self.requests)), n)

    def question(self, row: int, *, at_us: int | None = None) -> bytes:
        """Return the body of a request about one row, moved in time to `at_us` where that is given."""
        asked = {name: self.requests[name].iloc[row] for name in self.requests}
        moved_us = 0 if at_us is None else at_us - int(asked["request_us"])
        local = timezone(timedelta(minutes=int(asked["origin_utc_offset_min"])))

        def at(name: str) -> str:
            return from_us(int(asked[f"{name}_us"]) + moved_us).astimezone(local).isoformat()

        flight: dict[str, Any] = {name: str(asked[name]) for name in ("carrier", "origin", "dest")}
        flight |= {name: int(asked[name]) for name in ("flight_number", "distance_miles")}
        flight |= {name: at(name) for name in ("scheduled_departure", "scheduled_arrival")}
        if asked["tailnum"]:
            flight["tailnum"] = str(asked["tailnum"])
        body = {"surface": SURFACE, "unit_id": unit_id(row), "request_timestamp": at("request"), "flights": [flight]}
        return msgspec.json.encode(body)

    def _evenly(self, rows: Rows, n: int) -> Rows:
        ordered = rows[np.argsort(self.request_us[rows], kind="stable")]
        if len(ordered) <= n:
            return ordered
        return ordered[np.linspace(0, len(ordered) - 1, n).round().astype(np.intp)]


def unit_id(row: int) -> str:
    """Return on whose behalf a row is asked: a name of its own, by which the prediction log is searched."""
    return f"sample-{row}"


def read_sample(draft: Path, features: FeatureList) -> Sample:
    """Read the sample of a draft.

    Raises
    ------
    ContractViolation
        If there is none, it lacks a column, or its two halves are not about the same rows.
    """
    inputs = _read(draft / INPUTS, [*REQUEST_COLUMNS, "probability"])
    trained = _read(draft / FEATURES, [*features.numeric, "request_timestamp"])
    trained_us = pd.to_datetime(trained["request_timestamp"], utc=True).to_numpy("datetime64[us]").astype(np.int64)
    if not np.array_equal(trained_us, inputs["request_us"].to_numpy(np.int64)):
        raise ContractViolation(
            f"reading the sample of {draft}: {INPUTS} ({len(inputs)} rows) and {FEATURES} ({len(trained)} rows) are "
            "not about the same requests",
            next_step="train again: kedro run --config kedro.yml",
        )
    return Sample(
        inputs[list(REQUEST_COLUMNS)],
        trained[list(features.numeric)].to_numpy(np.float32),
        features.numeric,
        inputs["probability"].to_numpy(np.float64),
    )


def _read(path: Path, columns: Iterable[str]) -> pd.DataFrame:
    try:
        frame = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise ContractViolation(f"reading {path}: {error}", next_step="kedro run --config kedro.yml") from error
    missing = [name for name in columns if name not in frame.columns]
    if missing or frame.empty:
        raise ContractViolation(
            f"reading {path}: {len(frame)} rows, columns missing: {some(missing) or 'none'}",
            next_step="train again: kedro run --config kedro.yml",
        )
    return frame
