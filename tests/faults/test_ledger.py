"""What the ledger stands on breaks: its disk, its database, its lock, its backup. Nothing is decided without a record.

Expected of each is the name of its test; docs/faults.md has the table.
"""

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from flightdeck.core.clock import SystemClock, VirtualClock
from flightdeck.core.errors import LedgerCorrupt, ReleaseRefused
from flightdeck.release import sqlite_ledger
from flightdeck.release.checkpoints import CheckpointLog
from flightdeck.release.ledger import open_ledger
from flightdeck.release.sqlite_ledger import SqliteLedger
from tests.postgres_server import postgres_server
from tests.serving.process import serving
from tests.serving.world import World, ask

CLOCK = VirtualClock(datetime(2013, 9, 12, 12, tzinfo=UTC))
WRITER = """
import sys
from pathlib import Path
from flightdeck.core.clock import SystemClock
from flightdeck.core.errors import FlightdeckError
from flightdeck.release.checkpoints import CheckpointLog
from flightdeck.release.ledger import open_ledger
folder = Path(sys.argv[1])
checkpoints = CheckpointLog(folder / "audit", folder / "key")
ledger = open_ledger(folder / "ledger.sqlite", SystemClock(), checkpoints=checkpoints)
for disk in sys.argv[2:]:
    (folder / "disk").write_text(disk)
    try:
        print(ledger.append("noted", actor="test", subject="-", detail={}).seq)
    except FlightdeckError as error:
        print(error.message)
"""


@pytest.fixture
def ledger(tmp_path: Path) -> SqliteLedger:
    return SqliteLedger(tmp_path / "ledger.sqlite", CLOCK, CheckpointLog(tmp_path / "audit", tmp_path / "key"))


def note(ledger: SqliteLedger, action: str = "noted") -> int:
    return ledger.append(action, actor="test", subject="-", detail={}).seq


def append_on(folder: Path, *disks: str) -> list[str]:
    """Append in a process of its own, the disk being `well`, `full` or failing to `flush`; return what it said."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler (Debian package gcc)")
    library = folder / "failing_disk.so"
    source = Path(__file__).with_name("failing_disk.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True)
    preloaded = {**os.environ, "LD_PRELOAD": str(library), "FAILING_DISK": str(folder / "disk")}
    done = subprocess.run(
        [sys.executable, "-c", WRITER, str(folder), *disks], env=preloaded, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def test_on_a_full_disk_nothing_is_decided_and_nothing_is_lost(tmp_path: Path, ledger: SqliteLedger) -> None:
    """Fault 16."""
    said = append_on(tmp_path, "well", "full", "full", "well")
    assert (said[0], said[3]) == ("1", "2")
    for refusal in said[1:3]:
        assert "nothing was recorded" in refusal
    ledger.verify()
    assert ledger.head() == 2 and ledger.checkpoint() is not None


def test_after_a_flush_that_failed_nothing_is_acknowledged_and_the_file_is_not_trusted(
    tmp_path: Path, ledger: SqliteLedger
) -> None:
    """Fault 18."""
    said = append_on(tmp_path, "well", "flush", "well")
    assert said[0] == "1"
    assert "whether the record is on the disk is not known" in said[1]
    assert "an earlier write of this process met an error of the disk" in said[2]
    ledger.verify()
    n_there = ledger.head()
    assert n_there in (1, 2), "the record that nobody acknowledged may be there or not, but only whole"
    assert append_on(tmp_path, "well") == [str(n_there + 1)]
    ledger.verify()


def test_without_room_for_checkpoints_nothing_is_promoted_and_a_rollback_works(
    tmp_path: Path, ledger: SqliteLedger, caplog: pytest.LogCaptureFixture
) -> None:
    """Fault 16: the disk of the checkpoints."""
    note(ledger)
    (tmp_path / "audit").rename(tmp_path / "aside")
    (tmp_path / "audit").write_text("where the folder was")
    with pytest.raises(ReleaseRefused, match="kedro audit checkpoint"):
        note(ledger, "promoted")
    assert ledger.head() == 1
    assert (note(ledger, "rolled_back"), note(ledger, "alert")) == (2, 3)
    assert "would not be covered" in caplog.text
    (tmp_path / "audit").unlink()
    (tmp_path / "aside").rename(tmp_path / "audit")
    assert note(ledger, "promoted") == 4


def test_a_damaged_checkpoint_stops_promotions_and_no_rollback(tmp_path: Path, ledger: SqliteLedger) -> None:
    note(ledger)
    (tmp_path / "audit" / "checkpoints.jsonl").write_bytes(b"{}\n")
    with pytest.raises(LedgerCorrupt, match="not what was signed"):
        note(ledger, "promoted")
    assert note(ledger, "rolled_back") == 2


def test_a_ledger_that_stays_locked_is_a_clear_refusal(ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault 26."""
    note(ledger)
    monkeypatch.setattr(sqlite_ledger, "BUSY_TIMEOUT_S", 0.05)
    with closing(sqlite3.connect(ledger.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(ReleaseRefused, match="database is locked; nothing was recorded"):
            note(ledger)
        assert len(ledger.records()) == 1, "readers do not wait"
    assert note(ledger) == 2


def test_a_log_beyond_its_bound_is_folded_in_or_refused(ledger: SqliteLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fault 26: a reader that never ends lets the log grow."""
    note(ledger)
    log = ledger.path.with_name("ledger.sqlite-wal")
    monkeypatch.setattr(sqlite_ledger, "BUSY_TIMEOUT_S", 0.05)
    with closing(sqlite3.connect(ledger.path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM records").fetchone()
        note(ledger)
        os.truncate(log, sqlite_ledger.WAL_LIMIT_BYTES + 1)  # a sparse file: no disk is filled
        with pytest.raises(ReleaseRefused, match=r"at most 1,073,741,824 are allowed.*nothing was recorded"):
            note(ledger)
        reader.execute("COMMIT")
        assert note(ledger) == 3
        assert log.stat().st_size < 100_000
    ledger.verify()


def test_the_backup_of_yesterday_is_refused(tmp_path: Path, ledger: SqliteLedger) -> None:
    """Fault 26."""
    note(ledger)
    shutil.copy(ledger.path, tmp_path / "backup")
    note(ledger)
    shutil.copy(tmp_path / "backup", ledger.path)
    for use in (
        ledger.records,
        lambda: note(ledger),
        lambda: note(ledger, "rolled_back"),
        lambda: note(ledger, "alert"),
    ):
        with pytest.raises(LedgerCorrupt, match="old backup"):
            use()
    with closing(sqlite3.connect(ledger.path)) as connection:
        assert connection.execute("SELECT count(*) FROM records").fetchone() == (1,)


def test_a_ledger_in_postgresql_is_followed_and_its_loss_changes_nothing(world: World) -> None:
    """Faults 26 and 29, for more than one machine."""
    world.feed_store()
    with postgres_server() as postgres:
        url = postgres.new_database()
        world.ledger = open_ledger(url, SystemClock())
        first = world.release(world.seal(seed=1))
        with serving(world.layout.root, variables={"FLIGHTDECK_LEDGER": url}) as service:
            service.wait_for_version(first)
            postgres.kill()
            service.wait_until(lambda: service.get("/readyz").json()["ledger"] != "ok", "the loss of the ledger")
            assert url.split("@")[1] in service.get("/readyz").json()["ledger"]
            assert service.predict(ask()).json()["predictions"][0]["model_version"] == first
            postgres.start()
            second = world.release(world.seal(seed=2))
            service.wait_for_version(second)
    assert not world.layout.ledger.exists()
