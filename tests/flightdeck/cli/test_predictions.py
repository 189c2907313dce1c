"""`kedro predictions compact` on a data root of its own."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner

from flightdeck.cli.predictions import predictions
from flightdeck.core.clock import SystemClock
from flightdeck.core.layout import PROJECT, Layout
from flightdeck.inference.prediction_log import PredictionLogWriter
from flightdeck.inference.prediction_log_compact import compacting
from tests.predictions import log_batch


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FLIGHTDECK_DATA", str(tmp_path))
    return Layout(tmp_path).prediction_log


def log(folder: Path, n: int) -> None:
    writer = PredictionLogWriter(folder, SystemClock())
    writer.append(log_batch([{"item": place} for place in range(n)]))
    writer.close()


def test_it_says_what_it_did(folder: Path) -> None:
    log(folder, 3)
    done = CliRunner().invoke(predictions, ["compact"])
    assert (done.exit_code, done.output) == (0, "3 records in 1 new Parquet files\n")
    done = CliRunner().invoke(predictions, ["compact", "--delete-segments"])
    assert done.output == "0 records in 0 new Parquet files; 1 segments deleted\n"
    assert len(list(folder.glob("*.parquet"))) == 1 and not list(folder.glob("*.frames"))


def test_what_shadows_predicted_is_made_columnar_too(folder: Path, tmp_path: Path) -> None:
    log(folder, 3)
    shadows = Layout(tmp_path).shadow_log
    log(shadows, 2)
    done = CliRunner().invoke(predictions, ["compact", "--delete-segments"])
    assert done.output.splitlines() == [
        "3 records in 1 new Parquet files; 1 segments deleted",
        "2 records of shadows in 1 new Parquet files; 1 segments deleted",
    ]
    assert duckdb.sql(f"select count(*) from read_parquet('{shadows}/*.parquet')").fetchall() == [(2,)]  # noqa: S608


def test_an_empty_house_is_no_error(folder: Path) -> None:
    assert CliRunner().invoke(predictions, ["compact"]).output == "0 records in 0 new Parquet files\n"


def test_a_second_one_is_refused(folder: Path) -> None:
    with compacting(folder):
        done = CliRunner().invoke(predictions, ["compact"])
    assert done.exit_code == 1 and "another process does that already" in done.output


def test_a_folder_that_is_a_file_is_an_error_of_ours(folder: Path) -> None:
    folder.parent.mkdir(parents=True)
    folder.write_text("in the way", encoding="utf-8")
    done = CliRunner().invoke(predictions, ["compact"])
    assert done.exit_code == 1 and "next step" in done.output


def test_following_takes_what_comes(folder: Path) -> None:
    log(folder, 2)
    code = "from flightdeck.cli.predictions import predictions; predictions()"
    command = [sys.executable, "-c", code, "compact", "--follow", "--every", "0.1"]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT / "src"), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "2 records in 1 new Parquet files\n"
        log(folder, 5)
        assert process.stdout.readline() == "5 records in 1 new Parquet files\n"
        process.send_signal(signal.SIGTERM)
        process.wait()
    assert duckdb.sql(f"select count(*) from read_parquet('{folder}/*.parquet')").fetchall() == [(7,)]  # noqa: S608
