"""`kedro gate run` with the real notebook on a real kernel: its three exit codes, and that nothing is touched."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from flightdeck.cli.gate import gate
from flightdeck.core.identifiers import digest_file
from flightdeck.gates.verdict import read_verdict
from tests.candidates import write_draft


def run(*arguments: str) -> Result:
    return CliRunner().invoke(gate, ["run", *arguments])


@pytest.fixture(autouse=True)
def below_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLIGHTDECK_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "160")


@pytest.fixture(scope="module")
def draft(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_draft(tmp_path_factory.mktemp("house") / "draft")


def digests(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): digest_file(path) for path in folder.rglob("*") if path.is_file()}


def test_a_good_draft_passes_and_stays_as_it_is(draft: Path, tmp_path: Path) -> None:
    before = digests(draft)
    result = run(str(draft), "--tier", "low", "--out", str(tmp_path / "out"))
    assert result.exit_code == 0, result.output
    assert "the gate of tier low passed" in result.output
    assert digests(draft) == before
    assert read_verdict(tmp_path / "out" / "verdict.json").passed
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "evaluation.ipynb",
        "evaluation.html",
        "verdict.json",
    }


def test_a_miscalibrated_one_fails_with_the_checks_named(tmp_path: Path) -> None:
    result = run(str(write_draft(tmp_path / "draft", shift=1.0)), "--out", str(tmp_path / "out"))
    assert result.exit_code == 3, result.output
    assert "the gate of tier medium says no: " in result.output
    assert "ece" in result.output
    assert not read_verdict(tmp_path / "out" / "verdict.json").passed


def test_a_gate_that_cannot_run_has_not_passed(draft: Path, tmp_path: Path) -> None:
    assert "there is no folder" in run(str(tmp_path / "nothing")).output
    assert run(str(tmp_path / "nothing")).exit_code == 4
    (tmp_path / "empty").mkdir()
    result = run(str(tmp_path / "empty"), "--out", str(tmp_path / "out"))
    assert result.exit_code == 4
    assert "the gate could not look at" in result.output
    assert run("7").exit_code == 1, "nothing was released here"
    assert run(str(draft), "--tier", "highest").exit_code == 2
