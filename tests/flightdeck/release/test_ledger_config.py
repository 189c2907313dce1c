import subprocess
import sys
from pathlib import Path

import pytest

from flightdeck.core.clock import SystemClock
from flightdeck.core.errors import ConfigError
from flightdeck.core.layout import Layout
from flightdeck.release.ledger_config import LedgerPlaces, ledger_at, read_ledger_places, released_ledger
from flightdeck.release.sqlite_ledger import SqliteLedger

URL = "postgresql://flightdeck@db.example:5432/flightdeck"


def write(conf: Path, env: str, text: str) -> None:
    (conf / env).mkdir(parents=True, exist_ok=True)
    (conf / env / "ledger.yml").write_text(text, encoding="utf-8")


def test_the_project_keeps_its_ledger_in_sqlite_and_its_checkpoints_apart(tmp_path: Path) -> None:
    where = Layout(tmp_path)
    found = read_ledger_places(environment={})
    assert found == LedgerPlaces() and found.ledger(where.ledger) == where.ledger
    assert found.checkpoint_log(where).path == tmp_path / "09_audit" / "checkpoints.jsonl"


def test_at_scale_it_is_in_postgresql_and_no_password_is_written_down() -> None:
    url = read_ledger_places("scale", environment={}).url
    assert url.startswith("postgresql://") and "@" not in url


def test_an_environment_overrides_the_base_and_variables_override_both(tmp_path: Path) -> None:
    write(tmp_path, "base", "ledger: embedded\n")
    write(tmp_path, "scale", f"ledger: {URL}\ncheckpoints: file:///mnt/audit\nsigning_key: /etc/flightdeck/key\n")
    found = read_ledger_places("scale", conf=tmp_path, environment={})
    assert found == LedgerPlaces(URL, Path("/mnt/audit"), Path("/etc/flightdeck/key"))
    assert read_ledger_places(conf=tmp_path, environment={"FLIGHTDECK_LEDGER": URL}) == LedgerPlaces(URL)
    back = {"FLIGHTDECK_LEDGER": "embedded", "FLIGHTDECK_CHECKPOINTS": "/a", "FLIGHTDECK_SIGNING_KEY": "/b"}
    assert read_ledger_places("scale", conf=tmp_path, environment=back) == LedgerPlaces("", Path("/a"), Path("/b"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ledgers: embedded", "'ledger'"),
        ("ledger: mysql://u:secret@x/y", "postgresql://"),
        ("checkpoints: s3://x", "mount"),
    ],
)
def test_what_is_wrong_is_named_and_no_password_shown(tmp_path: Path, text: str, said: str) -> None:
    write(tmp_path, "base", text)
    with pytest.raises(ConfigError) as found:
        read_ledger_places(conf=tmp_path, environment={})
    assert said in str(found.value) and "secret" not in str(found.value)


def test_readers_and_deciders_open_the_configured_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = Layout(tmp_path)
    assert isinstance(released_ledger(where, SystemClock()), SqliteLedger)
    monkeypatch.setenv("FLIGHTDECK_LEDGER", URL.replace("flightdeck@", "flightdeck:secret@"))
    assert released_ledger(where, SystemClock()).place == ledger_at(where.ledger, SystemClock()).place == URL


def test_without_the_driver_the_error_says_how_to_get_it() -> None:
    script = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from flightdeck.core.clock import SystemClock\n"
        "from flightdeck.release.ledger import open_ledger\n"
        f"open_ledger('{URL}', SystemClock())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "ConfigError: opening a ledger in PostgreSQL: its driver is not installed" in done.stderr
    assert "next step: make setup-scale" in done.stderr
