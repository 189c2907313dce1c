"""The ledger takes records in order, keeps them, and notices whatever is done to them behind its back."""

import itertools
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from flightdeck.core.errors import LedgerCorrupt, ReleaseRefused
from flightdeck.release.ledger import LedgerMoved
from flightdeck.release.record import GENESIS, digest_of, from_row, make_record, to_row
from flightdeck.release.sqlite_ledger import SqliteLedger

Edit = Callable[[sqlite3.Connection], object]
UNGUARDED = "DROP TRIGGER records_no_update; DROP TRIGGER records_no_delete;"
GUARDED = """
CREATE TRIGGER records_no_update BEFORE UPDATE ON records BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER records_no_delete BEFORE DELETE ON records BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
"""


def fill(ledger: SqliteLedger, n_records: int = 5) -> None:
    for i in range(n_records):
        ledger.append("alert", actor="monitoring", subject="-", detail={"name": f"alert {i}", "value": i / 7})


def edit_behind(ledger: SqliteLedger, edit: Edit) -> None:
    """Change the file as somebody with a database tool would, guards taken off and put back."""
    with closing(sqlite3.connect(ledger.path)) as connection:
        connection.executescript(UNGUARDED)
        edit(connection)
        connection.commit()
        connection.executescript(GUARDED)


def test_records_come_back_in_order_and_chained(ledger: SqliteLedger) -> None:
    fill(ledger)
    records = ledger.records()
    assert [record.seq for record in records] == [1, 2, 3, 4, 5]
    assert records[0].previous_digest == GENESIS
    assert all(later.previous_digest == earlier.digest for earlier, later in itertools.pairwise(records))
    assert records[2].detail == {"name": "alert 2", "value": 2 / 7}
    assert records[2].recorded_at.isoformat() == "2013-09-12T12:00:00+00:00"
    assert ledger.head() == 5
    ledger.verify()


def test_reading_on_from_a_record_gives_the_later_ones(ledger: SqliteLedger) -> None:
    fill(ledger)
    assert [record.seq for record in ledger.records(after_seq=3)] == [4, 5]
    assert ledger.records(after_seq=5) == []


def test_a_missing_ledger_is_empty_and_stays_missing(ledger: SqliteLedger) -> None:
    assert ledger.records() == []
    assert ledger.head() == 0
    ledger.verify()
    assert not ledger.path.parent.exists()


def test_a_ledger_that_vanishes_under_a_reader_is_noticed(ledger: SqliteLedger) -> None:
    fill(ledger)
    ledger.path.unlink()
    with pytest.raises(LedgerCorrupt, match="records are gone"):
        ledger.records(after_seq=3)


def test_what_is_appended_survives_in_another_connection_at_once(ledger: SqliteLedger) -> None:
    record = ledger.append("alert", actor="a", subject="-", detail={})
    with closing(sqlite3.connect(ledger.path)) as connection:
        assert connection.execute("SELECT digest FROM records").fetchall() == [(record.digest,)]
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


@pytest.mark.parametrize(
    "statement", ["UPDATE records SET actor = 'me' WHERE seq = 2", "DELETE FROM records WHERE seq = 2"]
)
def test_the_database_itself_refuses_changes(ledger: SqliteLedger, statement: str) -> None:
    fill(ledger)
    with (
        closing(sqlite3.connect(ledger.path)) as connection,
        pytest.raises(sqlite3.IntegrityError, match="append-only"),
    ):
        connection.execute(statement)
    ledger.verify()


def rewrite_second(connection: sqlite3.Connection) -> None:
    """Change a record and give it the digest that fits."""
    row = connection.execute("SELECT * FROM records WHERE seq = 2").fetchone()
    record = from_row(row)
    forged = make_record(2, record.recorded_at, record.action, "forger", record.subject, {}, record.previous_digest)
    connection.execute("DELETE FROM records WHERE seq = 2")
    connection.execute("INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?)", to_row(forged))


def swap(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE records SET seq = 99 WHERE seq = 2")
    connection.execute("UPDATE records SET seq = 2 WHERE seq = 3")
    connection.execute("UPDATE records SET seq = 3 WHERE seq = 99")


def insert(connection: sqlite3.Connection) -> None:
    record = make_record(6, from_row(connection.execute("SELECT * FROM records").fetchone()).recorded_at,
                         "alert", "forger", "-", {}, "f" * 64)  # fmt: skip
    connection.execute("INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?)", to_row(record))


@pytest.mark.parametrize(
    "edit",
    [
        pytest.param(lambda c: c.execute("UPDATE records SET actor = 'me' WHERE seq = 2"), id="actor"),
        pytest.param(lambda c: c.execute("UPDATE records SET action = 'approved' WHERE seq = 5"), id="last action"),
        pytest.param(lambda c: c.execute("UPDATE records SET detail = '{\"value\":1}' WHERE seq = 1"), id="detail"),
        pytest.param(lambda c: c.execute("UPDATE records SET detail = 'no json' WHERE seq = 1"), id="not json"),
        pytest.param(lambda c: c.execute("UPDATE records SET recorded_at = '2014-01-01T00:00:00+00:00'"), id="time"),
        pytest.param(lambda c: c.execute("UPDATE records SET recorded_at = 'yesterday' WHERE seq = 4"), id="no time"),
        pytest.param(lambda c: c.execute("DELETE FROM records WHERE seq = 3"), id="deleted"),
        pytest.param(lambda c: c.execute("DELETE FROM records WHERE seq = 1"), id="first deleted"),
        pytest.param(swap, id="swapped"),
        pytest.param(insert, id="inserted"),
        pytest.param(rewrite_second, id="rewritten with a fitting digest"),
    ],
)
def test_verify_and_every_reader_find_what_was_changed(ledger: SqliteLedger, edit: Edit) -> None:
    fill(ledger)
    edit_behind(ledger, edit)
    with pytest.raises(LedgerCorrupt):
        ledger.verify()
    with pytest.raises(LedgerCorrupt):
        ledger.records()


def test_cut_off_records_are_found_by_whoever_has_seen_them(ledger: SqliteLedger) -> None:
    fill(ledger)
    edit_behind(ledger, lambda c: c.execute("DELETE FROM records WHERE seq > 3"))
    ledger.verify()  # the chain alone cannot know; the checkpoint in MLflow does (reconciler)
    with pytest.raises(LedgerCorrupt, match="record 5 is gone"):
        ledger.records(after_seq=5)


def test_verify_notices_guards_that_were_taken_off(ledger: SqliteLedger) -> None:
    fill(ledger)
    with closing(sqlite3.connect(ledger.path)) as connection:
        connection.executescript(UNGUARDED)
    with pytest.raises(LedgerCorrupt, match="records_no_delete"):
        ledger.verify()


@pytest.mark.parametrize("content", [b"not a database at all, but long enough to be one" * 100, b""])
def test_a_damaged_file_is_refused_with_the_next_step(ledger: SqliteLedger, content: bytes) -> None:
    ledger.path.parent.mkdir()
    ledger.path.write_bytes(content)
    for use in (ledger.records, ledger.verify, lambda: fill(ledger, 1)):
        with pytest.raises(LedgerCorrupt, match="restore the file from a backup"):
            use()


def test_a_decision_on_an_old_state_is_not_written(ledger: SqliteLedger) -> None:
    fill(ledger, 2)
    with pytest.raises(LedgerMoved):
        ledger.append("promoted", actor="a", subject="1", detail={}, expected_seq=1)
    assert ledger.head() == 2
    assert ledger.append("promoted", actor="a", subject="1", detail={}, expected_seq=2).seq == 3


def test_nan_is_refused_and_nothing_is_written(ledger: SqliteLedger) -> None:
    fill(ledger, 1)
    with pytest.raises(ValueError, match="JSON"):
        ledger.append("alert", actor="a", subject="-", detail={"value": float("nan")})
    assert ledger.head() == 1


def test_a_folder_that_cannot_be_made_is_a_clear_refusal(tmp_path: Path, ledger: SqliteLedger) -> None:
    (tmp_path / "models").write_text("a file where the folder should be")
    with pytest.raises(ReleaseRefused, match="nothing was recorded"):
        fill(ledger, 1)


def test_digest_covers_every_field(ledger: SqliteLedger) -> None:
    fill(ledger, 1)
    record = ledger.records()[0]
    assert digest_of(record) == record.digest
    assert from_row(to_row(record)) == record


WRITER = """
import sys
from pathlib import Path
from flightdeck.core.clock import SystemClock
from flightdeck.release.ledger import Ledger, open_ledger
ledger = open_ledger(Path(sys.argv[1]), SystemClock())
for i in range(int(sys.argv[3])):
    ledger.append("alert", actor=sys.argv[2], subject="-", detail={"i": i})
"""


def test_two_processes_append_without_losing_or_forking(ledger: SqliteLedger) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(ledger.path), name, "60"], env=dict(os.environ))
        for name in ("one", "two")
    ]
    assert [writer.wait(timeout=120) for writer in writers] == [0, 0]
    ledger.verify()
    records = ledger.records()
    assert len(records) == 120
    for name in ("one", "two"):
        assert [record.detail["i"] for record in records if record.actor == name] == list(range(60))


def test_a_replaced_ledger_is_found_by_whoever_knows_a_digest(ledger: SqliteLedger, tmp_path: Path) -> None:
    fill(ledger, 3)
    known = ledger.records()[-1]
    assert ledger.records(3, after_digest=known.digest) == []
    other = SqliteLedger(tmp_path / "other" / "ledger.sqlite", ledger.clock)
    other.append("alert", actor="somebody else", subject="-", detail={})
    for n_more in (2, 2):  # as long as what is known, then longer
        fill(other, n_more)
        other.verify()
        with pytest.raises(LedgerCorrupt, match="record 3 is another one"):
            other.records(3, after_digest=known.digest)


@pytest.mark.parametrize("suffix", ["-wal", "-shm"])
def test_a_deleted_ledger_does_not_come_back_from_its_log(ledger: SqliteLedger, suffix: str) -> None:
    fill(ledger, 1)
    left = ledger.path.with_name(ledger.path.name + suffix)
    with closing(sqlite3.connect(ledger.path)) as holds_the_log_open:
        holds_the_log_open.execute("SELECT count(*) FROM records").fetchone()
        fill(ledger, 2)
        content = left.read_bytes()
    ledger.path.unlink()
    left.write_bytes(content)
    with pytest.raises(LedgerCorrupt, match=f"ledger.sqlite{suffix} of a deleted ledger") as error:
        fill(ledger, 1)
    assert "move these files away" in error.value.next_step
    assert not ledger.path.exists()
    left.unlink()
    fill(ledger, 1)
    assert ledger.head() == 1
