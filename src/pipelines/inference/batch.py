"""Batch scoring: a released model on recorded rows, twice: as a server answers, and through the nodes as they are now.

A server answers by the bundle's own graph, so the first is what it would say. The second sends the same rows through
the column functions of this code into the bundle's model: where the two differ, the code has moved since it was sealed.
"""

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from flightdeck.core.errors import ConfigError
from flightdeck.inference.export import predict_numeric
from flightdeck.inference.release_bundle import RunningCode, load_release
from flightdeck.release.released import ReleasedBundles
from pipelines.features.model_input import CATEGORICAL, COMPUTED, NUMERIC, REQUEST_COLUMNS
from pipelines.features.training_frame import COLUMN_INPUTS

LIMIT = 1e-6
DAY_LENGTH = len("2013-09-12")  # a flight's identifier begins with its local day
logger = logging.getLogger(__name__)


def select_rows(model_inputs: pd.DataFrame, settings: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the rows of the local days `first_day` to `last_day`, then the columns that the column functions read.

    Raises
    ------
    ConfigError
        If there is no row.
    """
    day = model_inputs["flight_id"].str[:DAY_LENGTH]
    first, last = str(settings["first_day"]), str(settings["last_day"])
    rows = model_inputs[(day >= first) & (day <= last)].reset_index(drop=True)
    if rows.empty:
        raise ConfigError(
            f"scoring {first} to {last}: model_inputs has no row of these days, it has {day.min()} to {day.max()}",
            next_step="set first_day and last_day in conf/base/parameters_inference.yml or with --params",
        )
    return rows, *(rows[name].to_numpy() for name in COLUMN_INPUTS)


def assemble_numeric(rows: pd.DataFrame, *computed: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Return what a model of this code reads, float32 `(n_rows, n_numeric)`."""
    at_hand = dict(zip(COMPUTED, computed, strict=True))
    columns = [at_hand[name] if name in at_hand else rows[name].to_numpy() for name in NUMERIC]
    return np.stack([column.astype(np.float64) for column in columns], axis=1).astype(np.float32)


def score_rows(
    rows: pd.DataFrame, numeric: npt.NDArray[np.float32], released: ReleasedBundles, settings: Mapping[str, Any]
) -> pd.DataFrame:
    """Return one row a request: `probability` as a server answers, `probability_by_nodes`, and who answered.

    `probability_by_nodes` is NaN where the bundle's model reads other features than this code computes.

    Raises
    ------
    NotFoundError
        If there is no such bundle.
    BundleRefused
        If it cannot be served by this code.
    """
    version, bundle = released.find(settings["bundle"])
    code = RunningCode(request_columns=REQUEST_COLUMNS)
    release = load_release(bundle.path, digest=bundle.digest, version=version, code=code)
    request = {name: rows[name].to_numpy() for name in release.request_inputs}
    names = [column for view in release.feature_views for column in view.columns]
    known = rows.reindex(columns=names).to_numpy(np.float64)
    answered = release.score_model(request, known).probability
    by_nodes = np.full(len(rows), np.nan)
    if (release.categorical, release.numeric) == (CATEGORICAL, NUMERIC):
        texts = {name: request[name] for name in CATEGORICAL}
        by_nodes = predict_numeric((bundle.path / "model.onnx").read_bytes(), texts, numeric, beside=bundle.path)
    n_moved = int((~(np.abs(answered - by_nodes) <= LIMIT)).sum())
    if n_moved:
        logger.warning("version %d answers %d of %d rows otherwise than through the nodes", version, n_moved, len(rows))
    keys = rows[["flight_id", "horizon", "request_us"]]
    return keys.assign(
        model_version=version, bundle_digest=bundle.digest, probability=answered, probability_by_nodes=by_nodes
    )
