from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from flightdeck.cli import notebooks as module
from flightdeck.cli.notebooks import notebooks
from tests.flightdeck.notebooks.project import make_notebook, make_package, sources

SPEED = "def rate(distance, hours):\n    return distance / hours"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(module, "PROJECT", tmp_path)
    monkeypatch.setattr(module, "USE_CASE", "src/use_case")
    return tmp_path


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(notebooks, arguments)


def test_a_function_is_promoted(project: Path) -> None:
    target = make_package(project)
    notebook = make_notebook(project / "notebooks/n.ipynb", 'def far(x):\n    """Say whether."""\n    return x > 9')
    result = invoke("promote", str(notebook), "far", "--to", str(target))
    assert result.exit_code == 0, result.output
    assert "far lives in use_case.features.nodes" in result.output
    assert sources(notebook) == ["from use_case.features.nodes import far"]
    assert "def far" in target.read_text(encoding="utf-8")


def test_a_refusal_says_why(project: Path) -> None:
    target = make_package(project)
    notebook = make_notebook(project / "notebooks/n.ipynb", "def far(x):\n    return x > limit")
    result = invoke("promote", str(notebook), "far", "--to", str(target))
    assert result.exit_code == 1
    assert "reads limit of the notebook" in result.output


def test_check_names_copies_and_outputs(project: Path) -> None:
    make_package(project)
    make_notebook(project / "notebooks/n.ipynb", SPEED, executed=True)
    result = invoke("check")
    assert result.exit_code == 1
    assert "rate repeats speed of src/use_case/features/nodes.py" in result.output
    assert "notebooks/n.ipynb: 1 executed cells" in result.output


def test_check_passes_on_clean_notebooks(project: Path) -> None:
    make_package(project)
    make_notebook(project / "notebooks/n.ipynb", "import math")
    result = invoke("check")
    assert result.exit_code == 0, result.output
