"""The choice of the offline engine, and the comparison of engines on a log."""

from pathlib import Path

import numpy as np
import pytest

from flightdeck.core.errors import ConfigError
from flightdeck.features import engines
from flightdeck.features.entity_frame import EntityFrame
from pipelines.features.views import VIEWS
from tests.event_streams import MINUTE_US, NOON_US, random_events, write_log

VIEWS_HERE = [view for view in VIEWS if view.entity in (("carrier",), ("tailnum",))]


def test_engines_agree_on_a_log(tmp_path: Path) -> None:
    events = random_events(5, 80, first_us=NOON_US - 600 * MINUTE_US, last_us=NOON_US)
    found = engines.compare_engines(VIEWS_HERE, write_log(tmp_path, events), 50)
    assert found.empty, found.to_string()
    assert list(found) == ["engine", "feature", "n_compared", "n_mismatched", "max_abs_difference"]


def test_a_difference_is_found_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = write_log(tmp_path, random_events(5, 80, first_us=NOON_US - 600 * MINUTE_US, last_us=NOON_US))
    honest = engines.join_features

    def shifted(*given: object) -> dict[str, engines.Floats]:
        values = honest(*given[:3])  # type: ignore[arg-type]
        is_other = len(given) > 3 and given[3] == engines.DUCKDB
        return {**values, "carrier_overdue__open": values["carrier_overdue__open"] + 2.0 * is_other}

    monkeypatch.setattr(engines, "join_features", shifted)
    found = engines.compare_engines(VIEWS_HERE, log, 50)
    assert found["feature"].tolist() == ["carrier_overdue__open"]
    assert found["max_abs_difference"].tolist() == [2.0]


def test_an_unknown_engine_and_a_wrong_setting_are_refused() -> None:
    frame = EntityFrame({"carrier": np.array(["UA"], dtype=object)}, np.array([NOON_US]))
    with pytest.raises(ConfigError, match="did you mean 'duckdb'"):
        engines.join_features([], {}, frame, "duckdbb")
    with pytest.raises(ConfigError, match="memory and partitions"):
        engines.join_features([], {}, frame, engines.SPARK, {"size": 3})
