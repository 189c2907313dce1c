"""A store fed by the stream serves what the log says; one changed value is found and named."""

import itertools
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from flightdeck.events.log import EventLog
from flightdeck.features.materializer import Materializer
from flightdeck.features.online import OnlineReader
from flightdeck.features.store import OnlineStore
from flightdeck.features.view import FeatureView
from flightdeck.monitoring.skew import SkewAudit, audit_skew
from pipelines.features.views import VIEW_COLUMNS, VIEWS
from pipelines.ingestion.streams import STREAMS
from tests.event_streams import MINUTE_US, NOON_US, between, random_events, random_requests, write_log
from tests.flightdeck.monitoring.samples import prediction_rows

DIGEST = "d" * 64
FEATURES: dict[str, Any] = {
    "numeric": ["distance_miles", *VIEW_COLUMNS, "hour"],
    "views": {view.name: view.digest for view in VIEWS},
    "declarations": [view.as_json() for view in VIEWS],
    "nodes": {"hour": "1" * 64},
}
HOUR_US = 60 * MINUTE_US


def compute(columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {"hour": columns["request_us"] / HOUR_US}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame]:
    """Return a log and predictions served from a store that followed it."""
    folder = tmp_path_factory.mktemp("skew")
    start_us = NOON_US - 30 * HOUR_US
    events = random_events(5, 400, first_us=start_us, last_us=NOON_US)
    log = write_log(folder / "log", events)
    store = OnlineStore.open(folder / "store", read_only=False)
    materializer, reader = Materializer(store, VIEWS), OnlineReader(store, VIEWS)
    materializer.backfill(log, NOON_US - 5 * HOUR_US)
    frames = []
    stops = [NOON_US - hours * HOUR_US for hours in (5, 3, 1)]
    for before_us, until_us in itertools.pairwise([stops[0], *stops]):
        materializer.apply(between(events, before_us, until_us), until_us)
        columns, _ = random_requests(until_us % 97, 20, first_us=until_us, last_us=until_us + 1)
        found = reader.read(columns, until_us + 7 * MINUTE_US)
        request = {"distance_miles": np.arange(20), "request_us": np.full(20, until_us + 7 * MINUTE_US)}
        values = {**request, **found.columns, **compute(request)}
        vectors = np.stack([values[name] for name in FEATURES["numeric"]], axis=1).astype(np.float32)
        frames.append(
            prediction_rows(
                20,
                **columns,
                **request,
                feature_us=found.at_us,
                watermark_us=found.watermark_us,
                feature_offset=found.offset,
                bundle_digest=DIGEST,
                features=list(vectors),
            )
        )
    store.close()
    return folder / "log", pd.concat(frames, ignore_index=True)


def audit(
    log_root: Path,
    predictions: pd.DataFrame,
    lists: dict[str, dict[str, Any]] | None = None,
    running: Sequence[FeatureView] = VIEWS,
) -> SkewAudit:
    return audit_skew(
        predictions,
        served_features={DIGEST: FEATURES} if lists is None else lists,
        views=running,
        nodes=FEATURES["nodes"],
        log=EventLog(log_root),
        compute_columns=compute,
    )


def test_a_healthy_day_has_no_mismatch(served: tuple[Path, pd.DataFrame]) -> None:
    found = audit(*served)
    assert (found.n_mismatched, found.n_audited, found.n_not_auditable) == (0, 60, 0)
    assert found.n_compared == 60 * len(FEATURES["numeric"]) and (found.table["max_abs_difference"] == 0).all()


def test_the_bundles_own_declarations_count_not_those_of_the_running_code(served: tuple[Path, pd.DataFrame]) -> None:
    found = audit(*served, running=VIEWS[3:])
    assert (found.n_mismatched, found.n_audited) == (0, 60)
    without = {name: value for name, value in FEATURES.items() if name != "declarations"}
    assert audit(*served, lists={DIGEST: without}).n_audited == 60
    assert audit(*served, lists={DIGEST: without}, running=VIEWS[3:]).n_not_auditable == 60


def test_an_event_that_the_log_learnt_after_the_answer_is_no_skew(
    served: tuple[Path, pd.DataFrame], tmp_path: Path
) -> None:
    log_root, rows = served
    shutil.copytree(log_root, tmp_path / "log")
    late = random_events(6, 50, first_us=NOON_US - 6 * HOUR_US, last_us=NOON_US - 5 * HOUR_US)
    log = EventLog(tmp_path / "log")
    for stream in STREAMS:
        ids = pa.array([f"late-{n}" for n in range(50)])
        log.append(stream, late[stream.name].set_column(0, "event_id", ids))
    assert audit(tmp_path / "log", rows).n_mismatched == 0
    assert audit(tmp_path / "log", rows.assign(feature_offset="")).n_mismatched > 0


@pytest.mark.parametrize("change", [0.001, np.nan, np.inf])
def test_one_changed_value_is_found_and_named(served: tuple[Path, pd.DataFrame], change: float) -> None:
    log_root, rows = served
    place = FEATURES["numeric"].index("all_departures__count_60m")
    changed = rows.copy()
    vector = rows["features"][7].copy()
    vector[place] += np.float32(change)
    changed.at[7, "features"] = vector
    found = audit(log_root, changed)
    wrong = found.table[found.table["n_mismatched"] > 0]
    assert wrong["feature"].tolist() == ["all_departures__count_60m"] and found.n_mismatched == 1
    assert wrong["max_abs_difference"].iloc[0] == pytest.approx(change if change == 0.001 else np.inf, rel=0.1)


def test_a_store_that_lags_behind_its_stamp_is_found(served: tuple[Path, pd.DataFrame]) -> None:
    log_root, rows = served
    found = audit(log_root, rows.assign(watermark_us=rows["watermark_us"] - 2 * HOUR_US))
    assert found.n_mismatched > 0


def test_only_what_a_model_answered_is_audited(served: tuple[Path, pd.DataFrame]) -> None:
    log_root, rows = served
    assert audit(log_root, rows.assign(mode="rules")).n_audited == 0
    assert audit(log_root, rows.assign(features=None)).n_compared == 0
    assert audit(log_root, rows.iloc[:0]).table.empty


def test_other_bundles_and_other_views_are_counted_not_compared(served: tuple[Path, pd.DataFrame]) -> None:
    log_root, rows = served
    other = {**FEATURES, "views": {**FEATURES["views"], VIEWS[0].name: "0" * 64}}
    recoded = {**FEATURES, "nodes": {"hour": "2" * 64}}
    cases: tuple[dict[str, dict[str, Any]], ...] = (
        {},
        {DIGEST: other},
        {DIGEST: recoded},
        {DIGEST: {**FEATURES, "numeric": ["hour"]}},
    )
    for lists in cases:
        found = audit(log_root, rows, lists)
        assert (found.n_compared, found.n_not_auditable) == (0, 60)
