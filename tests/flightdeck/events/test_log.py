"""The event log: append-only, versioned, each event once."""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from deltalake.exceptions import CommitFailedError

from flightdeck.core.errors import ContractViolation, NotFoundError
from flightdeck.events.log import EventLog
from pipelines.ingestion.streams import DEPARTED
from tests.event_streams import NOON_US, random_events

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


def test_a_log_that_is_gone_says_how_to_build_it(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="kedro run --pipelines ingestion"):
        EventLog(tmp_path).read("departed")
    with pytest.raises(NotFoundError, match="kedro run --pipelines ingestion"):
        EventLog(tmp_path).versions()


def test_columns_that_do_not_fit_are_all_named(tmp_path: Path) -> None:
    wrong = EVENTS.rename_columns([name.replace("is_late", "late") for name in EVENTS.column_names])
    with pytest.raises(ContractViolation, match="missing columns: is_late; unseen: late"):
        EventLog(tmp_path).append(DEPARTED, wrong)
