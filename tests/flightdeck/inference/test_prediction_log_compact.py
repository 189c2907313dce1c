"""Parquet parts of a log that is being written, read by a real DuckDB, whoever is killed meanwhile."""

import os
import random
from pathlib import Path

import duckdb
import pytest

from flightdeck.core.clock import SystemClock
from flightdeck.core.errors import FlightdeckError
from flightdeck.inference.prediction_log import PredictionLogWriter
from flightdeck.inference.prediction_log_compact import compact, compacting
from flightdeck.inference.prediction_log_folder import list_sources
from flightdeck.inference.prediction_log_read import read_log
from tests.flightdeck.inference.log_process import BATCH, started
from tests.predictions import Record, log_batch, read_records

Key = tuple[str, int]


def keys(folder: Path) -> list[Key]:
    return sorted((record["request_id"], record["item"]) for record in read_records(folder))


def ask_duckdb(folder: Path, question: str) -> list[tuple[object, ...]]:
    found: list[tuple[object, ...]] = duckdb.sql(
        f"select {question} from read_parquet('{folder}/*.parquet', union_by_name = true)"  # noqa: S608 - a test's folder
    ).fetchall()
    return found


def write(folder: Path, *batches: list[Record]) -> Path:
    writer = PredictionLogWriter(folder, SystemClock())
    for batch in batches:
        writer.append(log_batch(batch))
    writer.close()
    return max(folder.glob("*.frames"))


def run_compact(folder: Path, **options: bool) -> tuple[int, int, int]:
    with compacting(folder):
        return compact(folder, **options)


def test_duckdb_reads_flat_columns_and_lists_of_features(tmp_path: Path) -> None:
    said = {"flight": {"carrier": "UA", "distance_miles": 1400}, "features": [1.5, float("nan")]}
    write(tmp_path, [said, {**said, "item": 1, "features": None, "probability": float("nan")}])
    assert run_compact(tmp_path) == (1, 2, 0)
    question = "carrier, distance_miles, probability, features, typeof(features), typeof(logged_at), weight"
    first, second = ask_duckdb(tmp_path, question)
    assert first[:3] == ("UA", 1400, 0.5) and str(first[3]) == "[1.5, nan]"
    assert first[4:] == ("FLOAT[]", "TIMESTAMP WITH TIME ZONE", 1.0)
    assert second[2:4] == (None, None)
    assert ask_duckdb(tmp_path, "avg(probability)") == [(0.5,)]


def test_each_round_takes_what_came_since_and_a_round_without_news_makes_nothing(tmp_path: Path) -> None:
    writer = PredictionLogWriter(tmp_path, SystemClock())
    for place in range(3):
        writer.append(log_batch([{"item": place}]))
        assert run_compact(tmp_path, delete_segments=True) == (1, 1, 0), "a segment that may grow is not deleted"
        assert run_compact(tmp_path) == (0, 0, 0)
    assert keys(tmp_path) == [("r", 0), ("r", 1), ("r", 2)] and ask_duckdb(tmp_path, "count(*)") == [(3,)]
    writer.close()
    assert run_compact(tmp_path, delete_segments=True) == (0, 0, 1)
    assert [source.path for source in list_sources(tmp_path)] == [None]
    assert keys(tmp_path) == [("r", 0), ("r", 1), ("r", 2)]


def test_a_part_that_was_removed_stays_removed(tmp_path: Path) -> None:
    writer = PredictionLogWriter(tmp_path, SystemClock())
    for place in range(3):
        writer.append(log_batch([{"item": place}]))
        run_compact(tmp_path)
    min(tmp_path.glob("*.parquet")).unlink()
    writer.append(log_batch([{"item": 3}]))
    writer.close()
    assert keys(tmp_path) == [("r", 1), ("r", 2), ("r", 3)]
    assert run_compact(tmp_path) == (1, 1, 0)
    assert ask_duckdb(tmp_path, "item") == [(1,), (2,), (3,)]


def test_what_writers_lost_outlives_their_segments(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("in the way", encoding="utf-8")
    writer = PredictionLogWriter(tmp_path / "log", SystemClock(), sampling_rates={"search": 1e-9})
    writer.append(log_batch([{"surface": "alerts"}] * 5))
    writer.append(log_batch([{}] * 3))
    (tmp_path / "log").unlink()
    writer.append(log_batch([{"surface": "alerts"}]))
    writer.close()
    before = read_log(tmp_path / "log").lost
    assert run_compact(tmp_path / "log", delete_segments=True) == (1, 1, 1)
    assert read_log(tmp_path / "log").lost == before == (0, 0, 5, 3)


def test_a_torn_end_is_no_record_and_does_not_keep_a_segment(tmp_path: Path) -> None:
    path = write(tmp_path, [{"item": 0}])
    path.write_bytes(path.read_bytes() * 2 + path.read_bytes()[:50])
    assert run_compact(tmp_path, delete_segments=True) == (1, 2, 1)
    assert len(keys(tmp_path)) == 2


@pytest.mark.parametrize("is_at_end", [False, True])
def test_a_damaged_segment_is_kept_and_counted_once(tmp_path: Path, is_at_end: bool) -> None:
    path = write(tmp_path, [{"item": 0}], [{"item": 1}])
    content = bytearray(path.read_bytes())
    content[-1 if is_at_end else 30] ^= 255
    path.write_bytes(content)
    for _ in range(2):
        assert run_compact(tmp_path, delete_segments=True)[2] == 0
    assert path.exists() and keys(tmp_path) == [("r", 0 if is_at_end else 1)]
    assert read_log(tmp_path).lost.n_damaged == 1


def test_other_request_columns_begin_another_part(tmp_path: Path) -> None:
    write(tmp_path, [{"flight": {"a": 1}}], [{"flight": {"b": "x"}}], [{"flight": {"b": "y"}}])
    assert run_compact(tmp_path, delete_segments=True) == (2, 3, 1)
    assert sorted(ask_duckdb(tmp_path, "coalesce(a, 0), b"), key=str) == [(0, "x"), (0, "y"), (1, None)]


def test_two_at_once_are_refused_and_leftovers_of_a_killed_one_are_cleared(tmp_path: Path) -> None:
    (tmp_path / "a.000-512.parquet.tmp").write_bytes(b"half")
    with compacting(tmp_path):
        assert not list(tmp_path.glob("*.tmp"))
        with pytest.raises(FlightdeckError, match="another process"), compacting(tmp_path):
            pass


def test_a_full_disk_stops_it_without_a_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, [{}])

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            run_compact(tmp_path)
    assert not list(tmp_path.glob("*.parquet*"))
    assert run_compact(tmp_path) == (1, 1, 0)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_writers_and_columnar_killed_by_9_while_duckdb_reads(tmp_path: Path, seed: int) -> None:
    """Whoever dies when, each acknowledged record is read once: by the reader at any time, by DuckDB at the end."""
    chance, told = random.Random(seed), set[Key]()
    for life in range(3):
        with started("write", tmp_path, f"w{life}", 60_000) as writer, started("columnar", tmp_path) as columnar:
            assert writer.stdout is not None and columnar.stdout is not None
            for _ in range(chance.randint(1, 4)):
                for _ in range(chance.randint(1, 60)):
                    number = int(writer.stdout.readline())
                    told |= {(f"w{life}-{number}", item) for item in range(BATCH)}
                columnar.stdout.readline()
                found = keys(tmp_path)
                assert len(found) == len(set(found)) and told <= set(found)
                ((n_rows, n_records),) = ask_duckdb(tmp_path, "count(*), count(distinct (request_id, item))")
                assert n_rows == n_records
            if chance.random() < 0.5:
                columnar.kill()
            told |= {(f"w{life}-{line.strip()}", item) for line in _after_kill(writer) for item in range(BATCH)}
    run_compact(tmp_path, delete_segments=True)
    assert not list(tmp_path.glob("*.frames"))
    found = keys(tmp_path)
    assert sorted(ask_duckdb(tmp_path, "request_id, item")) == found
    assert len(found) == len(set(found)) and told <= set(found)


def _after_kill(writer: "object") -> list[str]:
    """Kill a writer and return what it had acknowledged until then."""
    writer.kill()  # type: ignore[attr-defined]
    return [line for line in writer.stdout if line.endswith("\n")]  # type: ignore[attr-defined]
