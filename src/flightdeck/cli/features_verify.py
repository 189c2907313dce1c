"""`kedro features verify`: the engines against each other, on what the store feeds."""

from collections.abc import Sequence

import click
from rich.console import Console
from rich.table import Table

from flightdeck.cli.errors import reports_errors
from flightdeck.cli.features_env import ENV
from flightdeck.core.clock import from_us
from flightdeck.core.errors import FlightdeckError, StoreUnavailable, some
from flightdeck.core.layout import layout
from flightdeck.events.log import EventLog
from flightdeck.features.plan import FedView, read_fed
from flightdeck.features.store_config import read_stores
from flightdeck.features.stores import open_store
from flightdeck.features.verification import (
    ONLINE,
    Comparison,
    chosen_engines,
    sample_entities,
    verify_offline,
    verify_online,
)
from flightdeck.features.view import FeatureView


class EnginesDiffer(FlightdeckError):
    """Two engines give different values for the same question."""

    exit_code = 3


@click.command()
@click.option(
    "--rows",
    type=click.IntRange(1, 100_000),
    default=1000,
    show_default=True,
    help="Most keys to ask about, for each entity.",
)
@click.option("--engines", default="numpy,online", show_default=True, help="Of numpy, duckdb, spark, online.")
@ENV
@reports_errors
def verify(rows: int, engines: str) -> None:
    """Compare engines on the versions that the store feeds; exit 3 if a value differs.

    Every answer of the online store is recomputed from the log at its own watermark and offset.
    """
    others = chosen_engines(engines)
    where = layout()
    log = EventLog(where.event_log)
    found: list[Comparison] = []
    store = open_store(read_stores().online_store(where), read_only=True)
    try:
        for group in _level(list(read_fed(store).values())):
            until_us = max(one.mark.watermark_us for one in group if one.mark)
            for views in _each_name_once([one.view for one in group]):
                entities = sample_entities(store, views, log, until_us, rows)
                for name in others:
                    if name == ONLINE:
                        found += verify_online(store, views, log, entities)
                    else:
                        found += verify_offline(name, views, log, rows)
            click.echo(f"{len(group)} versions that are fed until {from_us(until_us).isoformat()}")
    finally:
        store.close()
    Console().print(_table(found))
    wrong = [f"{name} of {one.view} ({one.engine}: {n})" for one in found for name, n in one.mismatches.items()]
    n_compared = sum(one.n_compared for one in found)
    if wrong:
        raise EnginesDiffer(
            f"{len(wrong)} features differ: {some(wrong)}",
            next_step="fill the versions again: kedro features backfill; what differs still is a defect of an engine",
        )
    n_known = sum(one.n_known or 0 for one in found)
    click.echo(f"{n_compared:,} values compared with numpy ({n_known:,} known online), no mismatch")


def _level(fed: Sequence[FedView]) -> list[list[FedView]]:
    """Group versions by what they reflect: only those can be asked in one question.

    Raises
    ------
    StoreUnavailable
        If nothing is fed.
    """
    groups: dict[tuple[int, str], list[FedView]] = {}
    for one in fed:
        if one.mark is not None:
            groups.setdefault((one.mark.watermark_us, one.mark.offset), []).append(one)
    if not groups:
        raise StoreUnavailable("verifying: the online store feeds nothing", next_step="kedro features apply")
    return list(groups.values())


def _each_name_once(views: Sequence[FeatureView]) -> list[list[FeatureView]]:
    """Split versions so that no name comes twice: versions of a view have features of the same names."""
    rounds: list[list[FeatureView]] = []
    for view in views:
        place = next((one for one in rounds if view.name not in {other.name for other in one}), None)
        if place is None:
            rounds.append([view])
        else:
            place.append(view)
    return rounds


def _table(found: Sequence[Comparison]) -> Table:
    table = Table(title="engines against numpy", title_justify="left")
    for column in ("view", "engine"):
        table.add_column(column, overflow="fold")
    for column in ("compared", "known", "differ"):
        table.add_column(column, justify="right")
    for one in sorted(found, key=lambda one: (one.engine, one.view)):
        n_differing = sum(one.mismatches.values())
        differ = f"[red]{n_differing}[/red]" if n_differing else "0"
        table.add_row(
            one.view, one.engine, f"{one.n_compared:,}", f"{one.n_known:,}" if one.n_known is not None else "", differ
        )
    return table
