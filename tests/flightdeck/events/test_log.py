"""The event log: append-only, versioned, each event once."""

import shutil
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError

from flightdeck.core.errors import ContractViolation, NotFoundError
from flightdeck.events.log import EventLog
from pipelines.ingestion.streams import DEPARTED
from tests.event_streams import NOON_US, random_events, write_log

EVENTS = random_events(1, 50, first_us=NOON_US - 3_600_000_000, last_us=NOON_US)["departed"]


def append(root: Path) -> int:
    return EventLog(root).append(DEPARTED, EVENTS).n_appended


def test_an_event_counts_once(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    first = log.append(DEPARTED, pa.concat_tables([EVENTS, EVENTS.slice(0, 5)]))
    again = log.append(DEPARTED, EVENTS)
    assert (first.n_appended, first.n_duplicates) == (50, 5)
    assert (again.n_appended, again.n_duplicates, again.version) == (0, 50, first.version)


def test_two_processes_append_the_same_events_once(tmp_path: Path) -> None:
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        assert sorted(pool.map(append, [tmp_path, tmp_path])) == [0, 50]


def test_an_old_version_reads_as_it_was(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    log.append(DEPARTED, EVENTS.slice(0, 30))
    before = log.version("departed")
    log.append(DEPARTED, EVENTS)
    assert log.version("departed").n_rows == 50
    assert log.version("departed", 0) == before
    assert log.read("departed", version=0).num_rows == 30


def test_the_digest_depends_on_content_alone(tmp_path: Path) -> None:
    digests = {EventLog(tmp_path / name).append(DEPARTED, EVENTS).version.digest for name in "ab"}
    assert len(digests) == 1
    assert EventLog(tmp_path / "c").append(DEPARTED, EVENTS.slice(1)).version.digest not in digests


def test_a_known_event_with_another_content_is_refused(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    log.append(DEPARTED, EVENTS)
    moved = EVENTS.set_column(EVENTS.column_names.index("source_offset"), "source_offset", pa.array(range(100, 150)))
    assert log.append(DEPARTED, moved).n_duplicates == 50
    corrected = EVENTS.set_column(EVENTS.column_names.index("is_late"), "is_late", pa.array([1] * 50))
    with pytest.raises(ContractViolation, match="come with another content"):
        log.append(DEPARTED, corrected)
    assert log.version("departed").n_rows == 50


def test_nothing_is_deleted(tmp_path: Path) -> None:
    append(tmp_path)
    with pytest.raises(CommitFailedError, match="append-only"):
        DeltaTable(tmp_path / "departed").delete()


def test_reading_is_bounded_by_knowledge(tmp_path: Path) -> None:
    append(tmp_path)
    middle_us = EVENTS["created_timestamp"].cast(pa.int64())[25].as_py()
    known = EventLog(tmp_path).read("departed", columns=["created_timestamp"], created_until_us=middle_us)
    later = EventLog(tmp_path).read("departed", columns=["created_timestamp"], created_after_us=middle_us)
    assert known.num_rows + later.num_rows == 50
    assert known["created_timestamp"].cast(pa.int64())[-1].as_py() == middle_us


@pytest.mark.parametrize("odd_us", [-(2**62), -(2**61), -(2**57), 2**58, 2**61, 2**62])
def test_an_event_beyond_the_calendar_hides_no_other(tmp_path: Path, odd_us: int) -> None:
    log = EventLog(tmp_path / "log")
    events = random_events(1, 3, first_us=NOON_US, last_us=NOON_US + 3)["departed"].slice(0, 3)
    place = events.column_names.index("created_timestamp")
    times_us = [odd_us, NOON_US, NOON_US + 1]
    created = pa.array(times_us, pa.int64()).cast(events["created_timestamp"].type)
    log.append(DEPARTED, events.set_column(place, "created_timestamp", created))
    for after_us in (None, -(2**62) - 1, odd_us, odd_us - 1, NOON_US):
        for until_us in (None, odd_us, NOON_US, NOON_US + 1, 2**62):
            read = log.read("departed", created_after_us=after_us, created_until_us=until_us)
            wanted = [us for us in sorted(times_us) if us > (after_us or -(2**63)) and us <= (until_us or 2**63)]
            assert read["created_timestamp"].cast(pa.int64()).to_pylist() == wanted


def test_a_log_that_is_gone_says_how_to_build_it(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="kedro run --pipelines ingestion"):
        EventLog(tmp_path).read("departed")
    with pytest.raises(NotFoundError, match="kedro run --pipelines ingestion"):
        EventLog(tmp_path).versions()


def test_columns_that_do_not_fit_are_all_named(tmp_path: Path) -> None:
    wrong = EVENTS.rename_columns([name.replace("is_late", "late") for name in EVENTS.column_names])
    with pytest.raises(ContractViolation, match="missing columns: is_late; unseen: late"):
        EventLog(tmp_path).append(DEPARTED, wrong)


def many_appends(root: Path, n_appends: int = 25) -> EventLog:
    log = EventLog(root)
    for first in range(n_appends):
        log.append(DEPARTED, EVENTS.slice(2 * first, 2))
    return log


def test_what_was_appended_since_a_version_is_read_alone(tmp_path: Path) -> None:
    log = many_appends(tmp_path)
    for since, until, n_rows in ((-1, None, 50), (20, None, 8), (3, 5, 4), (24, None, 0)):
        table, version = log.read_since("departed", since, until=until)
        assert (table.num_rows, version.version) == (n_rows, 24 if until is None else until)
        assert table.schema.names == EVENTS.schema.names
    ids, _ = log.read_since("departed", 3, until=5, columns=["event_id"])
    assert ids["event_id"].to_pylist() == EVENTS["event_id"].slice(8, 4).to_pylist()


@pytest.mark.parametrize("harm", ["lost", "cut off", "one lost", "of another log", "behind", "garbage"])
def test_known_ids_are_built_anew_from_the_log(tmp_path: Path, harm: str) -> None:
    log = many_appends(tmp_path / "log")
    folder = log.root / ".known" / "departed"
    segments = sorted(folder.iterdir())
    assert len(segments) < 8
    if harm == "lost":
        shutil.rmtree(folder)
    elif harm == "cut off":
        segments[0].write_bytes(segments[0].read_bytes()[:100])
    elif harm == "one lost":
        segments[-1].unlink()
    elif harm == "garbage":
        (folder / "x.npy").write_bytes(b"nothing")
    else:
        shutil.rmtree(folder)
        n_appends, first = (10, 0) if harm == "behind" else (25, 10_000)
        shifted = EVENTS.set_column(0, "event_id", pa.array([f"other-{first + i}" for i in range(50)]))
        other = many_appends(tmp_path / "other", n_appends) if harm == "behind" else EventLog(tmp_path / "other")
        if harm != "behind":
            for place in range(25):
                other.append(DEPARTED, shifted.slice(2 * place, 2))
        shutil.copytree(other.root / ".known" / "departed", folder)
    for used in (log, EventLog(log.root)):
        receipt = used.append(DEPARTED, EVENTS)
        assert (receipt.n_appended, receipt.n_duplicates) == (0, 50)
    corrected = EVENTS.set_column(EVENTS.column_names.index("is_late"), "is_late", pa.array([7] * 50))
    with pytest.raises(ContractViolation, match="come with another content"):
        log.append(DEPARTED, corrected.slice(30, 1))
    assert log.append(DEPARTED, EVENTS.slice(0, 1)).version == log.version("departed")


def test_two_ids_of_one_hash_are_two_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flightdeck.events.log.hashes_of", lambda ids: np.full(len(ids), 7, dtype=np.uint64))
    log = many_appends(tmp_path)
    assert log.version("departed").n_rows == 50
    assert log.append(DEPARTED, EVENTS).n_duplicates == 50


def test_a_log_that_was_built_anew_is_noticed_by_an_open_one(tmp_path: Path) -> None:
    log = many_appends(tmp_path / "log")
    shutil.rmtree(tmp_path / "log")
    EventLog(tmp_path / "log").append(DEPARTED, EVENTS.slice(0, 5))
    receipt = log.append(DEPARTED, EVENTS)
    assert (receipt.n_appended, receipt.version.version) == (45, 1)
    assert log.version("departed").n_rows == 50


def test_the_newest_time_of_a_commit_is_exact(tmp_path: Path) -> None:
    odd = pa.array([NOON_US + 123_457]).cast(EVENTS["created_timestamp"].type)
    log = EventLog(tmp_path)
    log.append(DEPARTED, EVENTS.slice(0, 1).set_column(2, "created_timestamp", odd))
    commit = log.commit("departed", 0)
    assert (commit.newest_us, commit.n_added, commit.n_rows) == (NOON_US + 123_457, 1, 1)


def test_a_version_that_does_not_exist_is_named(tmp_path: Path) -> None:
    log = write_log(tmp_path, random_events(1, 3, first_us=0, last_us=60_000_000))
    with pytest.raises(NotFoundError, match="departed at version 9"):
        log.read("departed", version=9)
