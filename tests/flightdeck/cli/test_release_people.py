"""`kedro release people`, and commands that are given with a key."""

import shutil
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from flightdeck.cli import release as release_cli
from flightdeck.cli import release_options, release_people
from flightdeck.core.clock import SystemClock
from flightdeck.core.layout import PROJECT, Layout
from flightdeck.release.ledger import Ledger, open_ledger
from flightdeck.release.people_keys import read_people_keys
from tests.candidates import seal_tiny
from tests.release_desk import register

ADA, BOB = "Ada Lovelace", "Bob"


@pytest.fixture
def register_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file of the register, which knows two people and takes stated names."""
    conf = tmp_path / "project" / "conf"
    shutil.copytree(PROJECT / "conf", conf)
    for module in (release_cli, release_options, release_people):
        monkeypatch.setattr(module, "PROJECT", conf.parent)
    monkeypatch.setenv("FLIGHTDECK_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("FLIGHTDECK_PERSON", "FLIGHTDECK_KEY"):
        monkeypatch.delenv(name, raising=False)
    path = conf / "base/people.yml"
    change(path, people={ADA: {"roles": ["reviewer"]}, BOB: {"roles": ["operator"]}})
    return path


@pytest.fixture
def ledger(register_file: Path, tmp_path: Path) -> Ledger:
    """Return a ledger with a candidate."""
    where = Layout(tmp_path / "data")
    found = open_ledger(where.ledger, SystemClock())
    bundle = seal_tiny(tmp_path / "draft", where.bundles, mark="one")
    register(found, 1, bundle=bundle, model_name="flight-delay", tier="medium")
    return found


def change(path: Path, **more: object) -> None:
    content = {**yaml.safe_load(path.read_text()), **more}
    path.write_text(yaml.safe_dump(content))


def run(*words: str, key: str | None = None) -> tuple[int, str, str]:
    environment = {"FLIGHTDECK_KEY": key} if key is not None else {}
    result = CliRunner().invoke(release_cli.release, list(words), env=environment)
    return result.exit_code, result.stdout, result.stderr


def new_key(name: str, *more: str) -> str:
    code, out, err = run("people", "key", name, *more)
    assert code == 0, err
    assert out.strip() not in err
    return out.strip()


def test_a_key_is_shown_once_listed_without_its_secret_and_recorded(ledger: Ledger, tmp_path: Path) -> None:
    key = new_key(ADA)
    [kept] = read_people_keys(Layout(tmp_path / "data").people_keys)
    made = ledger.records()[-1]
    assert (made.action, made.detail["name"], made.detail["key"]) == ("key_made", ADA, kept.id)
    _, listed, _ = run("people", "list")
    for expected in (kept.id, ADA, "reviewer", "approve", "valid", "authentication: stated"):
        assert expected in listed
    assert key not in listed
    assert run("people", "revoke-key", ADA)[:2] == (0, f"key {kept.id} of {ADA} is revoked\n")
    assert ledger.records()[-1].action == "key_revoked"
    assert "revoked" in run("people", "list")[1]


def test_a_key_names_the_person_and_another_name_is_refused(ledger: Ledger) -> None:
    key = new_key(ADA)
    assert "rejected by Ada Lovelace" not in run("reject", "1", "--reason", "w", "--by", BOB, key=key)[1]
    refused = ledger.records()[-1]
    assert (refused.action, refused.actor, refused.subject) == ("refused", ADA, "1")
    assert refused.detail["what"] == "reject" and "not of 'Bob'" in refused.detail["reason"]
    assert "rejected by Ada Lovelace" in run("reject", "1", "--reason", "w", "--by", "ada lovelace", key=key)[1]
    done = next(record for record in ledger.records() if record.action == "rejected")
    assert (done.actor, done.detail["proof"]) == (ADA, f"key:{key.split('_')[1]}")


def test_what_proves_nothing_is_refused_and_recorded_once(ledger: Ledger, register_file: Path) -> None:
    key = new_key(ADA)
    run("people", "revoke-key", ADA)
    for _ in range(2):
        code, _, err = run("reject", "1", "--reason", "w", key=key)
        assert code == 1 and f"of {ADA} is revoked" in err and "kedro release people key" in err
    assert [record.actor for record in ledger.records() if record.action == "refused"] == [ADA]
    assert "is nobody's" in run("reject", "1", "--reason", "w", key="fp_guess")[2]
    assert ledger.records()[-1].actor == "unknown"
    change(register_file, authentication="proven", others=[])
    assert "only stated" in run("reject", "1", "--reason", "w", "--by", ADA)[2]
    assert ledger.records()[-1].detail["reason"].startswith(f"{ADA} is only stated")
    again = new_key(ADA)
    change(register_file, people={ADA: {"roles": ["reviewer"], "revoked": True}})
    assert "is revoked and decides nothing" in run("reject", "1", "--reason", "w", key=again)[2]
    assert not [record for record in ledger.records() if record.action == "rejected"]


def test_a_stated_name_still_counts_where_no_proof_is_asked_for_and_says_so(ledger: Ledger) -> None:
    assert run("reject", "1", "--reason", "w")[0] == 2, "a decision names its person"
    assert run("reject", "1", "--reason", "w", "--by", "Mary")[0] == 0
    done = next(record for record in ledger.records() if record.action == "rejected")
    assert (done.actor, done.detail["proof"]) == ("Mary", "stated")
