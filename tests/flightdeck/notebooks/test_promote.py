import ast
import sys
from importlib import import_module
from pathlib import Path

import nbformat
import pytest

from flightdeck.core.errors import ConfigError, NotFoundError
from flightdeck.notebooks.promote import PromotionRefused, promote
from tests.flightdeck.notebooks.project import NODES, make_notebook, make_package, sources

IMPORTS = "%matplotlib inline\nimport math\nfrom collections.abc import Sequence\nimport numpy as np\nscale = 2"
HAUL = '''# what is far?
@staticmethod
def haul(values: "Sequence[float]", floor: float = 1.0) -> float:
    """Return the largest value, at least `floor`."""
    largest = np.max(values)
    return max(math.floor(largest), floor)

haul.__func__([1.0])'''


def move(tmp_path: Path, *cells: str, function: str = "haul", nodes: str = NODES) -> tuple[Path, Path]:
    notebook, target = make_notebook(tmp_path / "n.ipynb", *cells, executed=True), make_package(tmp_path, nodes)
    promote(notebook, function, target, source_root=tmp_path / "src")
    return notebook, target


def refused(tmp_path: Path, *cells: str, function: str = "haul", nodes: str = NODES) -> str:
    notebook, target = make_notebook(tmp_path / "n.ipynb", *cells), make_package(tmp_path, nodes)
    before = notebook.read_bytes(), target.read_bytes()
    with pytest.raises(PromotionRefused) as caught:
        promote(notebook, function, target, source_root=tmp_path / "src")
    assert (notebook.read_bytes(), target.read_bytes()) == before, "a refusal changes nothing"
    return str(caught.value)


def test_the_function_moves_with_its_imports_and_the_cell_imports_it(tmp_path: Path) -> None:
    notebook, target = move(tmp_path, IMPORTS, HAUL)
    text = target.read_text(encoding="utf-8")
    assert text.count("import numpy as np") == 1
    assert "\nimport math\n" in text
    assert "from collections.abc import Sequence\n" in text
    assert text.index("import math") < text.index("def speed")
    assert text.rstrip().endswith("return max(math.floor(largest), floor)")
    ast.parse(text)
    assert sources(notebook)[1].splitlines() == [
        "# what is far?",
        "from use_case.features.nodes import haul",
        "",
        "haul.__func__([1.0])",
    ]


def test_the_promoted_function_runs_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook, target = move(tmp_path, IMPORTS, HAUL.replace("@staticmethod\n", "").replace("haul.__func__", "haul"))
    monkeypatch.syspath_prepend(str(tmp_path / "src"))
    for name in [name for name in sys.modules if name.split(".")[0] == "use_case"]:
        monkeypatch.delitem(sys.modules, name)
    assert import_module("use_case.features.nodes").haul([2.5, 1.0]) == 2
    namespace: dict[str, object] = {}
    exec(sources(notebook)[1], namespace)  # noqa: S102 - the cell as the notebook would run it
    assert target.is_file()


def test_only_the_changed_cell_loses_its_output(tmp_path: Path) -> None:
    notebook, _ = move(tmp_path, IMPORTS, HAUL)
    first, second = [cell for cell in nbformat.read(notebook, as_version=4).cells if cell.cell_type == "code"]
    assert first.outputs
    assert not second.outputs
    assert second.execution_count is None


def test_promoting_again_after_an_interruption_only_replaces_the_cell(tmp_path: Path) -> None:
    notebook, target = move(tmp_path, IMPORTS, HAUL)
    text = target.read_text(encoding="utf-8")
    make_notebook(notebook, IMPORTS, HAUL)
    done = promote(notebook, "haul", target, source_root=tmp_path / "src")
    assert done.n_lines_added == 0
    assert target.read_text(encoding="utf-8") == text
    assert "from use_case.features.nodes import haul" in sources(notebook)[1]


def test_a_module_without_imports_gets_them_below_its_docstring(tmp_path: Path) -> None:
    _, target = move(tmp_path, IMPORTS, HAUL, nodes='"""Nodes."""\n')
    assert target.read_text(encoding="utf-8").startswith('"""Nodes."""\n\nfrom collections')


@pytest.mark.parametrize(
    ("cells", "nodes", "expected"),
    [
        (("def haul(x):\n    return x",), NODES, "no docstring"),
        (("scale = 2", 'def haul(x):\n    """Scale."""\n    return x * scale'), NODES, "reads scale of the notebook"),
        (('def haul(x):\n    """D."""\n    return [y * k for y in x]',), NODES, "reads k of the notebook"),
        (("from numpy import *", 'def haul(x):\n    """D."""\n    return mean(x)'), NODES, "reads mean"),
        (("import mlflow", 'def haul(x):\n    """D."""\n    mlflow.log_param("x", x)'), NODES, "nodes are pure"),
        (("import numba as np", 'def haul(x):\n    """D."""\n    return np.f(x)'), NODES, "the target has another np"),
        (
            ("from m import LIMIT", 'def haul(x):\n    """D."""\n    return LIMIT'),
            NODES,
            "the target has another LIMIT",
        ),
        (('def haul(x):\n    """D."""\n    return 1',), NODES + "\n\nhaul = 3\n", "uses the name haul"),
        (
            ('def haul(x):\n    """D."""\n    return 1',),
            NODES + '\n\ndef haul(x):\n    """D."""\n    return 2\n',
            "has a haul that does something else",
        ),
        (('def haul(x):\n    """D."""', 'def haul(x):\n    """D."""'), NODES, "cells 1, 2 define it"),
    ],
)
def test_what_cannot_move_is_refused(tmp_path: Path, cells: tuple[str, ...], nodes: str, expected: str) -> None:
    assert expected in refused(tmp_path, *cells, nodes=nodes)


def test_all_reasons_come_at_once(tmp_path: Path) -> None:
    text = refused(tmp_path, "import mlflow", "def haul(x):\n    return mlflow.a + scale")
    for part in ("no docstring", "reads scale", "nodes are pure"):
        assert part in text


def test_a_name_of_the_target_itself_needs_no_import(tmp_path: Path) -> None:
    cells = ("from use_case.features.nodes import speed", 'def haul(x):\n    """D."""\n    return speed(x, 1)')
    _, target = move(tmp_path, *cells)
    assert "import speed" not in target.read_text(encoding="utf-8")


def test_an_unknown_function_names_the_nearest(tmp_path: Path) -> None:
    notebook, target = make_notebook(tmp_path / "n.ipynb", IMPORTS, HAUL), make_package(tmp_path)
    with pytest.raises(NotFoundError, match="did you mean 'haul'"):
        promote(notebook, "hauls", target, source_root=tmp_path / "src")


def test_only_a_nodes_file_of_the_package_is_a_target(tmp_path: Path) -> None:
    notebook, target = make_notebook(tmp_path / "n.ipynb", HAUL), make_package(tmp_path)
    for wrong in (target.with_name("other.py"), tmp_path / "nodes.py"):
        wrong.touch()
        with pytest.raises(PromotionRefused, match="the target is a nodes"):
            promote(notebook, "haul", wrong, source_root=tmp_path / "src")
    with pytest.raises(NotFoundError, match="no such file"):
        promote(notebook, "haul", tmp_path / "src/none/nodes.py", source_root=tmp_path / "src")


def test_what_is_no_notebook_is_said(tmp_path: Path) -> None:
    target = make_package(tmp_path)
    with pytest.raises(NotFoundError, match="no such file"):
        promote(tmp_path / "none.ipynb", "f", target, source_root=tmp_path / "src")
    broken = tmp_path / "broken.ipynb"
    broken.write_text("no json", encoding="utf-8")
    with pytest.raises(ConfigError, match="not a notebook"):
        promote(broken, "f", target, source_root=tmp_path / "src")
