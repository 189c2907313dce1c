"""`kedro release route`: who decides for whom beside champion and canary, and who scores a copy.

Each command names an edit of `flightdeck.release.route_edits` and puts it in force.
"""

from collections.abc import Callable

import click
from rich.console import Console

from flightdeck.cli.errors import reports_errors
from flightdeck.cli.release_options import ACTOR, REASON, VERSION, decider
from flightdeck.cli.release_tables import routes_table
from flightdeck.core.clock import SystemClock
from flightdeck.core.layout import PROJECT, layout
from flightdeck.gates.policy import read_policies
from flightdeck.release import route_edits as edits
from flightdeck.release.decisions import current_state
from flightdeck.release.ledger import Ledger
from flightdeck.release.ledger_config import released_ledger
from flightdeck.release.people import read_people
from flightdeck.release.route_commands import change_routes
from flightdeck.release.stages import ReleaseState
from pipelines.features.model_input import REQUEST_COLUMNS

NAME = click.argument("name")
SHARE = click.option("--share", type=float, required=True, help="Share of the units, above 0 and at most 1.")


@click.group()
def route() -> None:
    """Look at and change who decides for whom: shadows, experiments, segments.

    An item is answered by the first of: an arm of an experiment, the canary, the champion; if it is in a segment, by
    those of the segment. Champion and canary are moved by `kedro release promote` and `kedro release rollback`.
    """


@route.command()
@reports_errors
def show() -> None:
    """Show every route that is in force."""
    Console().print(routes_table(current_state(_ledger())))


@route.group()
def shadow() -> None:
    """Let versions score a copy of the traffic; what they say is never returned."""


@shadow.command("add")
@VERSION
@click.option(
    "--share", type=float, default=1.0, show_default=True, help="Share of the units that it scores a copy of."
)
@ACTOR
@REASON
@reports_errors
def add_shadow(version: int, share: float, by: str, reason: str) -> None:
    """Let VERSION score a copy of a share of the units; for a shadow that is there, its new share."""
    _put_in_force(lambda state: edits.set_shadow(state, version, share), by, reason)


@shadow.command("remove")
@VERSION
@ACTOR
@REASON
@reports_errors
def remove_shadow(version: int, by: str, reason: str) -> None:
    """Let VERSION score no copies any more."""
    _put_in_force(lambda state: edits.remove_shadow(state, version), by, reason)


@route.group()
def experiment() -> None:
    """Compare versions: each unit stays with one arm."""


@experiment.command("add")
@NAME
@click.option("--arm", "arms", multiple=True, required=True, metavar="NAME=VERSION:SHARE", help="An arm; give several.")
@click.option("--segment", default="", help="Segment in which it runs; outside of all segments where left out.")
@ACTOR
@REASON
@reports_errors
def add_experiment(name: str, arms: tuple[str, ...], segment: str, by: str, reason: str) -> None:
    """Begin the experiment NAME; units that no arm holds are answered as before."""
    wanted = [_arm(text) for text in arms]
    _put_in_force(lambda state: edits.add_experiment(state, name, wanted, segment), by, reason)


@experiment.command("share")
@NAME
@click.argument("arm")
@SHARE
@ACTOR
@REASON
@reports_errors
def share_arm(name: str, arm: str, share: float, by: str, reason: str) -> None:
    """Give ARM of the experiment NAME another share; no unit leaves another arm."""
    _put_in_force(lambda state: edits.set_arm_share(state, name, arm, share), by, reason)


@experiment.command("remove")
@NAME
@ACTOR
@REASON
@reports_errors
def remove_experiment(name: str, by: str, reason: str) -> None:
    """End the experiment NAME."""
    _put_in_force(lambda state: edits.remove_experiment(state, name), by, reason)


@route.group()
def segment() -> None:
    """Give items with certain request columns releases of their own."""


@segment.command("add")
@NAME
@click.option("--where", "conditions", multiple=True, required=True, metavar="COLUMN=VALUE,...", help="All must hold.")
@click.option("--champion", type=click.IntRange(min=1), help="Version that decides; the champion where left out.")
@click.option("--before", help="Segment that it comes before: the first one that matches counts.")
@ACTOR
@REASON
@reports_errors
def add_segment(
    name: str, conditions: tuple[str, ...], champion: int | None, before: str | None, by: str, reason: str
) -> None:
    """Begin the segment NAME; neither canary nor experiments of the other items apply in it."""
    where = dict(_condition(text) for text in conditions)
    if len(where) < len(conditions):
        raise click.BadParameter("a column is named once, with all of its values", param_hint="--where")

    def edit(state: ReleaseState) -> edits.Edit:
        return edits.add_segment(state, name, where, champion=champion, before=before, columns=REQUEST_COLUMNS)

    _put_in_force(edit, by, reason)


@segment.command("canary")
@NAME
@VERSION
@click.option("--share", type=float, help="One of the risk tier's steps; the next one where left out.")
@ACTOR
@REASON
@reports_errors
def segment_canary(name: str, version: int, share: float | None, by: str, reason: str) -> None:
    """Make VERSION the canary of the segment NAME, or give the canary there another share."""
    policies = read_policies(PROJECT / "conf")
    _put_in_force(lambda state: edits.set_segment_canary(state, name, version, policies, share), by, reason)


@segment.command("promote")
@NAME
@ACTOR
@REASON
@reports_errors
def promote_segment(name: str, by: str, reason: str) -> None:
    """Make the canary of the segment NAME its champion."""
    _put_in_force(lambda state: edits.promote_segment_canary(state, name), by, reason)


@segment.command("rollback")
@NAME
@ACTOR
@REASON
@reports_errors
def roll_back_segment(name: str, by: str, reason: str) -> None:
    """Take the canary of the segment NAME out; without one its champion, and the champion of all others answers."""
    _put_in_force(lambda state: edits.roll_back_segment(state, name), by, reason)


@segment.command("remove")
@NAME
@ACTOR
@REASON
@reports_errors
def remove_segment(name: str, by: str, reason: str) -> None:
    """End the segment NAME: its items are answered as all others are."""
    _put_in_force(lambda state: edits.remove_segment(state, name), by, reason)


def _put_in_force(edit: Callable[[ReleaseState], edits.Edit], by: str, reason: str) -> None:
    policies, bundles = read_policies(PROJECT / "conf"), layout().bundles
    record = change_routes(
        _ledger(),
        edit,
        by=decider(by),
        policies=policies,
        people=read_people(PROJECT / "conf"),
        bundles=bundles,
        reason=reason,
    )
    click.echo(f"{record.detail['what']}; the service follows within a second")


def _arm(text: str) -> tuple[str, int, float]:
    name, _, rest = text.partition("=")
    version, _, share = rest.partition(":")
    try:
        return name, int(version), float(share)
    except ValueError:
        raise click.BadParameter(f"{text!r} is no NAME=VERSION:SHARE, such as new=5:0.1", param_hint="--arm") from None


def _condition(text: str) -> tuple[str, tuple[str, ...]]:
    column, _, values = text.partition("=")
    return column, tuple(value.strip() for value in values.split(",")) if values else ()


def _ledger() -> Ledger:
    return released_ledger(layout(), SystemClock())
