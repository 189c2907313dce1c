"""`kedro features preview`: a declaration on the newest real events, before anything is applied."""

from importlib import import_module

import click
import pandas as pd
from rich.console import Console
from rich.table import Table

from flightdeck.cli.errors import reports_errors
from flightdeck.cli.features_env import ENV
from flightdeck.core.errors import ConfigError, NotFoundError, nearest
from flightdeck.core.layout import layout
from flightdeck.events.log import EventLog
from flightdeck.features.preview import preview as preview_rows
from flightdeck.features.view import FeatureView
from pipelines.features.views import VIEWS

MAX_COLUMNS = 12
FEATURE_WIDTH = 9


@click.command()
@click.argument("view")
@click.option("--rows", type=click.IntRange(1, 1000), default=10, show_default=True, help="How many events to show.")
@ENV
@reports_errors
def preview(view: str, rows: int) -> None:
    """Show what VIEW gives at its newest events: the name of a declared view, or module:ATTRIBUTE of a new one."""
    declared = find_view(view)
    found = preview_rows(declared, EventLog(layout().event_log), rows)
    console = Console()
    for table in preview_tables(declared.name, found, console.width):
        console.print(table)
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


def preview_tables(name: str, found: pd.DataFrame, width: int) -> list[Table]:
    """Return the rows of a preview as tables one below the other, each as many features as fit `width` characters."""
    n_entity = list(found.columns).index("at")
    features = list(map(str, found.columns[n_entity + 1 :]))
    shown = features[:MAX_COLUMNS]
    rows = [(f"{row['at']:%Y-%m-%d %H:%M:%S}", *map(str, row.iloc[:n_entity])) for _, row in found.iterrows()]
    left = ["at (UTC)", *map(str, found.columns[:n_entity])]
    taken = 1 + sum(max(map(len, cells)) + 3 for cells in zip(left, *rows, strict=True))
    n_fit = max(1, (width - taken) // (FEATURE_WIDTH + 3))
    tables = []
    for start in range(0, len(shown), n_fit):
        part = shown[start : start + n_fit]
        table = Table(title=f"{name} at recent events" if not start else None, title_justify="left")
        for column in left:
            table.add_column(column, no_wrap=True)
        for column in part:
            table.add_column(column, justify="right", overflow="fold", min_width=FEATURE_WIDTH)
        for cells, values in zip(rows, found[part].to_numpy(float), strict=True):
            table.add_row(*cells, *(f"{value:.6g}" for value in values))
        tables.append(table)
    if len(features) > len(shown):
        tables[-1].caption = f"and {len(features) - len(shown)} more features"
    return tables
