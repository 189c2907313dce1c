"""Reading the code of a notebook: cells as Python that parses, with line numbers kept."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nbformat

from flightdeck.core.errors import ConfigError, NotFoundError


@dataclass(frozen=True)
class CodeCell:
    """One code cell.

    Parameters
    ----------
    place
        Position among all cells of the notebook, from 0.
    source
        Text as it is in the notebook.
    tree
        Parsed code, magics left out; None where it is no Python.
    """

    place: int
    source: str
    tree: ast.Module | None

    def functions(self) -> list[ast.FunctionDef]:
        """Return the functions that the cell defines at its top level."""
        return [item for item in (self.tree.body if self.tree else []) if isinstance(item, ast.FunctionDef)]


def read_notebook(path: Path) -> nbformat.NotebookNode:
    """Read a notebook in format 4.

    Raises
    ------
    NotFoundError
        If the file does not exist.
    ConfigError
        If it is no notebook.
    """
    try:
        return nbformat.read(path, as_version=4)
    except FileNotFoundError as error:
        raise NotFoundError(f"reading notebook {path}: no such file", next_step="check the path") from error
    except (nbformat.reader.NotJSONError, nbformat.ValidationError, AttributeError, KeyError) as error:
        raise ConfigError(f"reading {path}: not a notebook: {error}", next_step="restore it from git") from error


def code_cells(notebook: nbformat.NotebookNode) -> list[CodeCell]:
    """Return the code cells in order."""
    return [
        CodeCell(place, cell.source, parse(cell.source))
        for place, cell in enumerate(notebook.cells)
        if cell.cell_type == "code"
    ]


def notebooks_below(folder: Path) -> Iterator[Path]:
    """Yield the notebooks below `folder` in order of their paths, checkpoints left out."""
    for path in sorted(folder.rglob("*.ipynb")):
        if ".ipynb_checkpoints" not in path.parts:
            yield path


def parse(source: str) -> ast.Module | None:
    """Return the parsed code of a cell, its magics and shell lines replaced by `pass`; None where it does not parse.

    Examples
    --------
    >>> type(parse("%matplotlib inline").body[0]).__name__
    'Pass'
    """
    if source.lstrip().startswith("%%"):
        return None
    try:
        return ast.parse("\n".join(_without_magic(line) for line in source.splitlines()))
    except SyntaxError:
        return None


def _without_magic(line: str) -> str:
    stripped = line.lstrip()
    return line[: len(line) - len(stripped)] + "pass" if stripped.startswith(("%", "!", "?")) else line
