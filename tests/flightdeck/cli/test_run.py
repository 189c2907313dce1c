import os
import subprocess
import sys
from pathlib import Path

import pytest
from kedro.framework.cli.project import run as kedro_run
from kedro.io import DatasetError

from flightdeck.cli.run import error_of_ours, run
from flightdeck.core.errors import ConfigError, FlightdeckError

REGISTRY = """
from kedro.pipeline import node, pipeline
from flightdeck.core.errors import ConfigError, GateFailed

def gate():
    raise GateFailed("the gate said no: auc_15", next_step="read the report")

def config():
    try:
        raise ConfigError("a bad parameter", next_step="correct it")
    except ConfigError as error:
        raise RuntimeError("while configuring") from error

def bug():
    raise ZeroDivisionError("a bug")

def well():
    return 1

def register_pipelines():
    return {f.__name__: pipeline([node(f, None, "out", name=f.__name__)]) for f in (gate, config, bug, well)}
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("failing")
    (root / "src/failing").mkdir(parents=True)
    (root / "conf/base").mkdir(parents=True)
    (root / "conf/local").mkdir()
    (root / "conf/base/catalog.yml").write_text("{}\n")
    (root / "pyproject.toml").write_text(
        '[tool.kedro]\npackage_name = "failing"\nproject_name = "failing"\nkedro_init_version = "1.7.0"\n'
        'source_dir = "src"\n'
    )
    (root / ".telemetry").write_text("consent: false\n")
    (root / "src/failing/__init__.py").touch()
    (root / "src/failing/settings.py").write_text('DISABLE_HOOKS_FOR_PLUGINS = ("kedro-mlflow", "kedro_mlflow")\n')
    (root / "src/failing/pipeline_registry.py").write_text(REGISTRY)
    return root


@pytest.mark.parametrize(
    ("pipeline", "exit_code", "said"),
    [
        ("gate", 3, "error: the gate said no: auc_15\n  next step: read the report\n"),
        ("config", 1, "error: a bad parameter\n  next step: correct it\n"),
    ],
)
def test_an_error_of_ours_ends_in_a_message_and_its_exit_code(
    project: Path, pipeline: str, exit_code: int, said: str
) -> None:
    done = kedro(project, "run", "--pipelines", pipeline)
    assert done.returncode == exit_code, done.stdout + done.stderr
    assert done.stderr.endswith(said)
    assert "Traceback" not in done.stdout + done.stderr


def test_a_bug_keeps_its_traceback(project: Path) -> None:
    done = kedro(project, "run", "--pipelines", "bug")
    assert done.returncode == 1
    assert "Traceback" in done.stderr + done.stdout
    assert "ZeroDivisionError: a bug" in done.stderr + done.stdout


def test_options_come_from_a_file_as_with_kedros_own_command(project: Path) -> None:
    (project / "kedro.yml").write_text("run:\n  pipelines: well\n")
    done = kedro(project, "run", "--config", "kedro.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_command_has_kedros_options() -> None:
    assert run.params is kedro_run.params
    assert run.help == kedro_run.help


def test_the_error_is_found_among_the_causes() -> None:
    ours = ConfigError("x")
    middle = DatasetError("y")
    middle.__cause__ = ours
    outer = RuntimeError("z")
    outer.__cause__ = middle
    assert error_of_ours(outer) is ours
    assert error_of_ours(ours) is ours
    assert error_of_ours(ValueError("w")) is None
    outer.__cause__ = outer
    assert error_of_ours(outer) is None
    assert isinstance(error_of_ours(ours), FlightdeckError)


def kedro(project: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [str(Path(sys.executable).with_name("kedro")), *arguments]
    environment = {**os.environ, "DO_NOT_TRACK": "true", "COLUMNS": "200"}
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
