"""`kedro run` as Kedro has it, except that an error of ours ends in a message and its exit code, not in a traceback.

A node raises its error through Kedro's runner as it is; a dataset's arrives as the cause of a `DatasetError`. Anything
else is a bug and keeps its traceback.
"""

import sys
from typing import Any

import click
from kedro.framework.cli.project import run as kedro_run

from flightdeck.core.errors import FlightdeckError


def error_of_ours(error: BaseException) -> FlightdeckError | None:
    """Return the first `FlightdeckError` among an exception and its causes, None if there is none."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        if isinstance(current, FlightdeckError):
            return current
        seen.add(id(current))
        current = current.__cause__
    return None


def run_pipelines(**options: Any) -> Any:
    """Run pipelines with the options of Kedro's command; exit with the code of an error of ours."""
    callback = kedro_run.callback
    if callback is None:
        raise TypeError("Kedro's run command has no function behind it")
    try:
        return callback(**options)
    except Exception as error:  # the process edge; what is not ours goes on
        ours = error_of_ours(error)
        if ours is None and str(error).startswith("Failed to find the pipeline"):
            ours = FlightdeckError(str(error), next_step="see the names: kedro registry list")
        if ours is None:
            raise
        click.secho(f"error: {ours}", fg="red", err=True)
        sys.exit(ours.exit_code)


run = click.Command("run", callback=run_pipelines, params=kedro_run.params, help=kedro_run.help)
