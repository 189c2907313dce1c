"""What every ledger promises, whichever database it is in: run on SQLite and on a real PostgreSQL.

The ledger in memory that the simulation of the control plane uses keeps what does not need a database.
"""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from flightdeck.core.clock import VirtualClock
from flightdeck.core.errors import LedgerConflict, LedgerCorrupt, ReleaseRefused
from flightdeck.release.audit import audit
from flightdeck.release.checkpoints import CheckpointLog
from flightdeck.release.decisions import append_decision
from flightdeck.release.lease import Lease
from flightdeck.release.ledger import Ledger, LedgerMoved, open_ledger
from flightdeck.release.record import GENESIS, make_record, to_row
from flightdeck.release.signing import read_public_key
from tests.postgres_server import PostgresServer, postgres_server
from tests.release_desk import CONTROLLER
from tests.release_fakes import Disk, MemoryLedger

NOON = datetime(2013, 9, 12, 12, tzinfo=UTC)
Open = Callable[..., Ledger]


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    if request.param == "sqlite":
        return tmp_path / "models" / "ledger.sqlite"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.new_database()


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(NOON)


@pytest.fixture
def checkpoints(tmp_path: Path) -> CheckpointLog:
    return CheckpointLog(tmp_path / "audit", tmp_path / "private" / "signing.key")


@pytest.fixture
def ledger(where: Path | str, clock: VirtualClock, checkpoints: CheckpointLog) -> Ledger:
    return open_ledger(where, clock, checkpoints=checkpoints)


@pytest.fixture(params=["sqlite", "postgresql", "memory"])
def any_ledger(
    request: pytest.FixtureRequest, tmp_path: Path, clock: VirtualClock, checkpoints: CheckpointLog
) -> Ledger:
    if request.param == "memory":
        return MemoryLedger(Disk(), clock, checkpoints)
    server = request.getfixturevalue("postgres") if request.param == "postgresql" else None
    where = server.new_database() if server is not None else tmp_path / "models" / "ledger.sqlite"
    return open_ledger(where, clock, checkpoints=checkpoints)


def fill(ledger: Ledger, n_records: int = 5, action: str = "alert") -> None:
    for number in range(n_records):
        ledger.append(action, actor="Zoë", subject="-", detail={"text": f"a\nb\x1b[31m\0 {number} ü", "value": 0.1})


def test_what_was_appended_comes_back_chained_and_alike(any_ledger: Ledger) -> None:
    assert not any_ledger.exists() and any_ledger.records() == [] and any_ledger.head() == 0
    any_ledger.verify()
    fill(any_ledger)
    records = any_ledger.records()
    assert [record.seq for record in records] == [1, 2, 3, 4, 5] == [*range(1, any_ledger.head() + 1)]
    assert [record.previous_digest for record in records] == [GENESIS, *(record.digest for record in records[:-1])]
    assert records[3].detail == {"text": "a\nb\x1b[31m\0 3 ü", "value": 0.1} and records[3].recorded_at == NOON
    assert [record.seq for record in any_ledger.records(3, after_digest=records[2].digest)] == [4, 5]
    assert any_ledger.records(5, after_digest=records[4].digest) == []
    any_ledger.verify()


def test_both_databases_hold_the_same_bytes(tmp_path: Path, postgres: PostgresServer) -> None:
    one, other = (open_ledger(place, VirtualClock(NOON)) for place in (tmp_path / "a.sqlite", postgres.new_database()))
    for ledger in (one, other):
        fill(ledger)
    assert one.records() == other.records()


def test_a_decision_on_an_old_state_is_a_conflict(any_ledger: Ledger) -> None:
    fill(any_ledger, 2)
    with pytest.raises(LedgerMoved) as refused:
        any_ledger.append("promoted", actor="a", subject="1", detail={}, expected_seq=1)
    assert isinstance(refused.value, LedgerConflict)
    assert any_ledger.append("alert", actor="a", subject="-", detail={}, expected_seq=2).seq == 3


def test_what_cannot_be_kept_is_refused_and_leaves_nothing(any_ledger: Ledger) -> None:
    fill(any_ledger, 1)
    with pytest.raises(ReleaseRefused, match="NUL"):
        any_ledger.append("alert", actor="a\0b", subject="-", detail={})
    for value in (float("nan"), "\ud800"):
        with pytest.raises(ValueError):
            any_ledger.append("alert", actor="a", subject="-", detail={"value": value})
    assert any_ledger.head() == 1


def change(where: Path | str, statement: str, *, guarded: bool = True) -> None:
    """Run a statement as somebody with a database tool would, the guards in force or taken off and put back."""
    if isinstance(where, Path):
        import sqlite3

        with sqlite3.connect(where) as connection:
            guards = [row[0] for row in connection.execute("SELECT sql FROM sqlite_master WHERE type = 'trigger'")]
            names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")]
            for name in [] if guarded else names:
                connection.execute(f"DROP TRIGGER {name}")
            connection.execute(statement)
            for guard in [] if guarded else guards:
                connection.execute(guard)
        return
    import psycopg

    with psycopg.connect(where) as connection:
        connection.execute("SET search_path = flightdeck")
        if not guarded:
            connection.execute("ALTER TABLE records DISABLE TRIGGER ALL")
        connection.execute(statement.encode())
        if not guarded:
            connection.execute("ALTER TABLE records ENABLE ALWAYS TRIGGER records_no_change")
            connection.execute("ALTER TABLE records ENABLE ALWAYS TRIGGER records_no_truncate")


@pytest.mark.parametrize("statement", ["UPDATE records SET actor = 'me' WHERE seq = 2", "DELETE FROM records"])
def test_the_database_itself_refuses_changes(ledger: Ledger, where: Path | str, statement: str) -> None:
    fill(ledger)
    with pytest.raises(Exception, match="append-only"):
        change(where, statement)
    ledger.verify()


def test_postgres_refuses_to_empty_the_table_even_for_a_replica(postgres: PostgresServer, clock: VirtualClock) -> None:
    where = postgres.new_database()
    fill(open_ledger(where, clock))
    for statement in ("TRUNCATE records", "SET session_replication_role = replica; DELETE FROM records"):
        with pytest.raises(Exception, match="append-only"):
            change(where, statement)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE records SET actor = 'me' WHERE seq = 2",
        "UPDATE records SET detail = '{}' WHERE seq = 5",
        "UPDATE records SET detail = replace(detail, ':', ': ') WHERE seq = 1",
        "UPDATE records SET recorded_at = '2014-01-01T00:00:00.000000+00:00' WHERE seq = 4",
        "DELETE FROM records WHERE seq = 3",
        "DELETE FROM records WHERE seq = 1",
        "UPDATE records SET seq = seq + 100 WHERE seq = 5",
    ],
)
def test_every_reader_finds_what_was_changed_behind_its_back(ledger: Ledger, where: Path | str, statement: str) -> None:
    fill(ledger)
    change(where, statement, guarded=False)
    for look in (ledger.verify, ledger.records):
        with pytest.raises(LedgerCorrupt):
            look()


def test_guards_that_do_nothing_any_more_are_noticed(ledger: Ledger, where: Path | str) -> None:
    fill(ledger)
    if isinstance(where, Path):
        change(where, "DROP TRIGGER records_no_delete")
        change(where, "CREATE TRIGGER records_no_delete BEFORE DELETE ON records BEGIN SELECT 1; END")
    else:
        change(where, "CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql "
                      "AS $$BEGIN RETURN NEW; END$$")  # fmt: skip
    with pytest.raises(LedgerCorrupt, match="guards"):
        ledger.verify()


def test_records_that_vanish_are_missed(ledger: Ledger, where: Path | str) -> None:
    fill(ledger)
    known = ledger.records()[-1]
    change(where, "DELETE FROM records WHERE seq > 3", guarded=False)
    with pytest.raises(LedgerCorrupt, match="record 5 is gone"):
        ledger.records(5, after_digest=known.digest)
    change(where, "DROP TABLE records")
    with pytest.raises(LedgerCorrupt, match="records are gone"):
        ledger.records(3)


def test_nothing_is_appended_to_an_old_backup(ledger: Ledger, where: Path | str) -> None:
    fill(ledger, 5, action="verdict_of_old")
    change(where, "DELETE FROM records WHERE seq > 3", guarded=False)
    ledger.verify()  # the chain alone cannot know
    for use in (ledger.records, lambda: fill(ledger, 1), lambda: fill(ledger, 1, "rolled_back"), ledger.checkpoint):
        with pytest.raises(LedgerCorrupt, match="cut short, replaced, or an old backup"):
            use()
    assert ledger.head() == 3


def test_the_audit_reads_what_the_ledger_wrote(any_ledger: Ledger, checkpoints: CheckpointLog) -> None:
    fill(any_ledger, 4)
    assert checkpoints.lines() == [], "an alert decides nothing"
    fill(any_ledger, 2, action="noted")
    fill(any_ledger, 1)
    assert any_ledger.checkpoint() is not None and any_ledger.checkpoint() == checkpoints.newest()
    lines, key = checkpoints.lines(), read_public_key(checkpoints.public_key)
    assert [json.loads(line)["seq"] for line in lines] == [5, 6, 7]
    with any_ledger.snapshot() as session:
        found = audit(session.rows(1), lines, key)
        assert session.problems() == []
    assert (found.n_records, found.n_checkpoints, found.n_uncovered, found.problems) == (7, 3, 0, ())


WRITER = """
import sys
from pathlib import Path
from flightdeck.core.clock import SystemClock
from flightdeck.release.checkpoints import CheckpointLog
from flightdeck.release.ledger import open_ledger
where = sys.argv[1] if "://" in sys.argv[1] else Path(sys.argv[1])
folder = Path(sys.argv[2])
ledger = open_ledger(where, SystemClock(), checkpoints=CheckpointLog(folder / "audit", folder / "private" / "key"))
for i in range(int(sys.argv[4])):
    ledger.append("noted", actor=sys.argv[3], subject="-", detail={"i": i})
"""


def test_processes_append_and_sign_without_losing_or_forking(
    where: Path | str, clock: VirtualClock, tmp_path: Path
) -> None:
    names = ("one", "two", "three")
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(where), str(tmp_path), name, "30"], env=dict(os.environ))
        for name in names
    ]
    assert [writer.wait(timeout=120) for writer in writers] == [0, 0, 0]
    checkpoints = CheckpointLog(tmp_path / "audit", tmp_path / "private" / "key")
    ledger = open_ledger(where, clock, checkpoints=checkpoints)
    records = ledger.records()
    for name in names:
        assert [record.detail["i"] for record in records if record.actor == name] == list(range(30))
    with ledger.snapshot() as session:
        found = audit(session.rows(1), checkpoints.lines(), read_public_key(checkpoints.public_key))
    assert (found.n_records, found.n_uncovered, found.problems) == (90, 0, ())


def test_of_two_controllers_one_wins(any_ledger: Ledger, clock: VirtualClock) -> None:
    first = Lease.take(any_ledger, "controller-1", 60, clock)
    with pytest.raises(LedgerConflict, match="'controller-1' holds it under token 1") as refused:
        Lease.take(any_ledger, "controller-2", 60, clock)
    assert refused.value.next_step
    assert first.append("noted", actor="c", subject="-", detail={}).detail == {"lease": 1}
    clock.advance_to(NOON + timedelta(seconds=60))
    second = Lease.take(any_ledger, "controller-2", 60, clock)
    with pytest.raises(LedgerConflict, match="took lease 3 after 1"):
        append_decision(first.ledger, None, CONTROLLER, lambda _: ("noted", {}))
    assert second.append("noted", actor="c", subject="-", detail={}).detail == {"lease": 3}
    assert any_ledger.append("noted", actor="Ada", subject="-", detail={}).detail == {}, "people need no lease"
    second.release(clock)
    with pytest.raises(LedgerConflict):
        second.append("noted", actor="c", subject="-", detail={})
    third = Lease.take(any_ledger, "controller-1", 60, clock)
    assert third.append("noted", actor="c", subject="-", detail={}).detail == {"lease": third.token}


def test_a_lease_is_renewed_under_a_new_token(any_ledger: Ledger, clock: VirtualClock) -> None:
    old = Lease.take(any_ledger, "controller", 60, clock)
    new = Lease.take(any_ledger, "controller", 60, clock)
    with pytest.raises(LedgerConflict):
        old.append("noted", actor="c", subject="-", detail={})
    assert new.append("noted", actor="c", subject="-", detail={}).seq == 3


def test_of_many_that_take_the_lease_at_once_one_gets_it(where: Path | str, clock: VirtualClock) -> None:
    won, lost = list[str](), list[str]()
    at_once = threading.Barrier(4)

    def take(name: str) -> None:
        ledger = open_ledger(where, clock)
        at_once.wait()
        try:
            Lease.take(ledger, name, 60, clock)
        except LedgerConflict:
            lost.append(name)
        else:
            won.append(name)

    threads = [threading.Thread(target=take, args=(f"controller-{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (1, 3)
    assert [record.action for record in open_ledger(where, clock).records()] == ["lease"]


def test_a_row_that_somebody_else_appended_is_found(ledger: Ledger, where: Path | str) -> None:
    fill(ledger)
    forged = to_row(make_record(6, NOON, "alert", "forger", "-", {}, "f" * 64))
    values = ", ".join(f"'{value}'" if isinstance(value, str) else str(value) for value in forged)
    change(where, f"INSERT INTO records VALUES ({values})")  # noqa: S608 - of this test
    with pytest.raises(LedgerCorrupt, match="record 6"):
        ledger.records()


def test_a_database_that_is_down_is_a_clear_refusal_and_comes_back(
    postgres: PostgresServer, clock: VirtualClock
) -> None:
    ledger = open_ledger(postgres.new_database().replace("flightdeck@", "flightdeck:secret@"), clock)
    fill(ledger)
    postgres.kill()
    try:
        for use in (ledger.records, ledger.head, lambda: fill(ledger, 1), lambda: ledger.records(5)):
            with pytest.raises(ReleaseRefused, match="nothing was recorded") as refused:
                use()
            assert "secret" not in str(refused.value) and f"127.0.0.1:{postgres.port}" in str(refused.value)
    finally:
        postgres.start()
    assert ledger.head() == 5
    ledger.verify()
