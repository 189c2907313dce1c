"""Logic that lives twice: functions in notebook cells that say the same as a function of the use case."""

import ast
from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

from flightdeck.core.identifiers import digest_bytes
from flightdeck.notebooks.cells import code_cells, notebooks_below, read_notebook


@dataclass(frozen=True)
class Duplicate:
    """A function of a notebook and the function of the package that it repeats.

    Parameters
    ----------
    notebook, cell, function
        Notebook, position of the cell from 0, and name of the function.
    module, original
        File and name of the function that does the same.
    """

    notebook: Path
    cell: int
    function: str
    module: Path
    original: str

    def __str__(self) -> str:
        return (
            f"{self.notebook} cell {self.cell}: {self.function} repeats {self.original} of {self.module}; "
            "import it from there"
        )


def body_fingerprint(definition: ast.FunctionDef) -> str:
    """Return a digest of what a function does: parameters and body without name, docstring, decorators, annotations.

    The idea of `flightdeck.core.identifiers.fingerprint`, for code that is not imported; a renamed copy is still a
    copy.
    """
    bare = deepcopy(definition)
    bare.name, bare.decorator_list, bare.returns = "", [], None
    if ast.get_docstring(bare) is not None:
        bare.body = bare.body[1:]
    for argument in ast.walk(bare.args):
        if isinstance(argument, ast.arg):
            argument.annotation = None
    return digest_bytes(ast.dump(bare, annotate_fields=False).encode())


def find_duplicates(notebooks: Path, package: Path) -> list[Duplicate]:
    """Return the functions of the notebooks below one folder that repeat a function of a Python file below another.

    Parameters
    ----------
    notebooks
        Folder of the notebooks.
    package
        Folder of the use case, `src/pipelines`.
    """
    originals = {
        body_fingerprint(function): (path, function.name)
        for path in sorted(package.rglob("*.py"))
        for function in _functions(ast.parse(path.read_text(encoding="utf-8")).body)
    }
    found = []
    for path in notebooks_below(notebooks):
        for cell in code_cells(read_notebook(path)):
            for function in cell.functions():
                original = originals.get(body_fingerprint(function))
                if original is not None:
                    found.append(Duplicate(path, cell.place, function.name, *original))
    return found


def _functions(body: Iterable[ast.stmt]) -> list[ast.FunctionDef]:
    return [item for item in body if isinstance(item, ast.FunctionDef)]
