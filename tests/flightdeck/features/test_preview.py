"""A preview shows what the join gives, and says which column was meant."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flightdeck.core.errors import ConfigError
from flightdeck.events.log import EventLog
from flightdeck.features.aggregates import count, mean
from flightdeck.features.preview import preview
from flightdeck.features.view import FeatureView, Latest, OpenItems, windowed
from tests.flightdeck.features.declarations import CLICKS, CLOSED, random_table
from tests.flightdeck.features.naive import naive

VIEWS = [
    FeatureView("a", ("user",), "clicks", windowed(count(), mean("amount"), over="10m 1h"), "tests"),
    FeatureView("b", (), "clicks", windowed(count(), over="1h"), "tests"),
    FeatureView("c", ("user", "item"), "clicks", Latest(("amount",)), "tests", ttl_s=600),
    FeatureView("d", ("item",), "clicks", OpenItems(("closed",)), "tests"),
]


@pytest.fixture
def log(tmp_path: Path) -> EventLog:
    log = EventLog(tmp_path / "events")
    random = np.random.default_rng(7)
    for stream in (CLICKS, CLOSED):
        log.append(stream, random_table(random, stream, 400, 20_000))
    return log


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
def test_a_preview_shows_the_view_on_real_events(log: EventLog, view: FeatureView) -> None:
    shown = preview(view, log, n_rows=6)
    features = [name.partition("__")[2] for name in view.columns]
    assert list(shown.columns) == [*view.entity, "at", *features]
    assert 3 <= len(shown) <= 6
    assert str(shown["at"].dt.tz) == "UTC"
    events = {name: log.read(name) for name in view.sources}
    for _, row in shown.iterrows():
        at_us = row["at"].value // 1000
        expected = naive(view, events, {name: row[name] for name in view.entity}, at_us)
        np.testing.assert_allclose(row[features].to_numpy(dtype=float), expected, rtol=1e-12)


def test_a_preview_is_at_most_as_long_as_the_events(log: EventLog) -> None:
    assert len(preview(VIEWS[0], log, n_rows=100_000)) <= 400
    assert isinstance(preview(VIEWS[0], log, n_rows=1), pd.DataFrame)


def test_a_misspelt_column_is_named(log: EventLog) -> None:
    view = FeatureView("a", ("user",), "clicks", windowed(mean("amuont"), over="1h"), "tests")
    with pytest.raises(ConfigError, match="did you mean 'amount'"):
        preview(view, log)


def test_no_rows_are_refused(log: EventLog) -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        preview(VIEWS[0], log, n_rows=0)
