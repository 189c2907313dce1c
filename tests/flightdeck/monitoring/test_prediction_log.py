"""Reading what the writer wrote, and what a killed writer left behind."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from flightdeck.core.clock import MINUTE_US, VirtualClock, to_us
from flightdeck.inference.prediction_log import PredictionLogWriter
from flightdeck.inference.prediction_log_compact import compact, compacting
from flightdeck.monitoring.prediction_log import COLUMNS, NO_TIME_US, read_predictions
from tests.flightdeck.monitoring.samples import CLOCK
from tests.predictions import Record, log_batch

FLIGHT = {
    "carrier": "UA",
    "origin": "EWR",
    "dest": "IAH",
    "flight_number": 1,
    "tailnum": "",
    "scheduled_departure_us": 10,
    "scheduled_arrival_us": 20,
    "origin_utc_offset_min": -240,
    "distance_miles": 1400,
}
RECORD = {
    "request_id": "a",
    "logged_at_us": to_us(CLOCK.now()),
    "request_us": 5,
    "feature_us": 6,
    "watermark_us": 4,
    "flight": FLIGHT,
    "flight_id": "2013-09-12:UA:1:EWR",
    "probability": 0.25,
    "decision": "low",
    "model_version": 3,
    "features": [1.5, float("nan")],
    "latency_ms": 2.5,
}
REFUSED = {
    **RECORD,
    "item": 1,
    "flight_id": "2013-09-12:UA:2:EWR",
    "mode": "refused",
    "probability": float("nan"),
    "features": None,
    "feature_us": NO_TIME_US,
    "watermark_us": NO_TIME_US,
    "model_version": None,
    "bundle_digest": None,
}
NOTHING_LOST = {"n_torn": 0, "n_damaged": 0, "n_dropped": 0, "n_sampled_out": 0}


def write(folder: Path, *batches: list[Record], name: str = "") -> Path:
    """Write batches to a segment of their own and return it."""
    clock = VirtualClock(CLOCK.now() + timedelta(seconds=len(list(folder.glob("*.frames")))))
    writer = PredictionLogWriter(folder, clock)
    for batch in batches:
        writer.append(log_batch(batch))
    writer.close()
    return max(folder.glob("*.frames"))


@pytest.mark.parametrize("is_columnar", [False, True])
def test_reads_what_was_written(tmp_path: Path, is_columnar: bool) -> None:
    write(tmp_path, [RECORD, REFUSED])
    if is_columnar:
        with compacting(tmp_path):
            compact(tmp_path, delete_segments=True)
    rows = read_predictions(tmp_path)
    assert rows["probability"].tolist()[0] == 0.25 and np.isnan(rows["probability"][1])
    np.testing.assert_array_equal(rows["features"][0], np.array([1.5, np.nan], dtype=np.float32))
    assert rows["features"][0].dtype == np.float32
    assert rows["features"][1] is None and rows["feature_us"].tolist() == [6, NO_TIME_US]
    assert rows["model_version"].tolist() == ["3", ""] and rows["distance_miles"].tolist() == [1400, 1400]
    assert rows["reason"].tolist() == [None, None] and rows["bundle_digest"].tolist() == ["f" * 64, ""]
    assert rows["logged_at"].tolist() == ["2013-09-13T00:00:00.000+00:00"] * 2
    assert {name: str(kind) for name, kind in rows.dtypes.items()} == COLUMNS
    assert rows.attrs == NOTHING_LOST


@pytest.mark.parametrize("missing", [True, False])
def test_empty_or_missing_log_has_the_columns_and_types(tmp_path: Path, missing: bool) -> None:
    rows = read_predictions(tmp_path / "none" if missing else tmp_path)
    assert len(rows) == 0 and {name: str(kind) for name, kind in rows.dtypes.items()} == COLUMNS


@pytest.mark.parametrize("n_bytes", [1, 40, -2])
def test_a_torn_last_frame_is_skipped_counted_and_left(tmp_path: Path, n_bytes: int) -> None:
    path = write(tmp_path, [RECORD])
    frame = path.read_bytes()
    path.write_bytes(frame + frame[:n_bytes])
    before = path.read_bytes()
    write(tmp_path, [REFUSED])
    rows = read_predictions(tmp_path)
    assert len(rows) == 2 and rows.attrs == {**NOTHING_LOST, "n_torn": 1}
    assert path.read_bytes() == before


def test_damaged_frames_are_skipped_and_counted(tmp_path: Path) -> None:
    path = write(tmp_path, [RECORD], [{**RECORD, "request_id": "b", "unit_id": "b"}], [REFUSED])
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    rows = read_predictions(tmp_path)
    assert rows["request_id"].tolist() == ["a", "a"] and rows.attrs == {**NOTHING_LOST, "n_damaged": 1}


def test_a_question_asked_again_counts_once_with_its_last_answer(tmp_path: Path) -> None:
    later = RECORD["logged_at_us"] + 60 * MINUTE_US  # type: ignore[operator]
    replayed = {**RECORD, "request_id": "b", "logged_at_us": later, "mode": "fallback"}
    write(tmp_path, [replayed, REFUSED, REFUSED])
    write(tmp_path, [RECORD])
    rows = read_predictions(tmp_path)
    assert rows["request_id"].tolist() == ["a", "b"] and rows["mode"].tolist() == ["refused", "fallback"]
    write(tmp_path, [{**RECORD, "unit_id": "v", "request_id": "c"}])
    assert len(read_predictions(tmp_path)) == 3


def test_records_without_the_fields_of_a_flight_have_plain_ones(tmp_path: Path) -> None:
    write(tmp_path, [{**RECORD, "flight": {"carrier": 7, "amount": 1.5}}], [{**REFUSED, "flight": {}}])
    rows = read_predictions(tmp_path)
    assert rows["carrier"].tolist() == ["", ""] and rows["distance_miles"].tolist() == [0, 0]


def test_json_lines_of_a_former_release_are_named_and_not_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "20130912T120000.000000Z-7-0000.jsonl").write_text("{}\n", encoding="utf-8")
    write(tmp_path, [RECORD])
    assert len(read_predictions(tmp_path)) == 1
    assert "20130912T120000.000000Z-7-0000.jsonl" in caplog.text and "not read" in caplog.text
