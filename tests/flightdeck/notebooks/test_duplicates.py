import ast
import inspect
from pathlib import Path

import pytest

from flightdeck.core.identifiers import fingerprint
from flightdeck.core.layout import PROJECT
from flightdeck.notebooks.duplicates import body_fingerprint, find_duplicates
from flightdeck.notebooks.outputs import notebooks_with_outputs
from pipelines.features import nodes
from tests.flightdeck.notebooks.project import make_notebook, make_package

COPY = "def fast(distance, hours):\n    # renamed, without annotations and documentation\n    return distance   / hours"


def first(source: str) -> ast.FunctionDef:
    (function,) = ast.parse(source).body
    assert isinstance(function, ast.FunctionDef)
    return function


def test_a_copy_is_found_whatever_it_is_called(tmp_path: Path) -> None:
    target = make_package(tmp_path)
    notebook = make_notebook(tmp_path / "notebooks/explore/n.ipynb", "%load_ext kedro.ipython\nx = 1", COPY)
    (found,) = find_duplicates(tmp_path / "notebooks", tmp_path / "src")
    assert (found.notebook, found.cell, found.function) == (notebook, 2, "fast")
    assert (found.module, found.original) == (target, "speed")
    assert "fast repeats speed" in str(found)


def test_another_function_is_no_copy(tmp_path: Path) -> None:
    make_package(tmp_path)
    make_notebook(tmp_path / "notebooks/n.ipynb", COPY.replace("/", "*"), "not python at all", "%%bash\necho 1")
    make_notebook(tmp_path / "notebooks/.ipynb_checkpoints/n.ipynb", COPY)
    assert find_duplicates(tmp_path / "notebooks", tmp_path / "src") == []


@pytest.mark.parametrize(
    ("change", "is_same"),
    [
        ('def f(a: int) -> int:\n    """Say."""\n    return a + 1', True),
        ("@cache\ndef g(a):\n    return (a + 1)", True),
        ("def f(a):\n    return a + 2", False),
        ("def f(a, b):\n    return a + 1", False),
        ("def f(a=1):\n    return a + 1", False),
    ],
)
def test_what_counts_is_what_the_function_does(change: str, is_same: bool) -> None:
    assert (body_fingerprint(first(change)) == body_fingerprint(first("def f(a):\n    return a + 1"))) is is_same


def test_functions_that_the_package_tells_apart_are_told_apart_here() -> None:
    functions = [function for _, function in inspect.getmembers(nodes, inspect.isfunction)]
    ours = {body_fingerprint(first(inspect.getsource(function))) for function in functions}
    theirs = {fingerprint(function) for function in functions}
    assert len(ours) == len(theirs)


def test_notebooks_with_outputs_are_counted(tmp_path: Path) -> None:
    make_notebook(tmp_path / "clean.ipynb", "1")
    executed = make_notebook(tmp_path / "executed.ipynb", "1", "2", executed=True)
    assert notebooks_with_outputs(tmp_path) == {executed: 2}


def test_the_notebooks_of_this_project_carry_neither_copies_nor_outputs() -> None:
    assert find_duplicates(PROJECT / "notebooks", PROJECT / "src/pipelines") == []
    assert notebooks_with_outputs(PROJECT / "notebooks") == {}
