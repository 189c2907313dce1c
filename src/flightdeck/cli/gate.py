"""`kedro gate`: what the gate would say about a draft, a bundle or a version, without releasing anything.

Exit codes of `run`: 0 passed, 3 failed by what was measured, 4 could not look at all that the tier asks for.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console

from flightdeck.cli.errors import reports_errors
from flightdeck.cli.release_tables import checks_table
from flightdeck.core.clock import SystemClock
from flightdeck.core.errors import FlightdeckError, GateImpossible
from flightdeck.core.layout import layout
from flightdeck.gates.by_hand import read_settings, run_by_hand, usual_tier
from flightdeck.gates.notebook import GateFiles, enforce
from flightdeck.release.decisions import current_state
from flightdeck.release.intake import find_champion
from flightdeck.release.ledger import Ledger
from flightdeck.release.ledger_config import released_ledger
from flightdeck.release.moves import version_state


@click.group()
def gate() -> None:
    """Ask the gate about a draft, a bundle or a version by hand."""


@gate.command("run")
@click.argument("bundle")
@click.option("--tier", help="Risk tier to judge by; a version's own, else that of the pipeline, where left out.")
@click.option(
    "--report",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the executed notebook, its page and the verdict; a draft keeps them in evaluation/ as well.",
)
@reports_errors
def run_on(bundle: str, tier: str | None, report: Path | None) -> None:
    """Run the gate on BUNDLE and print its checks: exit code 0 passed, 3 failed, 4 could not look.

    BUNDLE is the folder of a draft, the folder of a sealed bundle, or the number of a version. Nothing is sealed or
    recorded. The champion of the ledger is what it is compared with.
    """
    with _unknown_is_impossible():
        place = layout()
        ledger = released_ledger(place, SystemClock())
        folder, digest, own_tier = _subject(bundle, ledger, place.bundles)
        champion = find_champion(ledger, place.bundles)
        verdict = run_by_hand(
            folder,
            tier=tier or own_tier or usual_tier(),
            settings=read_settings(),
            champion_bundle=str(champion.path or ""),
            champion_problem=champion.problem,
            expected_digest=digest,
            report=report,
        )
    Console().print(checks_table(verdict))
    enforce(verdict, str(GateFiles(report).page) if report else "the table above")
    click.echo(f"the gate passes {bundle} (tier {verdict.tier}), content {verdict.subject[:16]}")


def _subject(bundle: str, ledger: Ledger, bundles: Path) -> tuple[Path, str, str]:
    """Return folder, expected digest and tier of what was named; both empty for a folder."""
    if not bundle.isdecimal():
        return Path(bundle), "", ""
    version = version_state(current_state(ledger), int(bundle))
    return bundles / version.digest[:16], version.digest, version.tier


@contextmanager
def _unknown_is_impossible() -> Iterator[None]:
    """Make whatever keeps the gate from an answer an error with exit code 4."""
    try:
        yield
    except GateImpossible:
        raise
    except FlightdeckError as error:
        raise GateImpossible(f"running the gate: {error.message}", next_step=error.next_step) from error
