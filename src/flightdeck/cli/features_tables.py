"""Tables of `kedro features`: a plan with its cost, and what is fed."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flightdeck.cli.feature_readers import Reader, readers_of
from flightdeck.core.clock import from_us
from flightdeck.events.offset import offset_of, versions_of
from flightdeck.features.backfill_cost import EVENTS_A_SECOND, SECONDS_A_VIEW, BackfillCost, total_cost
from flightdeck.features.plan import FeaturePlan, FedView
from flightdeck.features.view import FeatureView

COLOURS = {"new": "green", "new version": "yellow", "described anew": "cyan"}


def print_plan(
    console: Console, plan: FeaturePlan, costs: Mapping[str, BackfillCost], readers: Sequence[Reader]
) -> None:
    """Print what applying would do, what it would cost, and what stays fed although nothing declares it."""
    table = Table(title="feature views", title_justify="left")
    table.add_column("view@version", no_wrap=True)
    table.add_column("kind", no_wrap=True)
    table.add_column("changes and cost", overflow="fold")
    for planned in plan.views:
        colour, view = COLOURS.get(planned.kind), planned.view
        kind = f"[{colour}]{planned.kind}[/{colour}]" if colour else planned.kind
        told = [*planned.changes, *_cost(costs.get(view.digest))]
        table.add_row(f"{view.name}@{view.version}", kind, escape("; ".join(told)))
    console.print(table)
    if costs:
        cost = total_cost(list(costs.values()))
        rates = f"at {EVENTS_A_SECOND:,} events a second and {SECONDS_A_VIEW} s a version"
        console.print(
            f"to fill: {len(plan.to_fill)} versions, {cost.n_events:,} events to read, {cost.n_keys:,} keys, about "
            f"{cost.seconds:.1f} s {rates}, at most {_size(cost.n_bytes)}",
            highlight=False,
            soft_wrap=True,
        )
    else:
        console.print("nothing to fill: the store feeds every declared version")
    for view in plan.others:
        console.print(
            f"fed, but no longer declared: {view.name}@{view.version}, {_read_by(view, readers)}",
            highlight=False,
            soft_wrap=True,
        )
    for view in plan.outdated:
        console.print(outdated_line(view, readers), highlight=False, soft_wrap=True)


def outdated_line(view: FeatureView, readers: Sequence[Reader]) -> str:
    """Return what to say of a version that code of another meaning left in the store."""
    return (
        f"kept, but not fed: {view.name}@{view.version}, whose declaration means something else to this code; "
        f"{_read_by(view, readers)} (kedro features retire)"
    )


def status_table(
    fed: Sequence[FedView], declared: Sequence[FeatureView], readers: Sequence[Reader], now: datetime
) -> Table:
    """Return one row a version that is fed."""
    digests = {view.digest for view in declared}
    table = Table(title="online store", title_justify="left")
    table.add_column("view@version", no_wrap=True)
    for column in ("known until (UTC)", "lag", "offset", "read by"):
        table.add_column(column, overflow="fold")
    for found in sorted(fed, key=lambda one: (one.view.name, one.view.digest not in digests)):
        view, mark = found.view, found.mark
        known, lag, offset = "[red]never filled[/red]", "-", "-"
        if mark is not None:
            at = from_us(mark.watermark_us)
            age_s = (now - at).total_seconds()
            known, offset = f"{at:%Y-%m-%d %H:%M:%S}", _own_offset(view, mark.offset) or "not known"
            lag = _duration(age_s) if age_s <= view.freshness_slo_s else f"[yellow]{_duration(age_s)}[/yellow]"
        name = f"{view.name}@{view.version}"
        name = name if view.digest in digests else f"[yellow]{name}[/yellow] (no longer declared)"
        table.add_row(name, known, lag, escape(offset), _read_by(view, readers))
    return table


def _own_offset(view: FeatureView, offset: str) -> str:
    """Return the part of an offset that is about a view's own streams; all of it where it names no versions."""
    versions = versions_of(offset)
    return offset_of({stream: versions[stream] for stream in view.sources if stream in versions}) or offset


def _read_by(view: FeatureView, readers: Sequence[Reader]) -> str:
    reading = readers_of(view, readers)
    if not reading:
        return "nobody reads it"
    return ", ".join(f"{reader}{' perhaps: its bundle is unreadable' * (reader.digests is None)}" for reader in reading)


def _cost(cost: BackfillCost | None) -> list[str]:
    return [f"{cost.n_events:,} events, {cost.seconds:.2f} s, {_size(cost.n_bytes)}"] if cost else []


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:,.1f} MB" if n_bytes >= 1e6 else f"{n_bytes / 1e3:,.1f} kB"


def _duration(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if abs(seconds) >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
