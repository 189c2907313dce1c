"""`kedro release`: look at model versions, fetch, approve, promote, reject them, and go back.

Each command parses, calls `flightdeck.release.commands` and prints. After a change MLflow's aliases are reconciled; if
MLflow is away that is a warning, because the ledger decides.
"""

import click
from rich.console import Console

from flightdeck.cli.errors import reports_errors
from flightdeck.cli.fetch_progress import FetchProgress
from flightdeck.cli.release_options import ACTOR, PERSON, REASON, VERSION
from flightdeck.cli.release_routes import route
from flightdeck.cli.release_tables import concerns, history_table, print_version, versions_table
from flightdeck.core.clock import SystemClock
from flightdeck.core.layout import PROJECT, layout
from flightdeck.gates.policy import read_policies
from flightdeck.inference.delivery import fetch_bundle, source_folder
from flightdeck.release import commands
from flightdeck.release.ledger import Ledger
from flightdeck.release.reconciler import reconcile_or_warn
from flightdeck.release.state import CANARY, PROD, STAGING, version_state


@click.group()
def release() -> None:
    """Look at model versions, approve, promote or reject them, and roll back.

    A version goes candidate -> staging -> canary -> prod, one stage at a time. Leaving staging needs the approval of a
    named person. Every step is a record in the ledger, which nobody can change afterwards.
    """


release.add_command(route)


@release.command("list")
@reports_errors
def list_versions() -> None:
    """List all versions with stage, verdict and approvals."""
    ledger = _ledger()
    state = commands.current_state(ledger)
    console = Console()
    console.print(versions_table(state))
    share = f" (canary {state.canary}: {state.canary_share:.0%} of the units)" if state.canary is not None else ""
    console.print(f"champion: {state.champion or 'none yet'}{share}; {state.seq} ledger records, chain intact")


@release.command()
@VERSION
@reports_errors
def show(version: int) -> None:
    """Show the verdict's checks, digest, stage, approvals and history of VERSION."""
    ledger = _ledger()
    records = ledger.records()
    state = commands.current_state(ledger)
    version_state(state, version)
    console = Console()
    print_version(console, state, version, layout().bundles)
    console.print(history_table([record for record in records if concerns(record, version)]))


@release.command()
@VERSION
@PERSON
@click.option("--reason", default="", help="What convinced you; kept in the ledger.")
@reports_errors
def approve(version: int, by: str, reason: str) -> None:
    """Approve the bundle of VERSION as a named person, after reading its evaluation.

    The approval is bound to the digest of the bundle: one byte changed and it counts no more.
    """
    ledger = _ledger()
    record = commands.approve(ledger, version, by=by, bundles=layout().bundles, reason=reason)
    click.echo(f"version {version} (bundle {record.detail['digest'][:16]}) approved by {record.actor}")
    _reconcile(ledger)


@release.command()
@VERSION
@click.option("--to", type=click.Choice([STAGING, CANARY, PROD]), help="Stage to move to; the next one where left out.")
@click.option("--share", type=float, help="Share of the units for a canary, one of the risk tier's steps.")
@ACTOR
@reports_errors
def promote(version: int, to: str | None, share: float | None, by: str) -> None:
    """Move VERSION one stage on: candidate -> staging -> canary -> prod.

    `--to canary` for a version that is in canary already raises its share to the next step.
    """
    ledger = _ledger()
    record = commands.promote(
        ledger, version, by=by, policies=read_policies(PROJECT / "conf"), bundles=layout().bundles, to=to, share=share
    )
    at = f", {record.detail['share']:.0%} of the units" if "share" in record.detail else ""
    replaced = f", in place of version {record.detail['replaces']}" if record.detail.get("replaces") else ""
    click.echo(f"version {version}: {record.detail['from']} -> {record.detail['to']}{at}{replaced}")
    _reconcile(ledger)


@release.command()
@VERSION
@PERSON
@click.option("--reason", required=True, help="Why; kept in the ledger.")
@reports_errors
def reject(version: int, by: str, reason: str) -> None:
    """Reject VERSION for good, while it is in candidate or staging."""
    ledger = _ledger()
    record = commands.reject(ledger, version, by=by, reason=reason)
    click.echo(f"version {version} rejected by {record.actor}")
    _reconcile(ledger)


@release.command()
@ACTOR
@REASON
@reports_errors
def rollback(by: str, reason: str) -> None:
    """Take the live canary out; without one, return to the champion before this one."""
    ledger = _ledger()
    out, back = commands.rollback(ledger, by=by, reason=reason, bundles=layout().bundles)
    serves = f"version {back} serves" if back is not None else "no version serves: there is no champion yet"
    click.echo(f"version {out} taken out, {serves}")
    _reconcile(ledger)


@release.command()
@VERSION
@click.option("--from", "source", required=True, help="Folder of bundles in the artifact store, or its file:// URL.")
@reports_errors
def fetch(version: int, source: str) -> None:
    """Copy the bundle of VERSION from the artifact store to this machine.

    A copy that was cut off goes on where it stopped. The bundle appears once all of it is what the ledger says.
    """
    digest, folder = version_state(commands.current_state(_ledger()), version).digest, source_folder(source)
    with FetchProgress(Console(stderr=True), f"version {version}") as shown:
        done = fetch_bundle(folder, layout().bundles, digest=digest, on_begin=shown.begin, on_progress=shown.advance)
    click.echo(
        f"version {version}: bundle {done.bundle.path} is complete, {done.n_copied_bytes / 1e6:,.1f} MB copied, "
        f"{done.n_kept_bytes / 1e6:,.1f} MB were there"
    )


@release.command()
@reports_errors
def reconcile() -> None:
    """Verify the ledger and make MLflow's aliases say what it says."""
    ledger = _ledger()
    commands.current_state(ledger)
    ledger.verify()
    _reconcile(ledger)
    click.echo("the ledger is intact")


def _ledger() -> Ledger:
    return Ledger(layout().ledger, SystemClock())


def _reconcile(ledger: Ledger) -> None:
    for warning in reconcile_or_warn(ledger, layout().mlflow_uri, layout().bundles):
        click.secho(f"warning: {warning}", fg="yellow", err=True)
