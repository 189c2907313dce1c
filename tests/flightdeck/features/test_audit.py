"""What the audit recomputes is what was known then: as of the watermark, and at the versions that were served."""

from pathlib import Path

import numpy as np
import pytest

from flightdeck.events.log import EventLog
from flightdeck.events.offset import versions_of
from flightdeck.features.aggregates import count, distinct, last, mean
from flightdeck.features.audit import recompute
from flightdeck.features.view import FeatureView, Latest, OpenItems, windowed
from tests.flightdeck.features.declarations import CLICKS, CLOSED, NOON_US, SECOND_US, random_table
from tests.flightdeck.features.naive import naive

VIEWS = [
    FeatureView(
        "a",
        ("user",),
        "clicks",
        windowed(count(), mean("amount"), last("score"), distinct("item"), over="10m"),
        "tests",
    ),
    FeatureView("b", (), "clicks", windowed(count(), over="1h"), "tests"),
    FeatureView("c", ("user", "item"), "clicks", Latest(("amount",)), "tests", ttl_s=600),
    FeatureView("d", ("item",), "clicks", OpenItems(("closed",)), "tests"),
]
COLUMNS = {
    "user": np.array(["ann", "bob", "", "nobody"] * 5, dtype=object),
    "item": np.array(["x", "y", "zz", "x", "z"] * 4, dtype=object),
}


@pytest.fixture
def log(tmp_path: Path) -> EventLog:
    """Return a log of two commits a stream, the second of which came late: it belongs between the first's events."""
    log = EventLog(tmp_path / "events")
    random = np.random.default_rng(11)
    for stream in (CLICKS, CLOSED):
        table = random_table(random, stream, 300, 9000)
        is_late = np.arange(300) % 3 == 0
        log.append(stream, table.filter(~is_late))
        log.append(stream, table.filter(is_late))
    return log


@pytest.mark.parametrize("offset", ["", "clicks@0", "clicks@0 closed@0", "clicks@1 closed@1"])
def test_features_are_recomputed_as_they_were_known(log: EventLog, offset: str) -> None:
    versions = versions_of(offset)
    at_us = NOON_US + np.arange(20) * 450 * SECOND_US
    known_us = at_us - np.arange(20) % 4 * 60 * SECOND_US
    found = recompute(VIEWS, log, COLUMNS, at_us, known_us, versions or None)
    events = {name: log.read(name, version=versions.get(name)) for name in ("clicks", "closed")}
    for view in VIEWS:
        for row in range(20):
            entity = {name: values[row] for name, values in COLUMNS.items()}
            expected = naive(view, events, entity, int(at_us[row]), int(known_us[row]))
            np.testing.assert_allclose([found[name][row] for name in view.columns], expected, rtol=1e-12)


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.name)
def test_the_oldest_request_sees_its_whole_window(log: EventLog, view: FeatureView) -> None:
    """Requests lie further apart than their windows are long: the first one's events are read as the last one's."""
    at_us = NOON_US + np.array([600, 9000]) * SECOND_US
    columns = {"user": np.array(["ann", "ann"], object), "item": np.array(["x", "x"], object)}
    found = recompute([view], log, columns, at_us, at_us)
    events = {name: log.read(name) for name in ("clicks", "closed")}
    for row, at in enumerate(at_us.tolist()):
        expected = naive(view, events, {"user": "ann", "item": "x"}, at)
        np.testing.assert_allclose([found[name][row] for name in view.columns], expected, rtol=1e-12)
    assert all(found[name][0] > 0 for name in view.columns if "count" in name)


def test_the_version_matters(log: EventLog) -> None:
    at_us = np.full(20, NOON_US + 9000 * SECOND_US)
    before, now = (recompute(VIEWS[1:2], log, COLUMNS, at_us, at_us, versions) for versions in ({"clicks": 0}, None))
    assert (before["b__count_60m"] < now["b__count_60m"]).all()


def test_no_rows_give_no_values(log: EventLog) -> None:
    nothing = np.array([], dtype=np.int64)
    found = recompute(VIEWS, log, {name: values[:0] for name, values in COLUMNS.items()}, nothing, nothing)
    assert {len(values) for values in found.values()} == {0}
