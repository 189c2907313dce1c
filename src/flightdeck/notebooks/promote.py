"""Promote a function from a notebook cell to a `nodes.py`: the notebook then imports what the pipelines run.

The module is written first, the notebook second. Interrupted in between, promoting again finds the function at home
and only replaces the cell.
"""

import ast
from dataclasses import dataclass
from pathlib import Path

import nbformat

from flightdeck.core.errors import FlightdeckError, NotFoundError, nearest, some
from flightdeck.core.files import write_atomically
from flightdeck.notebooks.cells import CodeCell, code_cells, read_notebook
from flightdeck.notebooks.duplicates import body_fingerprint
from flightdeck.notebooks.names import imported_names, module_of, outside_names, top_level_names

IMPURE = ("kedro", "mlflow", "evidently", "fastapi", "streamlit")


class PromotionRefused(FlightdeckError):
    """A function that cannot move to a module as it is."""


@dataclass(frozen=True)
class Promotion:
    """What a promotion did.

    Parameters
    ----------
    module
        Import path of the function's new home.
    n_lines_added
        Lines that the module gained; 0 if the function was there already.
    imports_added
        Import statements that the module gained.
    """

    module: str
    n_lines_added: int
    imports_added: tuple[str, ...]


def promote(notebook: Path, function: str, target: Path, *, source_root: Path) -> Promotion:
    """Move `function` from a cell of `notebook` to `target` and let the cell import it from there.

    Parameters
    ----------
    notebook
        Notebook that defines the function, at the top level of one cell.
    function
        Name of the function.
    target
        A `nodes.py` below `source_root`.
    source_root
        Folder that import paths start from (`src`).

    Raises
    ------
    NotFoundError
        If the notebook, the function or the target does not exist.
    PromotionRefused
        If the function has no docstring, reads names of the notebook, needs an impure import or meets another meaning
        of one of its names in the target. All reasons are given at once.
    """
    module = _module_name(target, source_root)
    content = read_notebook(notebook)
    cells = code_cells(content)
    cell, definition = _find(cells, function, notebook)
    home = target.read_text(encoding="utf-8")
    tree = ast.parse(home)
    imports, problems = _needed_imports(definition, cells, tree, module)
    present = next((f for f in tree.body if isinstance(f, ast.FunctionDef) and f.name == function), None)
    if ast.get_docstring(definition) is None:
        problems.insert(0, "it has no docstring")
    if present is not None and body_fingerprint(present) != body_fingerprint(definition):
        problems.append(f"{target} has a {function} that does something else")
    elif present is None and function in top_level_names(tree):
        problems.append(f"{target} uses the name {function} for something else")
    if problems:
        raise PromotionRefused(
            f"promoting {function} of {notebook.name}: {'; '.join(problems)}",
            next_step="make it a pure function of its parameters, with a docstring, and promote it again",
        )
    added = () if present is not None else tuple(imports)
    grown = home if present is not None else _with_function(home, tree, added, _text_of(cell, definition))
    if grown != home:
        write_atomically(target, grown.encode())
    _import_in_cell(content, cell, definition, f"from {module} import {function}")
    write_atomically(notebook, (nbformat.writes(content).rstrip("\n") + "\n").encode())
    return Promotion(module, grown.count("\n") - home.count("\n"), added)


def _module_name(target: Path, source_root: Path) -> str:
    """Return the import path of `target`, refusing what is no nodes.py of a package."""
    inside = target.resolve().is_relative_to(source_root.resolve())
    if target.name != "nodes.py" or not inside:
        raise PromotionRefused(
            f"promoting to {target}: the target is a nodes.py below {source_root}",
            next_step="name one, such as src/pipelines/features/nodes.py",
        )
    if not target.is_file():
        raise NotFoundError(
            f"promoting to {target}: no such file", next_step="create the stage first, with a docstring in its nodes.py"
        )
    return ".".join(target.resolve().relative_to(source_root.resolve()).with_suffix("").parts)


def _find(cells: list[CodeCell], function: str, notebook: Path) -> tuple[CodeCell, ast.FunctionDef]:
    """Return the one cell that defines `function`, and the definition."""
    found = [(cell, item) for cell in cells for item in cell.functions() if item.name == function]
    if not found:
        names = [item.name for cell in cells for item in cell.functions()]
        raise NotFoundError(
            f"promoting {function!r}{nearest(function, names)}: no cell of {notebook.name} defines it; "
            f"defined there: {some(names) or 'no function'}",
            next_step="give the name of a function that a cell defines at its top level",
        )
    if len(found) > 1:
        raise PromotionRefused(
            f"promoting {function} of {notebook.name}: cells {', '.join(str(cell.place) for cell, _ in found)} define "
            "it",
            next_step="delete all but one definition",
        )
    return found[0]


def _needed_imports(
    definition: ast.FunctionDef, cells: list[CodeCell], home: ast.Module, module: str
) -> tuple[list[str], list[str]]:
    """Return the import statements that the target lacks, and what keeps the function from moving."""
    at_notebook = imported_names(cell.tree for cell in cells if cell.tree)
    at_home, taken = imported_names([home]), top_level_names(home)
    imports: list[str] = []
    problems: list[str] = []
    globals_read: list[str] = []
    for name in sorted(outside_names(definition)):
        statement = at_notebook.get(name)
        if statement is None:
            globals_read.append(name)
            continue
        text = ast.unparse(statement)
        if module_of(statement).partition(".")[0] in IMPURE:
            problems.append(f"it needs {text!r}, and nodes are pure")
        elif module_of(statement) == module:
            continue
        elif name not in taken:
            imports.append(text)
        elif name not in at_home or ast.unparse(at_home[name]) != text:
            problems.append(f"the target has another {name}")
    if globals_read:
        problems.insert(0, f"it reads {some(globals_read)} of the notebook: pass them as parameters")
    return imports, problems


def _text_of(cell: CodeCell, definition: ast.FunctionDef) -> str:
    first, last = _span(definition)
    return "\n".join(cell.source.splitlines()[first:last])


def _with_function(home: str, tree: ast.Module, imports: tuple[str, ...], function: str) -> str:
    """Return a module's text with imports after its last import (or its docstring) and the function at its end."""
    lines = home.rstrip("\n").splitlines()
    heads: list[ast.stmt] = [item for item in tree.body if isinstance(item, ast.Import | ast.ImportFrom)]
    if not heads and ast.get_docstring(tree) is not None:
        heads = tree.body[:1]
        imports = ("", *imports) if imports else ()
    after = heads[-1].end_lineno or 0 if heads else 0
    return "\n".join([*lines[:after], *imports, *lines[after:], "", "", function]) + "\n"


def _import_in_cell(
    notebook: nbformat.NotebookNode, cell: CodeCell, definition: ast.FunctionDef, statement: str
) -> None:
    """Replace the definition by an import; what the cell showed is no longer its result."""
    first, last = _span(definition)
    lines = cell.source.splitlines()
    changed = notebook.cells[cell.place]
    changed.source = "\n".join([*lines[:first], statement, *lines[last:]])
    changed.outputs, changed.execution_count = [], None


def _span(definition: ast.FunctionDef) -> tuple[int, int]:
    """Return first and last line of a definition with its decorators, as a slice."""
    first = min([definition.lineno, *(decorator.lineno for decorator in definition.decorator_list)])
    return first - 1, definition.end_lineno or definition.lineno
