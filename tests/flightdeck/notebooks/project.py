"""A small package with one nodes.py, and notebooks made of cells."""

from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

NODES = '''"""Nodes of the stage."""

import numpy as np


def speed(distance: float, hours: float) -> float:
    """Return distance an hour."""
    return distance / hours


LIMIT = 3
'''


def make_package(root: Path, nodes: str = NODES) -> Path:
    """Write `src/use_case/features/nodes.py` below `root` and return its path."""
    target = root / "src/use_case/features/nodes.py"
    target.parent.mkdir(parents=True)
    target.write_text(nodes, encoding="utf-8")
    return target


def make_notebook(path: Path, *cells: str, executed: bool = False) -> Path:
    """Write a notebook with a title and code cells, executed or not, and return its path."""
    notebook = new_notebook(cells=[new_markdown_cell("# Title"), *(new_code_cell(cell) for cell in cells)])
    if executed:
        for cell in notebook.cells[1:]:
            cell.execution_count = 1
            cell.outputs = [new_output("stream", text="done")]
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
    return path


def sources(path: Path) -> list[str]:
    """Return the texts of a notebook's code cells."""
    return [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
