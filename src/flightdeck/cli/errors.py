"""The edge where an error of ours becomes a message and an exit code."""

import functools
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import click

from flightdeck.core.errors import FlightdeckError

P = ParamSpec("P")
R = TypeVar("R")


def reports_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Wrap a command so that a `FlightdeckError` is printed to standard error and its exit code returned."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except FlightdeckError as error:
            click.secho(f"error: {error}", fg="red", err=True)
            sys.exit(error.exit_code)

    return wrapped
