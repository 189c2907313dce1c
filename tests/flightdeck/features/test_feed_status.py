"""What a materializer says of each view: watermark, age, lag and freshness, for as long as the version is fed."""

import json
from pathlib import Path

import pytest

from flightdeck.features.feed_status import OF_A_VIEW, FeedStatus
from flightdeck.features.stores import Mark
from flightdeck.features.streaming import Lag
from flightdeck.features.view import FeatureView
from pipelines.features.views import VIEWS
from tests.event_streams import MINUTE_US, NOON_US

AHEAD, BEHIND = VIEWS[:2]
NOW_US = NOON_US + 2 * MINUTE_US


def shown(status: FeedStatus, view: FeatureView) -> dict[str, float | None]:
    labels = {"view": view.name, "version": view.version}
    return {name: status.registry.get_sample_value(f"flightdeck_feed_{name}", labels) for name in OF_A_VIEW}


def test_each_view_has_its_own_lag_age_and_freshness(tmp_path: Path) -> None:
    status = FeedStatus(tmp_path / "feed.json")
    marks = [(AHEAD, Mark(NOON_US)), (BEHIND, Mark(NOON_US - 10 * MINUTE_US))]
    status.report("feeding", NOW_US, marks, Lag(7, 660.0))  # the source reaches 12:01
    assert shown(status, AHEAD) == {
        "watermark_seconds": NOON_US / 1e6,
        "view_age_seconds": 120.0,
        "view_lag_seconds": 60.0,
        "view_fresh": 1.0,
    }
    assert shown(status, BEHIND) == {
        "watermark_seconds": NOON_US / 1e6 - 600,
        "view_age_seconds": 720.0,
        "view_lag_seconds": 660.0,
        "view_fresh": 0.0,
    }
    written = json.loads((tmp_path / "feed.json").read_text())["views"][f"{BEHIND.name}@{BEHIND.version}"]
    assert (written["lag_s"], written["age_s"], written["is_fresh"]) == (660.0, 720.0, False)


@pytest.mark.parametrize("lag", [None, Lag(0, 0.0)])
def test_a_retired_version_is_shown_no_more_and_silence_of_the_store_changes_nothing(lag: Lag | None) -> None:
    status = FeedStatus()
    status.report("feeding", NOW_US, [(AHEAD, Mark(NOON_US)), (BEHIND, Mark(NOON_US))], lag)
    status.report("feeding", NOW_US, [], None)
    assert shown(status, BEHIND)["view_age_seconds"] == 120.0
    status.report("feeding", NOW_US, [(AHEAD, Mark(NOON_US))], lag)
    assert set(shown(status, BEHIND).values()) == {None}
    assert shown(status, AHEAD)["view_age_seconds"] == 120.0
