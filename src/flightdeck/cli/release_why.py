"""`kedro release why`: one page from source data to the traffic that a version has, for people and as HTML.

The ledger is read once, the lineage graph is asked once and each bundle is opened once, however long the history is.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console

from flightdeck.cli.branch_tree import as_tree, read_report
from flightdeck.cli.errors import reports_errors
from flightdeck.core.clock import Clock, SystemClock
from flightdeck.core.errors import FlightdeckError, NotFoundError
from flightdeck.core.files import write_atomically
from flightdeck.core.layout import Layout, layout
from flightdeck.gates.verdict import read_verdict
from flightdeck.inference.bundle import open_bundle
from flightdeck.inference.routing import RoutingTable
from flightdeck.lineage.graph import LineageGraph
from flightdeck.lineage.html_page import html_page
from flightdeck.lineage.identity import stream_node
from flightdeck.lineage.queries import Branch, require_registered
from flightdeck.lineage.why import Known, explain
from flightdeck.release.ledger_config import released_ledger
from flightdeck.release.record import Record
from flightdeck.release.rollout.label_check import label_line
from flightdeck.release.routing import routing_table
from flightdeck.release.stages import ReleaseState
from flightdeck.release.state import fold

NOW = "now"


@click.command()
@click.argument("version")
@click.option("--html", "page", type=click.Path(dir_okay=False, path_type=Path), help="Write the page to this file.")
@reports_errors
def why(version: str, page: Path | None) -> None:
    """Show why VERSION has the traffic that it has.

    VERSION is a number, or `now` for everything that serves now. From the source files over
    event log, features, training, bundle, gate and approvals to each step of the rollout with its evidence, and its
    place in the routing table.
    """
    trees = explain_traffic(layout(), version, SystemClock())
    if page is not None:
        said = "From source data to the traffic it has, as the ledger, the lineage graph and the sealed bundles say."
        write_atomically(page, html_page(_title(version), said, trees).encode())
        click.echo(f"written to {page}")
        return
    console = Console()
    wide = console if console.is_terminal else Console(width=200)  # a pipe has no edge to crop at
    for tree in trees:
        wide.print(as_tree(tree), soft_wrap=True)


def explain_traffic(places: Layout, version: str, clock: Clock) -> list[Branch]:
    """Return the trees to read: what serves, where `version` is `now`, then each version that is asked about.

    Raises
    ------
    NotFoundError
        If the ledger never saw the version, or nothing serves.
    FlightdeckError
        If `version` is neither a number nor `now`.
    LedgerCorrupt
        If the ledger's chain is broken.
    """
    ledger = released_ledger(places, clock)
    records = ledger.records()
    state = fold(records)
    table = routing_table(state)
    plain = [msgspec.structs.asdict(record) for record in records]
    asked = _asked(version, table)
    for number in asked:
        require_registered(number, plain)
    labels = {number: label_line(places.rollout, state, records, number) for number in asked}
    known = {number: replace(one, labels=labels[number]) for number, one in _known(places, state, table, asked).items()}
    ingestion = read_report(places.ingestion_report)
    now = clock.now()
    pages = [explain(number, records=plain, known=known[number], ingestion=ingestion, now=now) for number in asked]
    return [_serving(table, records, state), *pages] if version == NOW else pages


def _asked(version: str, table: RoutingTable) -> list[int]:
    if version == NOW:
        if not table.versions:
            raise NotFoundError(
                "nothing serves: no version is in prod", next_step="see what there is: kedro release list"
            )
        return list(dict.fromkeys(number for number, _ in table.roles()))
    if not version.isdecimal() or int(version) < 1:
        raise FlightdeckError(
            f"explaining {version!r}: it is neither a version nor {NOW}", next_step="see them: kedro release list"
        )
    return [int(version)]


@dataclass(frozen=True)
class _Opened:
    training: Mapping[str, Any]
    checks: tuple[Mapping[str, Any], ...]
    n_files: int
    notes: tuple[str, ...]


def _known(places: Layout, state: ReleaseState, table: RoutingTable, asked: Iterable[int]) -> dict[int, Known]:
    """Return what bundles, graph and routing table say about some versions; the graph is asked once for all."""
    opened = {number: _open(places, state.versions[number].digest) for number in asked}
    streams = {
        number: {
            name: stream_node(name, read["version"], read["digest"])
            for name, read in found.training.get("data_versions", {}).items()
        }
        for number, found in opened.items()
    }
    nodes = list(dict.fromkeys(node for named in streams.values() for node in named.values()))
    origins = LineageGraph(places.lineage).origins(nodes, "source")
    return {
        number: Known(
            found.training,
            found.checks,
            {name: origins[node] for name, node in streams[number].items()},
            found.n_files,
            table.roles_of(number),
            found.notes,
        )
        for number, found in opened.items()
    }


def _open(places: Layout, digest: str) -> _Opened:
    """Return what a verified bundle says, or nothing and why: what altered files say is not shown."""
    try:
        bundle = open_bundle(places.bundles / digest[:16], expected_digest=digest)
        training = dict(bundle.read_json("training.json"))
    except FlightdeckError as error:
        return _Opened(
            {},
            (),
            0,
            (f"the bundle cannot be read, so data, features, code and checks are not shown: {error.message}",),
        )
    try:
        checks = tuple(
            msgspec.to_builtins(check) for check in read_verdict(bundle.path / "evaluation" / "verdict.json").checks
        )
    except FlightdeckError as error:
        return _Opened(training, (), len(bundle.manifest.files), (f"the checks cannot be read: {error.message}",))
    return _Opened(training, checks, len(bundle.manifest.files), ())


def _serving(table: RoutingTable, records: list[Record], state: ReleaseState) -> Branch:
    """Return who decides for whom, in the order in which the table is looked at."""
    segments = tuple(
        Branch(
            f"{segment.name}: " + " and ".join(f"{name} in {{{', '.join(of)}}}" for name, of in segment.where.items()),
            tuple(Branch(line) for line in _in_segment(segment.champion, segment.canary, table)),
        )
        for segment in table.rules.segments
    )
    experiments = tuple(
        Branch(
            f"{one.name}{f' in segment {one.segment}' if one.segment else ''}, layer {one.salt}",
            tuple(Branch(f"arm {arm.name}: version {arm.version} for {arm.share:.2%}") for arm in one.arms),
        )
        for one in table.rules.experiments
    )
    rest = [Branch(f"champion: version {table.champion}" if table.champion is not None else "no champion")]
    if table.canary is not None:
        frozen = " (frozen)" if state.versions[table.canary.version].frozen_from else ""
        rest.insert(0, Branch(f"canary: version {table.canary.version} for {table.canary.share:.2%}{frozen}"))
    shadows = tuple(Branch(f"version {one.version} scores a copy of {one.share:.2%}") for one in table.rules.shadows)
    parts = {"segments": segments, "experiments": experiments, "everything else": tuple(rest), "shadows": shadows}
    children = tuple(Branch(name, lines) for name, lines in parts.items() if lines)
    return Branch(f"what serves now, by {len(records):,} records of the ledger", children)


def _in_segment(champion: int | None, canary: Any, table: RoutingTable) -> Iterable[str]:
    if canary is not None:
        yield f"canary: version {canary.version} for {canary.share:.2%}"
    own = f"version {champion}" if champion is not None else f"version {table.champion}, the champion of the table"
    yield f"champion: {own}"


def _title(version: str) -> str:
    return "Why this serves now" if version == NOW else f"Why version {version}"
