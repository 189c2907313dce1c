"""`kedro audit` on real files: what it answers, and with which exit code."""

import json
import shutil
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from flightdeck.cli.audit import audit
from flightdeck.core.clock import VirtualClock
from flightdeck.core.layout import layout
from flightdeck.release.ledger import Ledger, open_ledger
from flightdeck.release.ledger_config import released_ledger

CLOCK = VirtualClock(datetime(2013, 9, 12, 12, tzinfo=UTC))
NASTY = 'a\nb\r\x1b[31m\x9b31m\u2028\x7f=HYPERLINK("x")' + "x" * 1_000_000


@pytest.fixture(autouse=True)
def below_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLIGHTDECK_DATA", str(tmp_path / "data"))
    for variable in ("KEDRO_ENV", "FLIGHTDECK_LEDGER", "FLIGHTDECK_CHECKPOINTS", "FLIGHTDECK_SIGNING_KEY"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def ledger() -> Ledger:
    ledger = released_ledger(layout(), CLOCK)
    for number in range(3):
        ledger.append("noted", actor="Ada", subject="-", detail={"number": number})
    return ledger


def kedro_audit(*arguments: str) -> Result:
    return CliRunner().invoke(audit, arguments)


def edit(statement: str) -> None:
    with closing(sqlite3.connect(layout().ledger)) as connection:
        guards = [row[0] for row in connection.execute("SELECT sql FROM sqlite_master WHERE type = 'trigger'")]
        connection.executescript("DROP TRIGGER records_no_update; DROP TRIGGER records_no_delete;")
        connection.execute(statement)
        for guard in guards:
            connection.execute(guard)
        connection.commit()


def test_what_cannot_be_checked_is_neither_good_nor_bad() -> None:
    found = kedro_audit("verify")
    assert found.exit_code == 4 and "neither a ledger" in found.output
    assert kedro_audit("export").exit_code == 4
    assert "no record to sign" in kedro_audit("checkpoint").output
    open_ledger(layout().ledger, CLOCK).append("noted", actor="Ada", subject="-", detail={})
    found = kedro_audit("verify")
    assert found.exit_code == 4 and "no checkpoint was ever signed" in found.output
    assert "record 1 (" in kedro_audit("checkpoint").output
    assert kedro_audit("verify").exit_code == 0


def test_a_database_that_does_not_answer_is_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLIGHTDECK_LEDGER", "postgresql://flightdeck@127.0.0.1:1/none")
    for command in ("verify", "checkpoint", "export"):
        assert kedro_audit(command).exit_code == 4
    monkeypatch.setenv("FLIGHTDECK_LEDGER", "mysql://x")
    assert kedro_audit("verify").exit_code == 4


def test_a_whole_ledger_is_told_so(ledger: Ledger) -> None:
    found = kedro_audit("verify")
    assert found.exit_code == 0 and "3 records and 3 checkpoints are what was written" in found.output
    assert "warning" not in found.output


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE records SET actor = 'me\x1b[2J' WHERE seq = 2", "record 2 was altered"),
        ("DELETE FROM records WHERE seq = 3", "the ledger ends at record 2"),
        ("DELETE FROM records", "the ledger ends at record 0"),
    ],
)
def test_what_was_changed_is_named(ledger: Ledger, statement: str, said: str) -> None:
    edit(statement)
    found = kedro_audit("verify")
    assert found.exit_code == 3 and said in found.output and "release nothing" in found.output
    assert "\x1b[2J" not in found.output


def test_a_ledger_or_a_file_of_checkpoints_that_is_gone_is_tampering(ledger: Ledger) -> None:
    where = layout()
    aside = where.ledger.with_name("aside")
    where.ledger.rename(aside)
    assert kedro_audit("verify").exit_code == kedro_audit("checkpoint").exit_code == 3
    aside.rename(where.ledger)
    (where.audit / "checkpoints.jsonl").unlink()
    found = kedro_audit("verify")
    assert found.exit_code == 3 and "the file is gone" in found.output


def test_a_file_that_is_no_database_is_tampering(ledger: Ledger) -> None:
    layout().ledger.write_bytes(b"not a database at all, but long enough to be one" * 100)
    assert kedro_audit("verify").exit_code == 3


def test_copy_and_key_kept_elsewhere_find_what_was_taken_off_both(ledger: Ledger, tmp_path: Path) -> None:
    where = layout()
    copy, key = tmp_path / "copy.jsonl", tmp_path / "pinned.pub"
    shutil.copy(where.audit / "checkpoints.jsonl", copy)
    shutil.copy(where.audit / "signing.pub", key)
    ledger.append("noted", actor="Ada", subject="-", detail={})
    assert kedro_audit("verify", "--copy", str(copy), "--key", str(key)).exit_code == 0
    edit("DELETE FROM records WHERE seq > 2")
    lines = copy.read_bytes().splitlines(keepends=True)
    (where.audit / "checkpoints.jsonl").write_bytes(b"".join(lines[:2]))
    assert kedro_audit("verify").exit_code == 0, "ledger and checkpoints of one old backup: nothing here knows better"
    found = kedro_audit("verify", "--copy", str(copy))
    assert found.exit_code == 3 and "lines were taken off its end" in found.output


def test_a_forger_with_a_key_of_his_own_is_found_by_the_pinned_one(ledger: Ledger, tmp_path: Path) -> None:
    key = tmp_path / "pinned.pub"
    shutil.copy(layout().audit / "signing.pub", key)
    shutil.rmtree(layout().audit)
    kedro_audit("checkpoint")
    assert kedro_audit("verify").exit_code == 0
    found = kedro_audit("verify", "--key", str(key))
    assert found.exit_code == 3 and "its signature is not one of key" in found.output


def test_decisions_that_nothing_covers_are_a_warning(ledger: Ledger) -> None:
    open_ledger(layout().ledger, CLOCK).append("noted", actor="Ada", subject="-", detail={})
    found = kedro_audit("verify")
    assert found.exit_code == 0 and "1 decisions are newer than the newest checkpoint" in found.output


def test_exported_records_stay_on_their_lines_whatever_they_hold(ledger: Ledger, tmp_path: Path) -> None:
    ledger.append("noted", actor=NASTY, subject=NASTY[:20], detail={NASTY[:20]: NASTY})
    path = tmp_path / "records.jsonl"
    assert kedro_audit("export", "--out", str(path)).exit_code == 0
    for content in (path.read_text("ascii"), kedro_audit("export").output):
        assert content.replace("\n", "").isascii() and content.replace("\n", "").isprintable()
        records = [json.loads(line) for line in content.splitlines()]
        assert [record["seq"] for record in records] == [1, 2, 3, 4]
        assert (records[3]["actor"], records[3]["detail"]) == (NASTY, {NASTY[:20]: NASTY})
        assert list(records[0]) == [
            *("seq", "recorded_at", "action", "actor", "subject", "detail", "previous_digest", "digest"),
        ]


def test_nothing_is_exported_beyond_what_was_altered(ledger: Ledger) -> None:
    edit("UPDATE records SET actor = 'me' WHERE seq = 2")
    found = kedro_audit("export")
    assert found.exit_code == 3 and "record 2 was altered" in found.output
