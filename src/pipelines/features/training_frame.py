"""The training frame: entity frame with labels, windowed features joined point-in-time, request-time columns. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from flightdeck.core.clock import MINUTE_US, SECOND_US
from flightdeck.core.errors import ConfigError
from flightdeck.events.log import version_of
from flightdeck.features.engines import NUMPY, join_features
from flightdeck.features.entity_frame import EntityFrame
from flightdeck.features.view import FeatureView
from pipelines.features.model_input import CATEGORICAL, COLUMN_FUNCTIONS, COMPUTED, NUMERIC, REQUEST_COLUMNS
from pipelines.features.views import VIEWS

ENTITY_COLUMNS = ("carrier", "origin", "dest", "tailnum")
COLUMN_INPUTS = tuple(
    dict.fromkeys(name for function in COLUMN_FUNCTIONS for name in function.inputs if name not in COMPUTED)
)


def build_entity_frame(scheduled: pa.Table, arrived: pa.Table, settings: Mapping[str, Any]) -> pd.DataFrame:
    """Return one row a flight and horizon: request columns, `flight_id`, `horizon`, `label`.

    The label is 1 unless the flight arrived less than 15 minutes late: late, cancelled and diverted flights count.
    Row order: by horizon, then as the log knew the flights.

    Raises
    ------
    ConfigError
        If no horizon is given or one is negative.
    """
    horizons = [int(h) for h in settings["horizons_min"]]
    if not horizons or min(horizons) < 0:
        raise ConfigError(
            f"features: horizons_min is {horizons}; it needs at least one horizon of 0 minutes or more",
            next_step="correct conf/base/parameters_features.yml",
        )
    flights = _flights(scheduled)
    on_time = arrived.filter(pc.equal(arrived["is_late"], 0))["flight_id"]
    flights["label"] = 1 - pc.is_in(scheduled["flight_id"], value_set=on_time).to_numpy().astype(np.int64)
    frames = [flights.assign(horizon=h, request_us=flights["scheduled_departure_us"] - h * MINUTE_US) for h in horizons]
    return pd.concat(frames, ignore_index=True)


def join_windowed_features(
    entity_frame: pd.DataFrame,
    settings: Mapping[str, Any],
    *streams: pa.Table,
    views: Sequence[FeatureView] = VIEWS,
) -> pd.DataFrame:
    """Return the windowed features of each row as serving would know them, float64, same row order.

    Serving knows what its materializer has applied, which is a little less than what had been published:
    `publication_lag_s` before the request. `engine` says who computes; every engine gives the same.

    Raises
    ------
    ConfigError
        If the lag is negative or there is no such engine.
    """
    lag_us = int(settings.get("publication_lag_s", 0)) * SECOND_US
    if lag_us < 0:
        raise ConfigError(
            f"features: publication_lag_s is {settings['publication_lag_s']}; serving cannot know the future",
            next_step="correct conf/base/parameters_features.yml",
        )
    events = {version_of(table)[0]: table for table in streams}
    columns = {name: entity_frame[name].to_numpy(object) for name in ENTITY_COLUMNS}
    at_us = entity_frame["request_us"].to_numpy()
    frame = EntityFrame(columns, at_us, at_us - lag_us)
    engine, spark = str(settings.get("engine", NUMPY)), settings.get("spark")
    return pd.DataFrame(join_features(views, events, frame, engine, spark), copy=False)


def split_columns(entity_frame: pd.DataFrame, windowed: pd.DataFrame) -> tuple[npt.NDArray[Any], ...]:
    """Return the columns that the column functions read, in the order of `COLUMN_INPUTS`."""
    return tuple((windowed if name in windowed else entity_frame)[name].to_numpy() for name in COLUMN_INPUTS)


def assemble(entity_frame: pd.DataFrame, windowed: pd.DataFrame, *computed: npt.NDArray[np.float64]) -> pd.DataFrame:
    """Return the training set; see `assemble_columns`."""
    return assemble_columns(entity_frame, windowed, dict(zip(COMPUTED, computed, strict=True)), NUMERIC)


def assemble_columns(
    entity_frame: pd.DataFrame,
    windowed: pd.DataFrame,
    computed: Mapping[str, npt.NDArray[np.float64]],
    names: Sequence[str],
) -> pd.DataFrame:
    """Return keys, label, categories, and the named numeric features in that order (`numeric_columns`)."""
    numeric = numeric_columns(entity_frame, windowed, computed, names)
    keys = entity_frame[["flight_id", "horizon", "request_us", "label", *CATEGORICAL]]
    features = pd.DataFrame(numeric.T, columns=list(names), index=keys.index, copy=False)
    return pd.concat([keys, features], axis=1, copy=False)


def numeric_columns(
    entity_frame: pd.DataFrame,
    windowed: pd.DataFrame,
    computed: Mapping[str, npt.NDArray[np.float64]],
    names: Sequence[str],
) -> npt.NDArray[np.float32]:
    """Return the named numeric features as float32, shape `(n_names, n_rows)`.

    float32 is what the exported model computes with: trees trained on float64 would split between two roundings.
    """
    numeric = np.empty((len(names), len(entity_frame)), dtype=np.float32)
    for place, name in enumerate(names):
        numeric[place] = computed[name] if name in computed else (windowed if name in windowed else entity_frame)[name]
    return numeric


def keep_inputs(entity_frame: pd.DataFrame, windowed: pd.DataFrame) -> pd.DataFrame:
    """Return what a server would be given for each row of the training set, in its order.

    `flight_id` and `horizon`, the request columns, and the columns of the feature views as float64.
    """
    asked = entity_frame[["flight_id", "horizon", *REQUEST_COLUMNS]]
    return pd.concat([asked, windowed.set_index(asked.index)], axis=1, copy=False)


def describe_data_versions(*streams: pa.Table) -> dict[str, Any]:
    """Return version, digest and size of each stream that the training set was built from."""
    return {name: version.as_json() for name, version in map(version_of, streams)}


def _flights(scheduled: pa.Table) -> pd.DataFrame:
    """Return the request columns of each scheduled flight, request time left out."""
    micros = {
        f"{name}_us": scheduled[name].cast(pa.int64()).to_numpy()
        for name in ("scheduled_departure", "scheduled_arrival")
    }
    texts = {
        name: scheduled[name].to_numpy(zero_copy_only=False) for name in ("flight_id", "carrier", "origin", "dest")
    }
    tails = scheduled["tailnum"].fill_null("").to_numpy(zero_copy_only=False)
    return pd.DataFrame(
        {
            **texts,
            "tailnum": tails,
            "flight_number": scheduled["flight"].to_numpy(),
            **micros,
            "origin_utc_offset_min": scheduled["origin_utc_offset_min"].to_numpy(),
            "distance_miles": scheduled["distance_miles"].to_numpy(),
        }
    )
