"""Committed notebooks carry no results: an output is data, and it ages."""

from pathlib import Path

from flightdeck.notebooks.cells import notebooks_below, read_notebook


def notebooks_with_outputs(folder: Path) -> dict[Path, int]:
    """Return the notebooks below `folder` that carry outputs or execution counts, with the number of such cells."""
    found = {}
    for path in notebooks_below(folder):
        cells = [cell for cell in read_notebook(path).cells if cell.cell_type == "code"]
        n_executed = sum(bool(cell.outputs) or cell.execution_count is not None for cell in cells)
        if n_executed:
            found[path] = n_executed
    return found
