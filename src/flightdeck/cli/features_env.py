"""`--env` of every command of `kedro features`: the environment counts for all that the command opens."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import click

from flightdeck.cli.errors import reports_errors
from flightdeck.core.config import ENVIRONMENT, read_layers


@contextmanager
def _environment(name: str) -> Iterator[None]:
    """Let stores, ledger and their places be those of an environment, as if `KEDRO_ENV` named it."""
    before = os.environ.get(ENVIRONMENT)
    os.environ[ENVIRONMENT] = name
    try:
        yield
    finally:
        if before is None:
            del os.environ[ENVIRONMENT]
        else:
            os.environ[ENVIRONMENT] = before


@reports_errors
def _enter(context: click.Context, _: click.Parameter, name: str | None) -> None:
    if not name:
        return
    read_layers("stores.yml", name)  # refuses one that does not exist
    context.with_resource(_environment(name))


ENV = click.option(
    "--env",
    metavar="NAME",
    envvar=ENVIRONMENT,
    expose_value=False,
    callback=_enter,
    help="Environment whose stores.yml and ledger.yml count, such as scale.",
)
