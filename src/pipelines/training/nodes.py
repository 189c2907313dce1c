"""Splitting and fitting. Pure functions; randomness enters as a seed."""

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OrdinalEncoder
from threadpoolctl import threadpool_limits

from flightdeck.core.errors import ConfigError
from flightdeck.inference.rules import Rules, cells
from pipelines.features.model_input import CATEGORICAL, FALLBACK_NUMERIC, NUMERIC
from pipelines.inference.rules import RULE_KEYS

Parts = npt.NDArray[np.object_]  # train, validate or test for each row


def split_by_time(training_set: pd.DataFrame, settings: Mapping[str, Any]) -> Parts:
    """Return `train`, `validate` or `test` for each row, by local day of departure.

    Raises
    ------
    ConfigError
        If one of the three parts is empty.
    """
    day = training_set["flight_id"].str[:10]
    train_until, validate_until = str(settings["train_until"]), str(settings["validate_until"])
    part: Parts = np.full(len(day), "test", dtype=object)
    part[(day <= validate_until).to_numpy()] = "validate"
    part[(day <= train_until).to_numpy()] = "train"
    empty = sorted({"train", "validate", "test"} - set(part))
    if empty:
        raise ConfigError(
            f"splitting {day.min()}..{day.max()} at {train_until} and {validate_until} leaves no row to {empty}",
            next_step="correct train_until and validate_until in conf/base/parameters_training.yml",
        )
    return part


def fit_challenger(training_set: pd.DataFrame, part: Parts, settings: Mapping[str, Any]) -> Pipeline:
    """Return the challenger: gradient boosting over all features, stopped early on the validation month."""
    return _fit(training_set, part, NUMERIC, settings["challenger"], settings["seed"])


def fit_fallback(training_set: pd.DataFrame, part: Parts, settings: Mapping[str, Any]) -> Pipeline:
    """Return the fallback model: small, over the request alone, so that it needs no online store."""
    return _fit(training_set, part, FALLBACK_NUMERIC, settings["fallback"], settings["seed"])


def fit_rules(
    training_set: pd.DataFrame, model_inputs: pd.DataFrame, part: Parts, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the late rate of each cell of the rule keys, drawn towards the overall rate by `rules_smoothing` flights.

    The keys are described in what is returned: who reads it needs no code of this use case.
    """
    rows = training_set[part == "train"].drop_duplicates("flight_id")
    inputs = model_inputs.loc[rows.index]
    overall = float(rows["label"].mean())
    weight = float(settings["rules_smoothing"])
    cell = list(cells(RULE_KEYS, {name: inputs[name].to_numpy() for name in inputs}))
    found = rows["label"].groupby(cell).agg(["sum", "count"])
    rates = (found["sum"] + overall * weight) / (found["count"] + weight)
    rules = Rules(RULE_KEYS, {name: round(float(rate), 6) for name, rate in rates.items()}, round(overall, 6))
    plain: dict[str, Any] = msgspec.to_builtins(rules)
    return plain | {"smoothing": weight}


def list_categories(training_set: pd.DataFrame, part: Parts) -> dict[str, list[str]]:
    """Return the values of each category that training has seen; anything else is flagged when it is served."""
    train = training_set[part == "train"]
    return {name: sorted(train[name].unique().tolist()) for name in CATEGORICAL}


def model_rows(rows: pd.DataFrame, numeric: tuple[str, ...]) -> pd.DataFrame:
    """Return the columns of a model in its order: categories, then numbers."""
    return rows[[*CATEGORICAL, *numeric]]


def _fit(
    training_set: pd.DataFrame,
    part: Parts,
    numeric: tuple[str, ...],
    hyperparameters: Mapping[str, Any],
    seed: int,
) -> Pipeline:
    train, validate = training_set[part == "train"], training_set[part == "validate"]
    encode = ColumnTransformer(
        [
            (
                "categories",
                OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, dtype=np.float32),
                list(range(len(CATEGORICAL))),
            ),
            ("numbers", "passthrough", list(range(len(CATEGORICAL), len(CATEGORICAL) + len(numeric)))),
        ]
    )
    boost = HistGradientBoostingClassifier(early_stopping=True, random_state=seed, **hyperparameters)
    encoded = encode.fit_transform(model_rows(train, numeric))
    # One thread: the same bits on any number of cores, and no spinning threads where cores are shared (measured on two
    # busy cores: 11 s instead of 90 s).
    with threadpool_limits(1, user_api="openmp"):
        boost.fit(
            encoded,
            train["label"].to_numpy(),
            X_val=encode.transform(model_rows(validate, numeric)),
            y_val=validate["label"].to_numpy(),
        )
    return Pipeline([("encode", encode), ("boost", boost)])
