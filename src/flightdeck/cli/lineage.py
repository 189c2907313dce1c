"""`kedro lineage`: where a model version comes from and what was decided about it."""

from typing import Any

import click
import msgspec
from rich.console import Console

from flightdeck.cli.branch_tree import as_tree, read_report
from flightdeck.cli.errors import reports_errors
from flightdeck.core.clock import SystemClock
from flightdeck.core.errors import FlightdeckError
from flightdeck.core.layout import Layout, layout
from flightdeck.inference.bundle import open_bundle
from flightdeck.lineage.graph import LineageGraph
from flightdeck.lineage.queries import Branch, stream_sources, trace
from flightdeck.release.ledger_config import released_ledger


@click.group()
def lineage() -> None:
    """Show where models come from: sources, features, verdicts, approvals and stages."""


@lineage.command()
@click.argument("version", type=click.IntRange(min=1))
@reports_errors
def show(version: int) -> None:
    """Show where model VERSION comes from and what was decided about it."""
    root = trace_version(layout(), version)
    console = Console()
    wide = console if console.is_terminal else Console(width=200)  # a pipe has no edge to crop at
    wide.print(as_tree(root), soft_wrap=True)


def trace_version(places: Layout, version: int) -> Branch:
    """Collect what is known of a model version and return its lineage; what is missing is said, not fatal.

    Raises
    ------
    NotFoundError
        If the ledger never saw the version.
    LedgerCorrupt
        If the ledger's chain is broken.
    """
    records = [msgspec.structs.asdict(record) for record in released_ledger(places, SystemClock()).records()]
    training, notes = _training(places, records, version)
    return trace(
        version,
        records=records,
        training=training,
        sources=stream_sources(LineageGraph(places.lineage), training.get("data_versions", {})),
        ingestion=read_report(places.ingestion_report),
        notes=notes,
    )


def _training(places: Layout, records: list[dict[str, Any]], version: int) -> tuple[dict[str, Any], list[str]]:
    """Return the provenance that the version's verified bundle holds, or nothing and why."""
    for record in records:
        if record["action"] == "registered" and record["subject"] == str(version):
            digest = str(record["detail"]["digest"])
            try:
                bundle = open_bundle(places.bundles / digest[:16], expected_digest=digest)
            except FlightdeckError as error:
                return {}, [f"the bundle cannot be read, so data, features and code are not shown: {error.message}"]
            return dict(bundle.read_json("training.json")), []
    return {}, []
