"""Time travel: a recorded training set is made again, whatever has been appended since."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner

from flightdeck.core.errors import ConfigError, ContractViolation
from flightdeck.core.identifiers import fingerprint
from flightdeck.events.datasets import EventStreamDataset
from flightdeck.events.log import EventLog
from flightdeck.features import view as view_module
from flightdeck.features.aggregates import count
from flightdeck.features.view import FeatureView, windowed
from pipelines.features import rebuild, training_frame
from pipelines.features.model_input import COLUMN_FUNCTIONS
from pipelines.features.pipeline import STREAMS, create_pipeline
from pipelines.features.rebuild import describe_training_set, digest_frame, rebuild_training_set
from pipelines.features.views import VIEW_COLUMNS, VIEWS
from pipelines.ingestion.streams import STREAMS as DECLARED
from pipelines.training.packing import describe_features
from tests.event_streams import MINUTE_US, NOON_US, random_events, write_log

HOUR_US = 60 * MINUTE_US
SETTINGS = {"horizons_min": [120, 15]}


@pytest.fixture
def log(tmp_path: Path) -> EventLog:
    return write_log(tmp_path / "log", random_events(1, 120, first_us=NOON_US - 20 * HOUR_US, last_us=NOON_US))


FEATURES = describe_features()


def run(log: EventLog) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Run the feature pipeline on the latest versions; return the training set and what a run records of it."""
    streams = {f"{name}_events": EventStreamDataset(filepath=str(log.root), stream=name) for name in STREAMS}
    catalog = DataCatalog({**streams, "params:features": MemoryDataset(SETTINGS)})
    SequentialRunner().run(create_pipeline(), catalog)
    training_set = catalog.load("training_set")
    recorded = {
        "data_versions": catalog.load("data_versions"),
        "views": FEATURES["views"],
        "nodes": {declared.name: fingerprint(declared.function) for declared in COLUMN_FUNCTIONS},
        "training_set": describe_training_set(training_set, SETTINGS),
        "git_commit": "c0ffee",
    }
    return training_set, recorded


def append(log: EventLog, seed: int, *, first_us: int, last_us: int) -> None:
    """Append events that no run has seen."""
    for stream in DECLARED:
        fresh = random_events(seed, 30, first_us=first_us, last_us=last_us)[stream.name]
        names = pa.array([f"{seed}-{name}" for name in fresh["event_id"].to_pylist()])
        log.append(stream, fresh.set_column(fresh.column_names.index("event_id"), "event_id", names))


@pytest.mark.parametrize("known", ["later", "earlier"])
def test_events_that_came_after_a_run_change_nothing_of_it(log: EventLog, known: str) -> None:
    training_set, recorded = run(log)
    first_us = NOON_US if known == "later" else NOON_US - 10 * HOUR_US
    append(log, 2, first_us=first_us, last_us=first_us + HOUR_US)
    rebuilt = rebuild_training_set(log, recorded, FEATURES)
    assert rebuilt.is_identical
    pd.testing.assert_frame_equal(rebuilt.training_set, training_set, check_exact=True)
    now, _ = run(log)
    assert len(now) > len(training_set) and digest_frame(now) != rebuilt.digest


def test_a_run_before_and_a_run_after_are_both_there(log: EventLog) -> None:
    _, first = run(log)
    append(log, 3, first_us=NOON_US, last_us=NOON_US + HOUR_US)
    _, second = run(log)
    append(log, 4, first_us=NOON_US, last_us=NOON_US + HOUR_US)
    assert first["training_set"]["digest"] != second["training_set"]["digest"]
    assert rebuild_training_set(log, second, FEATURES).is_identical
    assert rebuild_training_set(log, first, FEATURES).is_identical


def test_later_events_change_no_feature_of_an_earlier_request(log: EventLog) -> None:
    before, _ = run(log)
    append(log, 5, first_us=NOON_US, last_us=NOON_US + HOUR_US)
    after, _ = run(log)
    keys = ["flight_id", "horizon", "request_us"]
    known = after.merge(before[keys].drop_duplicates(), on=keys)
    known = known[known["request_us"] < NOON_US].drop_duplicates(keys)
    same = before[before["request_us"] < NOON_US].drop_duplicates(keys).merge(known[keys], on=keys)
    assert len(same) == len(known) > 100
    for name in VIEW_COLUMNS:
        np.testing.assert_array_equal(known[name], same[name], err_msg=name)


def test_another_log_is_refused(log: EventLog, tmp_path: Path) -> None:
    _, recorded = run(log)
    other = write_log(tmp_path / "other", random_events(9, 120, first_us=NOON_US - 20 * HOUR_US, last_us=NOON_US))
    with pytest.raises(ContractViolation, match="this is another log"):
        rebuild_training_set(other, recorded, FEATURES)


def test_views_that_were_added_or_changed_since_change_nothing(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    training_set, recorded = run(log)
    changed = replace(VIEWS[0], compute=windowed(count(), over="7m"))
    added = FeatureView("added", ("dest",), "cancelled", windowed(count(), over="1h"), "tests")
    for module in (rebuild, training_frame):
        monkeypatch.setattr(module, "VIEWS", (added, changed, *VIEWS[2:]))
    rebuilt = rebuild_training_set(log, recorded, FEATURES)
    assert rebuilt.is_identical
    pd.testing.assert_frame_equal(rebuilt.training_set, training_set, check_exact=True)


def test_a_record_from_before_declarations_were_kept_needs_its_views_only(
    log: EventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, recorded = run(log)
    old = {name: value for name, value in FEATURES.items() if name != "declarations"}
    added = FeatureView("added", ("dest",), "cancelled", windowed(count(), over="1h"), "tests")
    monkeypatch.setattr(rebuild, "VIEWS", (added, *VIEWS))
    assert rebuild_training_set(log, recorded, old).is_identical
    monkeypatch.setattr(rebuild, "VIEWS", (replace(VIEWS[0], compute=windowed(count(), over="7m")), *VIEWS[1:]))
    with pytest.raises(ConfigError, match=f"view {VIEWS[0].name}"):
        rebuild_training_set(log, recorded, old)


def test_code_that_moved_is_refused_and_the_commit_named(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    _, recorded = run(log)
    moved = {**recorded, "nodes": {**recorded["nodes"], "lead_time": "0"}, "views": {**recorded["views"], "gone": "1"}}
    with pytest.raises(ConfigError, match=r"view gone.*column function lead_time") as refused:
        rebuild_training_set(log, moved, FEATURES)
    assert "c0ffee" in str(refused.value)
    monkeypatch.setattr(view_module, "SEMANTICS", view_module.SEMANTICS + 1)
    with pytest.raises(ConfigError, match=f"{len(VIEWS)} declarations have moved"):
        rebuild_training_set(log, recorded, FEATURES)


def test_a_record_that_says_too_little_is_refused(log: EventLog) -> None:
    with pytest.raises(ConfigError, match="training_set"):
        rebuild_training_set(log, {"data_versions": {}, "views": {}, "nodes": {}}, FEATURES)


def test_the_digest_sees_every_byte() -> None:
    frame = pd.DataFrame({"a": np.array([1.0, np.nan], np.float32), "b": ["x", "y"]})
    same = pd.DataFrame({"a": np.array([1.0, -np.nan], np.float32), "b": ["x", "y"]})
    others = [
        frame.assign(a=np.array([1.0, 0.0], np.float32)),
        frame.assign(a=frame["a"].astype(np.float64)),
        frame.assign(b=["x", "z"]),
        frame[["b", "a"]],
        frame.iloc[::-1],
        frame.rename(columns={"b": "c"}),
    ]
    assert digest_frame(frame) == digest_frame(same)
    assert len({digest_frame(frame), *map(digest_frame, others)}) == 1 + len(others)
