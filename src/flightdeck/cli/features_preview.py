"""`kedro features preview`: a declaration on the newest real events, before anything is applied."""

from importlib import import_module

import click
import pandas as pd
from rich.console import Console
from rich.table import Table

from flightdeck.cli.errors import reports_errors
from flightdeck.core.errors import ConfigError, NotFoundError, nearest
from flightdeck.core.layout import layout
from flightdeck.events.log import EventLog
from flightdeck.features.preview import preview as preview_rows
from flightdeck.features.view import FeatureView
from pipelines.features.views import VIEWS

MAX_COLUMNS = 8


@click.command()
@click.argument("view")
@click.option("--rows", type=click.IntRange(1, 1000), default=10, show_default=True, help="How many events to show.")
@reports_errors
def preview(view: str, rows: int) -> None:
    """Show what VIEW gives at its newest events: the name of a declared view, or module:ATTRIBUTE of a new one."""
    declared = find_view(view)
    found = preview_rows(declared, EventLog(layout().event_log), rows)
    Console().print(preview_table(declared.name, found))
    click.echo(f"{declared.name}@{declared.version}: {len(declared.columns)} features")


def find_view(text: str) -> FeatureView:
    """Return the view of a name, or the one at `module:ATTRIBUTE`.

    Raises
    ------
    NotFoundError
        If there is none.
    ConfigError
        If what is there is not a view.
    """
    module, colon, attribute = text.partition(":")
    if not colon:
        found = {view.name: view for view in VIEWS}
        if text not in found:
            raise NotFoundError(
                f"previewing: no view {text!r} is declared{nearest(text, found)}",
                next_step="name one of kedro features plan, or module:ATTRIBUTE",
            )
        return found[text]
    try:
        value = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise NotFoundError(
            f"previewing {text}: {error}", next_step="write module:ATTRIBUTE, importable from here"
        ) from error
    if not isinstance(value, FeatureView):
        raise ConfigError(f"previewing {text}: it is a {type(value).__name__}", next_step="name a FeatureView")
    return value


def preview_table(name: str, found: pd.DataFrame) -> Table:
    """Return the rows of a preview as a table, as many features as fit a screen."""
    n_before = list(found.columns).index("at") + 1
    shown = list(found.columns[n_before : n_before + MAX_COLUMNS])
    table = Table(title=f"{name} at recent events", title_justify="left")
    table.add_column("at (UTC)")
    for column in (*found.columns[: n_before - 1], *shown):
        table.add_column(str(column), justify="right", overflow="fold")
    for _, row in found.iterrows():
        entity = [str(value) for value in row.iloc[: n_before - 1]]
        values = [f"{value:.6g}" for value in row[shown].astype(float)]
        table.add_row(f"{row['at']:%Y-%m-%d %H:%M:%S}", *entity, *values)
    if len(found.columns) > n_before + len(shown):
        table.caption = f"and {len(found.columns) - n_before - len(shown)} more features"
    return table
