"""The training frame sees what serving sees: windowed features as known a publication lag before the request."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import yaml

from flightdeck.core.errors import ConfigError
from flightdeck.core.layout import PROJECT
from flightdeck.events.datasets import EventStreamDataset
from pipelines.features import training_frame
from pipelines.features.pipeline import STREAMS
from tests.event_streams import MINUTE_US, NOON_US, random_events, write_log

SETTINGS = {"horizons_min": [15]}
FIRST_US = NOON_US - 600 * MINUTE_US


@pytest.fixture
def streams(tmp_path_factory: pytest.TempPathFactory) -> list[pa.Table]:
    log = write_log(tmp_path_factory.mktemp("log"), random_events(2, 150, first_us=FIRST_US, last_us=NOON_US))
    return [EventStreamDataset(filepath=str(log.root), stream=stream).load() for stream in STREAMS]


@pytest.fixture
def frame(streams: list[pa.Table]) -> pd.DataFrame:
    return training_frame.build_entity_frame(streams[0], streams[2], SETTINGS)


def test_events_within_the_lag_are_not_seen(streams: list[pa.Table], frame: pd.DataFrame) -> None:
    lagging = training_frame.join_windowed_features(frame, {**SETTINGS, "publication_lag_s": 3600}, *streams)
    frame = frame.assign(request_us=frame["request_us"] + 5)  # no request at the very moment of an event
    prompt = training_frame.join_windowed_features(frame, SETTINGS, *streams)
    assert (lagging["all_departures__count_60m"] <= prompt["all_departures__count_60m"]).all()
    assert lagging["all_departures__count_60m"].max() < prompt["all_departures__count_60m"].max()
    ages = lagging[["aircraft_departed__age_s", "origin_weather__age_s"]].to_numpy()
    assert np.nanmin(ages) >= 3600


def test_the_lag_and_the_engine_change_nothing_else(streams: list[pa.Table], frame: pd.DataFrame) -> None:
    settings = {**SETTINGS, "publication_lag_s": 60}
    expected = training_frame.join_windowed_features(frame, settings, *streams)
    found = training_frame.join_windowed_features(frame, {**settings, "engine": "duckdb"}, *streams)
    pd.testing.assert_frame_equal(found, expected, check_exact=True)


def test_a_lag_into_the_future_is_refused(streams: list[pa.Table], frame: pd.DataFrame) -> None:
    with pytest.raises(ConfigError, match="cannot know the future"):
        training_frame.join_windowed_features(frame, {**SETTINGS, "publication_lag_s": -1}, *streams)


def test_the_environment_scale_differs_from_base_in_the_engine_alone() -> None:
    base, scale = (
        yaml.safe_load((PROJECT / "conf" / env / "parameters_features.yml").read_text())["features"]
        for env in ("base", "scale")
    )
    assert scale.pop("spark")
    assert scale == {**base, "engine": "spark"}
