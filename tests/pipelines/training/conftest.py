"""A small real-shaped training set, and the models that are fitted to it."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from flightdeck.core.layout import PROJECT
from flightdeck.inference.plan import compile_plan
from pipelines.features.model_input import CATEGORICAL, NUMERIC, REQUEST_COLUMNS
from pipelines.features.views import VIEW_COLUMNS
from pipelines.inference.pipeline import create_pipeline
from pipelines.training import exporting, nodes
from tests.graphs import request_rows, view_rows

SETTINGS = yaml.safe_load((PROJECT / "conf/base/parameters_training.yml").read_text())["training"]
N_ROWS = 3_000
Models = tuple[Any, Any, bytes, bytes]


@pytest.fixture(scope="module")
def model_inputs() -> pd.DataFrame:
    random = np.random.default_rng(11)
    days = pd.to_datetime("2013-05-01") + pd.to_timedelta(np.sort(random.integers(0, 120, N_ROWS)), unit="D")
    keys = {
        "flight_id": [f"{day:%Y-%m-%d}:UA:{i}:EWR" for i, day in enumerate(days)],
        "horizon": random.choice([15, 120], N_ROWS),
    }
    views = pd.DataFrame(view_rows(N_ROWS), columns=list(VIEW_COLUMNS))
    return pd.concat([pd.DataFrame(keys), pd.DataFrame(request_rows(N_ROWS)), views], axis=1)


@pytest.fixture(scope="module")
def training_set(model_inputs: pd.DataFrame) -> pd.DataFrame:
    columns = {name: model_inputs[name].to_numpy() for name in (*REQUEST_COLUMNS, *VIEW_COLUMNS)}
    made = compile_plan(create_pipeline().nodes, columns, NUMERIC)(columns)
    numeric = pd.DataFrame({name: made[name].astype(np.float32) for name in NUMERIC})
    signal = numeric["origin_overdue__open"].fillna(0).to_numpy() / 40_000 - 1
    label = (np.random.default_rng(12).random(N_ROWS) < 1 / (1 + np.exp(-signal))).astype(np.int64)
    keys = model_inputs[["flight_id", "horizon", "request_us", *CATEGORICAL]].assign(label=label)
    return pd.concat([keys, numeric], axis=1)


@pytest.fixture(scope="module")
def part(training_set: pd.DataFrame) -> nodes.Parts:
    return nodes.split_by_time(training_set, SETTINGS)


@pytest.fixture(scope="module")
def models(training_set: pd.DataFrame, part: nodes.Parts) -> Models:
    challenger = nodes.fit_challenger(training_set, part, SETTINGS)
    fallback = nodes.fit_fallback(training_set, part, SETTINGS)
    return challenger, fallback, exporting.export_challenger(challenger), exporting.export_fallback(fallback)
