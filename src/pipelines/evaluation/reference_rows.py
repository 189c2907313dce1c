"""Training rows that a draft carries, with all that their features are a function of: what is rebuilt to judge them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd
import pyarrow as pa

from flightdeck.core.clock import SECOND_US
from flightdeck.core.errors import ContractViolation, NotFoundError, some
from flightdeck.events.log import EventLog
from flightdeck.features.view import FeatureView
from flightdeck.gates.evidence import Evidence
from pipelines.features.model_input import REQUEST_COLUMNS
from pipelines.features.rebuild import rebuild_columns, recorded_events, recorded_views
from pipelines.features.training_frame import numeric_columns

SEED = 7
_RETRAIN = "train again: kedro run --config kedro.yml"


@dataclass(frozen=True)
class ReferenceRows:
    """A sample of the training rows that a draft carries.

    Parameters
    ----------
    inputs
        Request columns and columns of the views, as a server would be given them; in order of the request.
    features
        The same rows as the model read them.
    events
        Streams at the versions that training read.
    views
        Views as the draft declares them.
    numeric
        Names of the model's numeric features in order.
    recorded
        Content of the draft's `training.json`.
    """

    inputs: pd.DataFrame
    features: pd.DataFrame
    events: Mapping[str, pa.Table]
    views: Sequence[FeatureView]
    numeric: Sequence[str]
    recorded: Mapping[str, Any]

    @property
    def lag_us(self) -> int:
        """Publication lag that training declared: how long before its request a row's knowledge ends."""
        return int(self.recorded["training_set"]["settings"].get("publication_lag_s", 0)) * SECOND_US

    def join(self, asked: pd.DataFrame, events: Mapping[str, pa.Table]) -> pd.DataFrame:
        """Return the windowed features of requests, float64, computed from `events` as training computes them."""
        return rebuild_columns(asked, events, self.recorded, self.views)[0]

    def rebuild(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return windowed features (float64) and numeric features (float32) of the rows, computed from the log."""
        windowed, computed = rebuild_columns(self.inputs, self.events, self.recorded, self.views)
        numeric = numeric_columns(self.inputs, windowed, computed, self.numeric)
        return windowed, pd.DataFrame(numeric.T, columns=list(self.numeric), copy=False)


def read_reference_rows(evidence: Evidence, log: EventLog, n_rows: int) -> ReferenceRows:
    """Read at most `n_rows` of the training rows that a draft carries, and the events that they were made of.

    Raises
    ------
    ConfigError
        If the draft records too little, or the code gives its declarations another meaning.
    ContractViolation
        If its rows lack a column, or a stream's version holds other events than the recorded ones.
    NotFoundError
        If a file of the draft or a version of a stream is missing.
    """
    declared = _read_declarations(evidence.draft / "features.json")
    views = recorded_views(evidence.training, declared)
    view_columns = [column for view in views for column in view.columns]
    inputs = _read_columns(evidence.draft / "reference" / "inputs.parquet", [*REQUEST_COLUMNS, *view_columns])
    features = _read_columns(evidence.draft / "reference" / "features.parquet", declared["numeric"])
    if len(inputs) != len(features):
        raise ContractViolation(
            f"reading the reference of {evidence.draft}: {len(inputs)} rows of inputs, {len(features)} of features",
            next_step=_RETRAIN,
        )
    chosen = inputs.sample(min(n_rows, len(inputs)), random_state=SEED).sort_values("request_us", kind="stable").index
    inputs, features = (frame.loc[chosen].reset_index(drop=True) for frame in (inputs, features))
    events = recorded_events(log, evidence.training, views)
    return ReferenceRows(inputs, features, events, views, declared["numeric"], evidence.training)


def _read_declarations(path: Path) -> dict[str, Any]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.DecodeError) as error:
        raise NotFoundError(f"reading {path}: {error}", next_step=_RETRAIN) from error


def _read_columns(path: Path, names: Sequence[str]) -> pd.DataFrame:
    if not path.is_file():
        raise NotFoundError(f"reading {path}: no such file", next_step=_RETRAIN)
    frame = pd.read_parquet(path)
    missing = [name for name in names if name not in frame.columns]
    if missing or frame.empty:
        raise ContractViolation(
            f"reading {path}: {len(frame)} rows, columns missing: {some(missing) or 'none'}", next_step=_RETRAIN
        )
    return frame[list(names)]
