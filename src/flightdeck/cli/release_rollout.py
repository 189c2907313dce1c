"""`kedro release freeze | thaw | supersede | review | revoke | tier`: what is decided about a version under way."""

import click

from flightdeck.cli.errors import reports_errors
from flightdeck.cli.release_options import ACTOR, PERSON, VERSION, decider
from flightdeck.core.clock import SystemClock
from flightdeck.core.layout import PROJECT, layout
from flightdeck.gates.policy import read_policies
from flightdeck.release import rollout_commands
from flightdeck.release.ledger import Ledger
from flightdeck.release.ledger_config import released_ledger

WHY = click.option("--reason", required=True, help="Why; kept in the ledger.")


@click.command()
@VERSION
@ACTOR
@WHY
@reports_errors
def freeze(version: int, by: str, reason: str) -> None:
    """Keep VERSION where it is, in shadow or canary.

    Nothing moves it on until a person lets it go on or takes it out.
    """
    rollout_commands.freeze(_ledger(), version, by=decider(by), reason=reason)
    click.echo(f"version {version} is frozen; kedro release thaw {version} lets it go on")


@click.command()
@VERSION
@ACTOR
@WHY
@reports_errors
def thaw(version: int, by: str, reason: str) -> None:
    """Let a frozen VERSION go on; the evidence of its step is collected anew."""
    rollout_commands.thaw(_ledger(), version, by=decider(by), reason=reason)
    click.echo(f"version {version} goes on")


@click.command()
@VERSION
@click.option("--newer", type=click.IntRange(min=1), required=True, help="Version that takes its place.")
@ACTOR
@reports_errors
def supersede(version: int, newer: int, by: str) -> None:
    """Let VERSION give way to a newer one, for good."""
    rollout_commands.supersede(_ledger(), version, by=decider(by), newer=newer)
    click.echo(f"version {version} gave way to version {newer}")


@click.command()
@VERSION
@PERSON
@WHY
@reports_errors
def review(version: int, by: str, reason: str) -> None:
    """Enter the review that the emergency release of VERSION owes."""
    rollout_commands.review(_ledger(), version, by=decider(by), reason=reason)
    click.echo(f"version {version} is reviewed")


@click.command("revoke")
@VERSION
@click.option("--approval-of", "name", required=True, help="Name of the person whose approval is taken back.")
@PERSON
@WHY
@reports_errors
def revoke_approval(version: int, name: str, by: str, reason: str) -> None:
    """Take back an approval of VERSION.

    Your own, or with the permission for it that of somebody else.
    """
    record = rollout_commands.revoke_approval(_ledger(), version, by=decider(by), name=name, reason=reason)
    click.echo(f"version {version} is approved by {record.detail['name']} no more")


@click.command("tier")
@VERSION
@click.argument("tier", type=click.Choice(rollout_commands.RANK))
@PERSON
@WHY
@reports_errors
def change_tier(version: int, tier: str, by: str, reason: str) -> None:
    """Give VERSION the risk tier TIER; its approvals are void then. Lowering takes the owner of the tier."""
    record = rollout_commands.change_tier(
        _ledger(), version, by=decider(by), to=tier, policies=read_policies(PROJECT / "conf"), reason=reason
    )
    again = "; the gate must look at it again" if record.detail["voids_verdict"] else ""
    click.echo(f"version {version}: tier {record.detail['from']} -> {tier}{again}")


def _ledger() -> Ledger:
    return released_ledger(layout(), SystemClock())
