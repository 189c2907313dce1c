"""`kedro release` from the first look to the rollback, on a real ledger and a real MLflow."""

import contextlib
import os
import pty
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from flightdeck.cli.release import release
from flightdeck.core.clock import SystemClock
from flightdeck.core.layout import layout
from flightdeck.gates.verdict import Check, judge, write_verdict
from flightdeck.inference.bundle import EVIDENCE, REQUIRED, content_digest
from flightdeck.release.decisions import current_state
from flightdeck.release.intake import enter_candidate
from flightdeck.release.ledger import open_ledger
from flightdeck.release.moves import version_state
from flightdeck.release.registry import Registry
from tests.release_desk import PIPELINE


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


@pytest.fixture(autouse=True)
def below_data(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLIGHTDECK_DATA", str(data))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("COLUMNS", "160")


def kedro_release(*arguments: str) -> Result:
    return CliRunner().invoke(release, arguments)


def enter(folder: Path) -> int:
    for name in (*REQUIRED, *EVIDENCE):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"{folder.name} {name}")
    check = Check("auc_15", 0.79, 0.77, passed=True, blocking=True, detail="ROC AUC")
    verdict = judge(content_digest(folder), "medium", [check], "2013-09-12T12:00:00+00:00")
    write_verdict(folder / "evaluation" / "verdict.json", verdict)
    place = layout()
    ledger, registry = open_ledger(place.ledger, SystemClock()), Registry(place.mlflow_uri, "flight-delay")
    place.root.joinpath("06_models").mkdir(exist_ok=True)
    return enter_candidate(
        folder, verdict, bundles=place.bundles, ledger=ledger, registry=registry, by=PIPELINE, facts={}
    )[0]


@pytest.mark.parametrize(
    "command",
    [["list"], ["show", "1"], ["promote", "1"], ["rollback"], ["reconcile"], ["fetch", "1", "--from", "store"]],
)
def test_before_the_first_release_each_command_says_what_to_do(command: list[str]) -> None:
    result = kedro_release(*command)
    assert result.exit_code == 1
    assert "nothing has been released" in result.output
    assert "kedro run --config kedro.yml" in result.output


def test_a_release_from_candidate_to_prod_and_back(tmp_path: Path) -> None:
    assert [enter(tmp_path / name) for name in ("one", "two")] == [1, 2]
    assert "candidate -> staging" in kedro_release("promote", "1").output
    refused = kedro_release("promote", "1")
    assert refused.exit_code == 1
    assert "kedro release approve 1 --by NAME" in refused.output
    assert "approved by Ada Lovelace" in kedro_release("approve", "1", "--by", "Ada Lovelace").output
    assert "staging -> canary, 10% of the units" in kedro_release("promote", "1").output
    assert "canary -> canary, 50% of the units" in kedro_release("promote", "1", "--to", "canary").output
    assert "canary -> prod" in kedro_release("promote", "1").output
    kedro_release("approve", "2", "--by", "Grace Hopper")
    for _ in range(2):
        kedro_release("promote", "2")
    assert "has no evidence that it is no worse" in kedro_release("promote", "2").output
    why = ("--override", "--reason", "nobody sends traffic in this test")
    assert "shadow -> canary, 10% of the units" in kedro_release("promote", "2", *why).output
    assert "canary 2: 10% of the units" in kedro_release("list").output
    assert "canary -> canary, 50% of the units" in kedro_release("promote", "2", *why).output
    assert "in place of version 1" in kedro_release("promote", "2", *why).output
    aliases = Registry(layout().mlflow_uri, "flight-delay").aliases()
    assert aliases == {"champion": 2}
    assert "version 2 taken out, version 1 serves" in kedro_release("rollback", "--reason", "late").output
    assert Registry(layout().mlflow_uri, "flight-delay").aliases() == {"champion": 1}


def test_fetch_brings_a_bundle_that_is_missing_here(tmp_path: Path) -> None:
    bundles = layout().bundles
    store = tmp_path / "store"
    bundles.rename(store)
    fetched = kedro_release("fetch", "1", "--from", store.as_uri())
    assert fetched.exit_code == 0
    assert fetched.output.startswith("version 1: bundle"), "nothing but the result where nobody watches"
    assert "is complete, 0.0 MB copied" in fetched.output
    assert "evaluation.html" in {path.name for path in bundles.rglob("*")}
    assert kedro_release("fetch", "2", "--from", str(store)).exit_code == 0
    assert {path.name for path in bundles.iterdir()} == {path.name for path in store.iterdir()}
    assert "versions there: 1, 2" in kedro_release("fetch", "9", "--from", str(store)).output
    assert "a folder or file:///" in kedro_release("fetch", "1", "--from", "s3://bucket").output


def test_show_prints_checks_digest_stage_approvals_and_history() -> None:
    output = kedro_release("show", "1").output
    for expected in ("auc_15", "0.79", "0.77", "prod", "Ada Lovelace", "legal     nothing more", "rolled_back"):
        assert expected in output
    assert "routes    champion" in output
    digest = next(line.split()[1] for line in output.splitlines() if line.startswith("bundle"))
    assert len(digest) == 64


def test_show_says_when_the_evidence_is_gone() -> None:
    digest = next(
        line.split()[1] for line in kedro_release("show", "2").output.splitlines() if line.startswith("bundle")
    )
    report = layout().bundles / digest[:16] / "evaluation" / "evaluation.html"
    report.unlink()
    output = kedro_release("show", "2").output
    assert "missing: evaluation/evaluation.html" in output
    assert "restore the folder from a backup" in output


def test_a_decision_needs_a_person_and_a_rejection_a_reason() -> None:
    assert kedro_release("approve", "1").exit_code == 2
    assert kedro_release("reject", "1", "--by", "Ada").exit_code == 2
    assert "person's name" in kedro_release("approve", "1", "--by", " ").output


def test_without_mlflow_a_change_stands_and_warns(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    version = enter(tmp_path / "three")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    result = kedro_release("reject", str(version), "--by", "Ada", "--reason", "no")
    assert result.exit_code == 0
    assert "warning: MLflow's aliases are behind the ledger" in result.output
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert "the ledger is intact" in kedro_release("reconcile").output


def test_help_explains_each_command() -> None:
    for name, command in release.commands.items():
        shown = kedro_release(name, "--help").output
        assert command.help
        assert command.help.split(".")[0].split("\n")[0] in shown


def test_fetch_shows_bytes_on_a_terminal(tmp_path: Path) -> None:
    store, bundles = layout().bundles, tmp_path / "data" / "06_models" / "bundles"
    shutil.copytree(layout().ledger.parent, bundles.parent, ignore=shutil.ignore_patterns("bundles"))
    code = f"from flightdeck.cli.release import release; release(['fetch', '1', '--from', {str(store)!r}])"
    environment = {**os.environ, "FLIGHTDECK_DATA": str(tmp_path / "data"), "TERM": "xterm", "COLUMNS": "160"}
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0) as screen:
        running = subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=theirs, stderr=theirs)
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # how a terminal says that its last writer has gone
            while more := screen.read(4096):
                shown += more
    assert running.wait(60) == 0
    assert (bundles / version_state(current_state(open_ledger(layout().ledger, SystemClock())), 1).digest[:16]).is_dir()
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode())
    copied = re.findall(r"version 1 .* (\S+)/(\S+) (?:bytes|kB) ", text)
    assert copied[-1][0] == copied[-1][1] != "0", text
    assert "is complete" in text
