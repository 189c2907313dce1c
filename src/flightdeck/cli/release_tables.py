"""Tables of `kedro release`: versions, routes, the checks of a verdict, a version's history."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flightdeck.core.errors import FlightdeckError
from flightdeck.gates.verdict import Verdict, read_verdict
from flightdeck.inference.bundle import open_bundle
from flightdeck.release.moves import legal_moves
from flightdeck.release.record import Record
from flightdeck.release.routing import routing_table
from flightdeck.release.stages import ReleaseState, VersionState

SHOWN_DETAIL = (
    "what",
    "reason",
    "from",
    "to",
    "share",
    "replaces",
    "supersedes",
    "by",
    "name",
    "passed",
    "failed",
    "n_checks",
    "verdict",
    "n_requests",
    "duration_s",
    "tier",
)
COLOURS = {
    "prod": "green",
    "canary": "yellow",
    "shadow": "yellow",
    "frozen": "magenta",
    "rejected": "red",
    "rolled_back": "red",
    "superseded": "dim",
    "archived": "dim",
}


def versions_table(state: ReleaseState) -> Table:
    """Return one row a version, newest first."""
    table = Table(title="releases", title_justify="left")
    for column in ("version", "stage", "verdict", "approved by", "tier", "bundle"):
        table.add_column(column)
    for current in sorted(state.versions.values(), key=lambda v: -v.version):
        table.add_row(
            str(current.version),
            _stage(current),
            _verdict_word(current),
            escape(", ".join(current.approved_by)) or "-",
            current.tier,
            current.digest[:16],
        )
    return table


def print_version(console: Console, state: ReleaseState, version: int, bundles: Path) -> None:
    """Print where a version stands, its routes, whether its bundle verifies, what is legal now, and its checks."""
    current = state.versions[version]
    path = bundles / current.digest[:16]
    console.print(f"[bold]{escape(current.model_name)} version {current.version}[/bold]  {_stage(current)}")
    console.print(f"bundle    {current.digest}")
    if current.author:
        console.print(f"author    {escape(current.author)}, who cannot approve it")
    console.print(f"approved  {escape(', '.join(current.approved_by)) or 'by nobody'} (tier {current.tier})")
    if current.evidence is not None:
        said = current.evidence
        console.print(f"judge     {said.verdict} after {said.n_requests:,} requests, {said.at:%Y-%m-%d %H:%M:%S} UTC")
    console.print(f"routes    {escape('; '.join(routing_table(state).roles_of(version))) or 'none'}", soft_wrap=True)
    console.print(f"legal     {', '.join(legal_moves(state, version)) or 'nothing more'}")
    try:
        open_bundle(path, expected_digest=current.digest)
        verdict = read_verdict(path / "evaluation" / "verdict.json")
    except FlightdeckError as error:
        console.print(f"[red]evidence  {escape(str(error))}[/red]")
        return
    console.print(f"report    {path / 'evaluation' / 'evaluation.html'}", soft_wrap=True)
    console.print(checks_table(verdict))


def routes_table(state: ReleaseState) -> Table:
    """Return one row for each place of the routing table that names a version, and one for each segment."""
    table = Table(title="routes in force", title_justify="left")
    for column in ("version", "bundle", "does"):
        table.add_column(column, overflow="fold")
    routes = routing_table(state)
    for version, role in routes.roles():
        table.add_row(str(version), routes.digests[version][:16], escape(role))
    for segment in routes.rules.segments:
        where = " and ".join(f"{column} in {{{', '.join(values)}}}" for column, values in segment.where.items())
        table.add_row("-", "-", escape(f"segment {segment.name}: {where}"))
    return table


def checks_table(verdict: Verdict) -> Table:
    """Return one row a check."""
    word = "[green]passed[/green]" if verdict.passed else "[red]failed[/red]"
    table = Table(title=f"verdict: {word}, {verdict.made_at}", title_justify="left")
    table.add_column("check")
    table.add_column("value", justify="right")
    table.add_column("bound", justify="right")
    table.add_column("")
    table.add_column("meaning", overflow="fold")
    for check in verdict.checks:
        outcome = "[green]pass[/green]" if check.passed else "[red]FAIL[/red]" if check.blocking else "advisory"
        table.add_row(check.name, _number(check.value), _number(check.threshold), outcome, escape(check.detail))
    return table


def concerns(record: Record, version: int) -> bool:
    """Tell whether a record moved `version`, itself or by moving another one."""
    returned_to = record.action == "rolled_back" and record.detail.get("to") == version
    is_routed = record.action == "routed" and version in record.detail["versions"]
    return record.subject == str(version) or returned_to or is_routed or record.detail.get("replaces") == version


def history_table(records: Sequence[Record]) -> Table:
    """Return one row a record, oldest first."""
    table = Table(title="history", title_justify="left")
    for column in ("record", "at (UTC)", "version", "action", "by", "detail"):
        table.add_column(column, overflow="fold")
    for record in records:
        detail = "; ".join(
            f"{name} {_plain(record.detail[name])}"
            for name in SHOWN_DETAIL
            if record.detail.get(name) not in (None, "", [])
        )
        at = f"{record.recorded_at:%Y-%m-%d %H:%M:%S}"
        table.add_row(str(record.seq), at, record.subject, record.action, escape(record.actor), escape(detail))
    return table


def _stage(current: VersionState) -> str:
    share = f" {current.canary_share:.0%}" if current.canary_share else ""
    colour = COLOURS.get(current.stage)
    return f"[{colour}]{current.stage}{share}[/{colour}]" if colour else f"{current.stage}{share}"


def _verdict_word(current: VersionState) -> str:
    if current.verdict_passed is None:
        return "none"
    return (
        "[green]passed[/green]" if current.verdict_passed else f"[red]failed: {', '.join(current.failed_checks)}[/red]"
    )


def _plain(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
