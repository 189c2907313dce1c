"""`kedro notebooks`: move a function from a notebook to a node, and keep notebooks free of copies and results."""

from pathlib import Path

import click

from flightdeck.cli.errors import reports_errors
from flightdeck.core.errors import ContractViolation
from flightdeck.core.layout import PROJECT
from flightdeck.notebooks.duplicates import find_duplicates
from flightdeck.notebooks.outputs import notebooks_with_outputs
from flightdeck.notebooks.promote import promote as promote_function

NOTEBOOKS = "notebooks"
SOURCES = "src"
USE_CASE = "src/pipelines"


@click.group()
def notebooks() -> None:
    """Keep notebooks and pipelines in step."""


@notebooks.command()
@click.argument("notebook", type=click.Path(path_type=Path))
@click.argument("function")
@click.option("--to", "target", required=True, type=click.Path(path_type=Path), help="The nodes.py to move it to.")
@reports_errors
def promote(notebook: Path, function: str, target: Path) -> None:
    """Move FUNCTION from a cell of NOTEBOOK to a nodes.py; the cell then imports it."""
    done = promote_function(notebook, function, target, source_root=PROJECT / SOURCES)
    what = f"{done.n_lines_added} lines added" if done.n_lines_added else "it was there already"
    click.echo(f"{function} lives in {done.module} ({what}); {notebook.name} imports it")
    click.echo("next: wire it in the stage's pipeline.py, then make format check")


@notebooks.command()
@reports_errors
def check() -> None:
    """Look for functions that live twice and for committed outputs; exit 1 with the list."""
    problems = [str(duplicate) for duplicate in find_duplicates(PROJECT / NOTEBOOKS, PROJECT / USE_CASE)]
    problems += [
        f"{path}: {n} executed cells; strip them with .venv/bin/nbstripout {path}"
        for path, n in notebooks_with_outputs(PROJECT / NOTEBOOKS).items()
    ]
    if problems:
        listed = "".join(f"\n  - {problem.replace(f'{PROJECT}/', '')}" for problem in problems)
        raise ContractViolation(f"{len(problems)} problems in notebooks:{listed}", next_step="see each line")
    click.echo("notebooks: no copies, no outputs")
