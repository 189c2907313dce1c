"""A store fed by the stream serves what the log says; one changed value is found and named."""

import itertools
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pytest

from flightdeck.events.log import EventLog
from flightdeck.features.materializer import Materializer
from flightdeck.features.online import OnlineReader
from flightdeck.features.store import OnlineStore
from flightdeck.monitoring.skew import Columns, ServedModel, SkewAudit, audit_skew
from pipelines.features.views import VIEW_COLUMNS, VIEWS
from pipelines.ingestion.streams import STREAMS
from tests.event_streams import MINUTE_US, NOON_US, between, random_events, random_requests, write_log
from tests.flightdeck.monitoring.samples import prediction_rows

DIGEST = "d" * 64
NUMERIC = ("distance_miles", *VIEW_COLUMNS, "hour")
HOUR_US = 60 * MINUTE_US


def read(request: Columns, views: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    hour = request["request_us"] / HOUR_US
    return np.column_stack([request["distance_miles"], views, hour]).astype(np.float32)


MODEL = ServedModel(NUMERIC, VIEWS, read)


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
        vectors = read(request, np.stack([found.columns[name] for name in VIEW_COLUMNS], axis=1))
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


def audit(log_root: Path, predictions: pd.DataFrame, model: ServedModel = MODEL) -> SkewAudit:
    return audit_skew(predictions, served={DIGEST: model}, log=EventLog(log_root))


def test_a_healthy_day_has_no_mismatch(served: tuple[Path, pd.DataFrame]) -> None:
    found = audit(*served)
    assert (found.n_mismatched, found.n_audited, found.n_not_auditable) == (0, 60, 0)
    assert found.n_compared == 60 * len(NUMERIC) and (found.table["max_abs_difference"] == 0).all()


def test_each_answer_is_audited_by_the_graph_of_the_bundle_that_gave_it(served: tuple[Path, pd.DataFrame]) -> None:
    log_root, rows = served
    other = replace(MODEL, read=lambda request, views: read(request, views) + np.float32(1))
    rows = rows.assign(bundle_digest=[DIGEST, "e" * 64] * 30)
    found = audit_skew(rows, served={DIGEST: MODEL, "e" * 64: other}, log=EventLog(log_root))
    assert found.n_audited == 60
    wrong = found.table.set_index("feature")["n_mismatched"]
    assert wrong["hour"] == wrong["distance_miles"] == 30


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
    place = NUMERIC.index("all_departures__count_60m")
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


def test_answers_of_other_bundles_and_of_other_features_are_counted_not_compared(
    served: tuple[Path, pd.DataFrame],
) -> None:
    log_root, rows = served
    gone = audit_skew(rows, served={}, log=EventLog(log_root))
    assert (gone.n_compared, gone.n_not_auditable) == (0, 60)
    shorter = audit(log_root, rows, replace(MODEL, numeric=("hour",)))
    assert (shorter.n_compared, shorter.n_not_auditable) == (0, 60)
