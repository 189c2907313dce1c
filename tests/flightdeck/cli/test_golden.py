import json
import os
import sys
import time
from pathlib import Path

import pytest

from flightdeck.cli.golden import (
    describe_progress,
    golden_record,
    inputs_digest,
    project_digest,
    record_run,
    require_success,
    reusable_version,
)
from flightdeck.cli.processes import Processes, ProcessFailed
from flightdeck.core.errors import FlightdeckError, GateFailed, GateImpossible, NotFoundError
from flightdeck.core.layout import Layout
from flightdeck.release.stages import ReleaseState, VersionState

DIGEST = "a" * 64


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    for name in ("src/pipelines/nodes.py", "src/flightdeck/core.py", "conf/base/x.yml", "notebooks/reports/e.ipynb"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name, encoding="utf-8")
    (root / "requirements.lock").write_text("numpy==2", encoding="utf-8")
    (root / "README.md").write_text("read me", encoding="utf-8")
    return root


@pytest.fixture
def where(tmp_path: Path) -> Layout:
    found = Layout(tmp_path / "data")
    found.raw.mkdir(parents=True)
    (found.raw / "flights.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    (found.bundles / DIGEST[:16]).mkdir(parents=True)
    (found.event_log / "scheduled").mkdir(parents=True)
    return found


def state(stage: str = "prod") -> ReleaseState:
    return ReleaseState({3: VersionState(3, DIGEST, "medium", "flight-delay", stage=stage)}, seq=1)


@pytest.mark.parametrize(
    "name",
    ["src/pipelines/nodes.py", "src/flightdeck/new.py", "conf/base/x.yml", "conf/local/y.yml", "requirements.lock"],
)
def test_a_changed_or_new_input_changes_the_digest(project: Path, where: Layout, name: str) -> None:
    before = inputs_digest(project, where.raw)
    (project / name).parent.mkdir(parents=True, exist_ok=True)
    (project / name).write_text("something else", encoding="utf-8")
    assert inputs_digest(project, where.raw) != before


def test_a_changed_raw_file_changes_the_digest_and_other_files_do_not(project: Path, where: Layout) -> None:
    before = inputs_digest(project, where.raw)
    (project / "README.md").write_text("news", encoding="utf-8")
    (project / "src/pipelines/__pycache__").mkdir()
    (project / "src/pipelines/__pycache__/nodes.pyc").write_bytes(b"x")
    (project / "src/pipelines/nodes.py").touch()
    assert inputs_digest(project, where.raw) == before
    (where.raw / "flights.csv").write_text("a,b\n1,3\n", encoding="utf-8")
    assert inputs_digest(project, where.raw) != before


def test_a_run_is_reused_until_something_changes(project: Path, where: Layout) -> None:
    assert reusable_version(project, where, state()) is None
    assert record_run(project_digest(project), where, state()) == 3
    assert reusable_version(project, where, state()) == 3
    assert reusable_version(project, where, state("candidate")) == 3
    assert reusable_version(project, where, state("rejected")) is None
    assert reusable_version(project, where, ReleaseState()) is None
    (project / "src/pipelines/nodes.py").write_text("changed", encoding="utf-8")
    assert reusable_version(project, where, state()) is None


@pytest.mark.parametrize("lost", ["bundle", "log", "record"])
def test_a_run_whose_results_are_lost_is_not_reused(project: Path, where: Layout, lost: str) -> None:
    record_run(project_digest(project), where, state())
    if lost == "record":
        golden_record(where).write_text("{", encoding="utf-8")
    else:
        {"bundle": where.bundles / DIGEST[:16], "log": where.event_log / "scheduled"}[lost].rmdir()
    assert reusable_version(project, where, state()) is None


def test_a_run_that_left_no_version_is_an_error(project: Path, where: Layout) -> None:
    with pytest.raises(NotFoundError, match="left no version"):
        record_run(project_digest(project), where, ReleaseState())
    assert not golden_record(where).exists()


def test_the_record_is_plain_json(project: Path, where: Layout) -> None:
    record_run(project_digest(project), where, state())
    assert json.loads(golden_record(where).read_text())["version"] == 3


@pytest.mark.parametrize(
    ("code", "kind", "exit_code"),
    [
        ("import sys; print('noise'); print('error: auc_15 failed'); sys.exit(3)", GateFailed, 3),
        ("import sys; print('error: auc_15 failed'); sys.exit(4)", GateImpossible, 4),
        ("import sys; print('error: auc_15 failed'); sys.exit(1)", ProcessFailed, 1),
    ],
)
def test_a_failed_run_says_what_the_command_said(
    tmp_path: Path, code: str, kind: type[FlightdeckError], exit_code: int
) -> None:
    processes = Processes()
    process = processes.start(
        "it", [sys.executable, "-c", code], log_path=tmp_path / "log", environment=os.environ, folder=tmp_path
    )
    while process.exit_code is None:
        time.sleep(0.05)
    with pytest.raises(kind, match="auc_15 failed") as failed:
        require_success(process)
    assert failed.value.exit_code == exit_code
    processes.stop_all()


def test_progress_is_read_from_the_log() -> None:
    assert describe_progress("") == "starting"
    log = "INFO Completed node: a\nINFO Completed 1 out of 14 tasks\nINFO Running node: fit: fit([x]) -> [y]\n"
    assert describe_progress(log) == "1 of 14 nodes done, now fit"
