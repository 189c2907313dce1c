"""Reading what the writer wrote, and what a killed writer left behind."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from flightdeck.inference.prediction_log import PredictionLogWriter
from flightdeck.monitoring.prediction_log import COLUMNS, NO_TIME_US, read_predictions
from tests.flightdeck.monitoring.samples import CLOCK

RECORD = {
    "request_id": "a",
    "item": 0,
    "logged_at": "2013-09-12T12:00:00.000+00:00",
    "request_us": 5,
    "feature_us": 6,
    "watermark_us": 4,
    "surface": "search",
    "unit_id": "u",
    "flight": {
        "carrier": "UA",
        "origin": "EWR",
        "dest": "IAH",
        "flight_number": 1,
        "tailnum": "",
        "scheduled_departure_us": 10,
        "scheduled_arrival_us": 20,
        "origin_utc_offset_min": -240,
        "distance_miles": 1400,
    },
    "flight_id": "2013-09-12:UA:1:EWR",
    "probability": 0.25,
    "decision": "low",
    "mode": "model",
    "reason": None,
    "arm": "champion",
    "model_version": 3,
    "bundle_digest": "f" * 64,
    "features": [1.5, float("nan")],
    "latency_ms": 2.5,
}
REFUSED = {
    **RECORD,
    "item": 1,
    "flight_id": "2013-09-12:UA:2:EWR",
    "mode": "refused",
    "probability": None,
    "features": None,
    "feature_us": None,
    "watermark_us": None,
    "model_version": None,
    "bundle_digest": None,
}


def test_reads_what_was_written(tmp_path: Path) -> None:
    writer = PredictionLogWriter(tmp_path, CLOCK)
    writer.append([RECORD, REFUSED])
    writer.close()
    rows = read_predictions(tmp_path)
    assert rows["probability"].tolist()[0] == 0.25 and np.isnan(rows["probability"][1])
    np.testing.assert_array_equal(rows["features"][0], np.array([1.5, np.nan], dtype=np.float32))
    assert rows["features"][1] is None and rows["feature_us"].tolist() == [6, NO_TIME_US]
    assert rows["model_version"].tolist() == ["3", ""] and rows["distance_miles"].tolist() == [1400, 1400]
    assert rows.attrs == {"n_torn": 0, "n_damaged": 0}


@pytest.mark.parametrize("missing", [True, False])
def test_empty_or_missing_log_has_the_columns_and_types(tmp_path: Path, missing: bool) -> None:
    rows = read_predictions(tmp_path / "none" if missing else tmp_path)
    assert len(rows) == 0 and {name: str(kind) for name, kind in rows.dtypes.items()} == COLUMNS


@pytest.mark.parametrize("n_bytes", [1, 40, -2])
def test_torn_last_line_is_skipped_counted_and_left(tmp_path: Path, n_bytes: int) -> None:
    line = msgspec.json.encode(RECORD)
    (tmp_path / "1.jsonl").write_bytes(line + b"\n" + line[:n_bytes])
    (tmp_path / "2.jsonl").write_bytes(msgspec.json.encode(REFUSED) + b"\n")
    before = (tmp_path / "1.jsonl").read_bytes()
    rows = read_predictions(tmp_path)
    assert len(rows) == 2 and rows.attrs == {"n_torn": 1, "n_damaged": 0}
    assert (tmp_path / "1.jsonl").read_bytes() == before


def test_damaged_lines_are_skipped_and_counted(tmp_path: Path) -> None:
    line = msgspec.json.encode(RECORD)
    (tmp_path / "1.jsonl").write_bytes(b"\n".join([line, b"{}", b"\xff\xfe", b"", msgspec.json.encode(REFUSED), b""]))
    rows = read_predictions(tmp_path)
    assert len(rows) == 2 and rows.attrs == {"n_torn": 0, "n_damaged": 3}


def test_a_question_asked_again_counts_once_with_its_last_answer(tmp_path: Path) -> None:
    later = "2013-09-12T13:00:00.000+00:00"
    replayed = {**RECORD, "request_id": "b", "logged_at": later, "mode": "fallback"}
    (tmp_path / "1.jsonl").write_bytes(msgspec.json.Encoder().encode_lines([replayed, REFUSED, REFUSED]))
    (tmp_path / "2.jsonl").write_bytes(msgspec.json.encode(RECORD) + b"\n{}\n")
    rows = read_predictions(tmp_path)
    assert rows["request_id"].tolist() == ["a", "b"] and rows["mode"].tolist() == ["refused", "fallback"]
    assert rows.attrs == {"n_torn": 0, "n_damaged": 1}
    other = {**RECORD, "unit_id": "v"}
    (tmp_path / "3.jsonl").write_bytes(msgspec.json.Encoder().encode_lines([{**other, "request_id": "c"}]))
    assert len(read_predictions(tmp_path)) == 3
