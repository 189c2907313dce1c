"""What the gate looks at: a draft's predictions on the test set, its provenance, and the champion's predictions.

Predictions are `reference/predictions.parquet` of a bundle: one row a request, with `request_timestamp`, `horizon_min`,
`label` (0 or 1), `probability`, `fallback_probability`, `rule_probability`, a key and the columns to segment by.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flightdeck.core.errors import ContractViolation, FlightdeckError, NotFoundError, some
from flightdeck.inference.bundle import content_digest

PREDICTIONS = "reference/predictions.parquet"
COLUMNS = ("request_timestamp", "horizon_min", "label", "probability", "fallback_probability", "rule_probability")


@dataclass(frozen=True)
class Evidence:
    """Everything that the checks read.

    Parameters
    ----------
    draft
        Folder of the draft bundle.
    subject
        Its content digest: what the verdict will be about.
    predictions
        Test set predictions of the draft, ordered by time and key.
    training
        Parsed `training.json` of the draft.
    key
        Column that names the row together with `horizon_min`.
    champion
        Test set predictions of the champion, or None.
    champion_problem
        Why the champion cannot be compared with although there is one; empty otherwise.
    champion_path
        Folder of the champion's bundle, or None.
    """

    draft: Path
    subject: str
    predictions: pd.DataFrame
    training: dict[str, Any]
    key: str
    champion: pd.DataFrame | None = None
    champion_problem: str = ""
    champion_path: Path | None = None

    @property
    def label(self) -> NDArray[np.int64]:
        """Outcomes, 0 or 1, shape (n,)."""
        return self.predictions["label"].to_numpy(np.int64)

    @property
    def probability(self) -> NDArray[np.float64]:
        """Probabilities of the draft's model, shape (n,)."""
        return self.predictions["probability"].to_numpy(np.float64)

    @property
    def day(self) -> NDArray[np.int64]:
        """Number of the UTC day of each request, shape (n,)."""
        return day_number(self.predictions)

    @property
    def month(self) -> pd.Series:
        """UTC month of each request as `2013-08`."""
        months = self.predictions["request_timestamp"].to_numpy("datetime64[M]")
        found, which = np.unique(months, return_inverse=True)  # five names, not 280,000
        return pd.Series(np.datetime_as_string(found).astype(object)[which], index=self.predictions.index, name="month")


def read_evidence(bundle: str, champion_bundle: str = "", *, key: str, champion_problem: str = "") -> Evidence:
    """Read the draft in the folder `bundle` and, where a folder is given, the champion's predictions.

    Raises
    ------
    NotFoundError
        If the draft or its predictions are missing.
    ContractViolation
        If the predictions lack a column, have no row, a label other than 0 and 1, or a key twice.
    """
    draft = Path(bundle)
    training = _read_training(draft / "training.json")
    predictions = read_predictions(draft / PREDICTIONS, key)
    champion = None
    if champion_bundle and not champion_problem:
        try:
            champion = read_predictions(Path(champion_bundle) / PREDICTIONS, key)
        except FlightdeckError as error:
            champion_problem = error.message
    path = Path(champion_bundle) if champion_bundle else None
    return Evidence(draft, content_digest(draft), predictions, training, key, champion, champion_problem, path)


def read_predictions(path: Path, key: str) -> pd.DataFrame:
    """Return predictions ordered by time, horizon and key, after comparing them with what `COLUMNS` promises."""
    if not path.is_file():
        raise NotFoundError(f"reading predictions: {path} does not exist", next_step="kedro run --config kedro.yml")
    frame = pd.read_parquet(path)
    missing = [name for name in (key, *COLUMNS) if name not in frame.columns]
    if missing:
        raise ContractViolation(
            f"reading {path}: columns missing: {some(missing)}; there are {some(frame.columns, 20)}"
        )
    problems = []
    if frame.empty:
        problems.append("it has no row")
    if not frame["label"].isin([0, 1]).all():
        problems.append("labels other than 0 and 1")
    if frame.duplicated([key, "horizon_min"]).any():
        problems.append(f"the same {key} and horizon_min twice")
    if problems:
        raise ContractViolation(f"reading {path}: {'; '.join(problems)}")
    ordered = frame.sort_values(["request_timestamp", "horizon_min", key], ignore_index=True)
    return ordered.assign(request_timestamp=pd.to_datetime(ordered["request_timestamp"], utc=True))


def day_number(predictions: pd.DataFrame) -> NDArray[np.int64]:
    """Return the number of the UTC day since the epoch of each row."""
    times = predictions["request_timestamp"].to_numpy("datetime64[D]")
    return times.astype(np.int64)


def _read_training(path: Path) -> dict[str, Any]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except FileNotFoundError as error:
        raise NotFoundError(f"reading {path}: no such file", next_step="kedro run --config kedro.yml") from error
    except msgspec.DecodeError as error:
        raise ContractViolation(f"reading {path}: {error}", next_step="kedro run --config kedro.yml") from error
