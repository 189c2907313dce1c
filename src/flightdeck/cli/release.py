"""`kedro release`: look at model versions, fetch, approve, promote, reject them, and go back.

Each command parses, calls `flightdeck.release.commands` and prints. After a change MLflow's aliases are reconciled; if
MLflow is away that is a warning, because the ledger decides.
"""

from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape

from flightdeck.cli.errors import reports_errors
from flightdeck.cli.fetch_progress import FetchProgress
from flightdeck.cli.release_controller import rollout
from flightdeck.cli.release_options import ACTOR, PERSON, REASON, VERSION, decider
from flightdeck.cli.release_people import people
from flightdeck.cli.release_rehearse import rehearse
from flightdeck.cli.release_rollout import change_tier, freeze, review, revoke_approval, supersede, thaw
from flightdeck.cli.release_routes import route
from flightdeck.cli.release_tables import concerns, history_table, print_version, versions_table
from flightdeck.cli.release_why import why
from flightdeck.core.clock import SystemClock
from flightdeck.core.errors import NotFoundError
from flightdeck.core.layout import PROJECT, layout
from flightdeck.gates.policy import Policies, read_policies
from flightdeck.inference.delivery import fetch_bundle, source_folder
from flightdeck.release import commands
from flightdeck.release.decisions import current_state
from flightdeck.release.ledger import Ledger
from flightdeck.release.ledger_config import released_ledger
from flightdeck.release.moves import version_state
from flightdeck.release.order_entry import enter_orders, roll_back
from flightdeck.release.orders import read_orders
from flightdeck.release.people import read_people
from flightdeck.release.reconciler import reconcile_or_warn
from flightdeck.release.registry import Registry
from flightdeck.release.rollout.label_check import label_line
from flightdeck.release.second_copy import BackedShelf
from flightdeck.release.stages import CANARY, PROD, SHADOW, STAGING


@click.group()
def release() -> None:
    """Look at model versions, approve, promote or reject them, and roll back.

    A version goes candidate -> staging -> shadow -> canary -> prod, one step at a time; its risk tier says which steps,
    whose approvals and what evidence (conf/base/policies.yml). Every step is a record in the ledger, which nobody can
    change afterwards.
    """


for command in (route, rollout, rehearse, people, freeze, thaw, supersede, review, revoke_approval, change_tier, why):
    release.add_command(command)


@release.command("list")
@reports_errors
def list_versions() -> None:
    """List all versions with stage, verdict and approvals."""
    ledger = _ledger()
    state = current_state(ledger)
    console = Console()
    console.print(versions_table(state))
    share = f" (canary {state.canary}: {state.canary_share:.0%} of the units)" if state.canary is not None else ""
    for order in read_orders(layout().orders):
        what = f"version {order.out}" if order.out is not None else "what is live"
        console.print(
            f"[yellow]waits for its record: {escape(order.by)} ordered {what} out at {order.at:%H:%M:%S} UTC[/]"
        )
    console.print(f"champion: {state.champion or 'none yet'}{share}; {state.seq} ledger records, chain intact")


@release.command()
@VERSION
@reports_errors
def show(version: int) -> None:
    """Show the verdict's checks, digest, stage, approvals and history of VERSION."""
    ledger = _ledger()
    records = ledger.records()
    state = current_state(ledger)
    version_state(state, version)
    console = Console()
    print_version(console, state, version, layout().bundles)
    labels = label_line(layout().rollout, state, records, version)
    if labels:
        console.print(f"[bold]{escape(labels)}[/bold]", soft_wrap=True)
    console.print(history_table([record for record in records if concerns(record, version)]))


@release.command()
@VERSION
@PERSON
@click.option("--digest", default="", help="Beginning of the bundle digest that you looked at.")
@click.option("--reason", default="", help="What convinced you; kept in the ledger.")
@reports_errors
def approve(version: int, by: str, digest: str, reason: str) -> None:
    """Approve the bundle of VERSION as a named person, after reading its evaluation.

    The approval is bound to the digests of the bundle and of the tier's policy: one byte changed and it counts no more.
    Nobody approves their own work.
    """
    ledger = _ledger()
    record = commands.approve(
        ledger,
        version,
        by=decider(by),
        policies=_policies(),
        bundles=layout().bundles,
        reason=reason,
        seen_digest=digest,
    )
    click.echo(
        f"version {version} (bundle {record.detail['digest'][:16]}) approved by {record.actor}, "
        f"until {record.detail['expires_at'][:16]} UTC"
    )
    _reconcile(ledger)


@release.command()
@VERSION
@click.option(
    "--to", type=click.Choice([STAGING, SHADOW, CANARY, PROD]), help="Stage to move to; the next one where left out."
)
@click.option("--share", type=float, help="Share of the units for a canary: the next step of the risk tier.")
@click.option("--supersede", is_flag=True, help="Let the version that is shadow or canary now give way.")
@click.option("--emergency", is_flag=True, help="Take the short way of the tier; reviewed afterwards. Needs --reason.")
@click.option("--override", is_flag=True, help="Move on although the evidence is no pass. Needs --reason.")
@ACTOR
@REASON
@reports_errors
def promote(
    version: int,
    to: str | None,
    share: float | None,
    supersede: bool,
    emergency: bool,
    override: bool,
    by: str,
    reason: str,
) -> None:
    """Move VERSION one step on: candidate -> staging -> shadow -> canary -> prod.

    A canary goes through the shares of its risk tier before prod; shadow and each share need a pass of the judge where
    there is a champion to compare with.
    """
    ledger = _ledger()
    record = commands.promote(
        ledger,
        version,
        by=decider(by),
        policies=_policies(),
        people=read_people(PROJECT / "conf"),
        bundles=_backed_bundles(ledger),
        to=to,
        share=share,
        is_emergency=emergency,
        is_override=override,
        supersede=supersede,
        reason=reason,
    )
    at = f", {record.detail['share']:.0%} of the units" if "share" in record.detail else ""
    replaced = f", in place of version {record.detail['replaces']}" if record.detail.get("replaces") else ""
    given_way = f"; version {record.detail['supersedes']} gave way" if record.detail.get("supersedes") else ""
    click.echo(f"version {version}: {record.detail['from']} -> {record.detail['to']}{at}{replaced}{given_way}")
    if record.detail.get("review_due_at"):
        click.echo(f"review it until {record.detail['review_due_at'][:16]} UTC: kedro release review {version}")
    _reconcile(ledger)


@release.command()
@VERSION
@PERSON
@click.option("--reason", required=True, help="Why; kept in the ledger.")
@reports_errors
def reject(version: int, by: str, reason: str) -> None:
    """Reject VERSION for good, while it is in candidate, staging or shadow.

    A shadow may be frozen.
    """
    ledger = _ledger()
    record = commands.reject(ledger, version, by=decider(by), reason=reason)
    click.echo(f"version {version} rejected by {record.actor}")
    _reconcile(ledger)


@release.command()
@click.option("--as-loaded", is_flag=True, help="Return to a champion whose bundle is gone: workers have it in memory.")
@ACTOR
@REASON
@reports_errors
def rollback(as_loaded: bool, by: str, reason: str) -> None:
    """Take the live canary out; without one, return to the champion before this one.

    Where the ledger cannot be written, the rollback becomes an order that the service obeys at once; `kedro release
    reconcile` makes it a record later. A bundle to return to that is missing or altered is brought back from its MLflow
    run; where that has none either, workers that run have the champion before in memory: --as-loaded.
    """
    ledger, place = _ledger(), layout()
    bundles = None if as_loaded else _backed_bundles(ledger)
    out, back, order = roll_back(ledger, place.orders, by=decider(by), reason=reason, bundles=bundles)
    serves = f"version {back} serves" if back is not None else "no version serves: there is no champion yet"
    click.echo(f"version {out} taken out, {serves}" if out is not None else "what is live is taken out")
    if order is None:
        _reconcile(ledger)
    else:
        click.secho(
            f"warning: the ledger did not take it; the service obeys the order {order.name} until kedro release "
            "reconcile makes it a record",
            fg="yellow",
            err=True,
        )


@release.command()
@VERSION
@click.option("--from", "source", required=True, help="Folder of bundles in the artifact store, or its file:// URL.")
@reports_errors
def fetch(version: int, source: str) -> None:
    """Copy the bundle of VERSION from the artifact store to this machine.

    A copy that was cut off goes on where it stopped. The bundle appears once all of it is what the ledger says.
    """
    digest, folder = version_state(current_state(_ledger()), version).digest, source_folder(source)
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
    current_state(ledger)
    ledger.verify()
    for line in enter_orders(ledger, layout().orders):
        click.echo(line)
    _reconcile(ledger)
    click.echo("the ledger is intact")


def _ledger() -> Ledger:
    return released_ledger(layout(), SystemClock())


def _backed_bundles(ledger: Ledger) -> BackedShelf:
    """Return the bundles of this machine, and behind them the copies that MLflow's runs keep."""

    def copy_of(digest: str, folder: Path) -> Path:
        name = current_state(ledger).model_name
        if name is None:
            raise NotFoundError("nothing is registered")
        return Registry(layout().mlflow_uri, name).second_copy(digest, folder)

    return BackedShelf(layout().bundles, copy_of)


def _policies() -> Policies:
    return read_policies(PROJECT / "conf")


def _reconcile(ledger: Ledger) -> None:
    for warning in reconcile_or_warn(ledger, layout().mlflow_uri, layout().bundles):
        click.secho(f"warning: {warning}", fg="yellow", err=True)
