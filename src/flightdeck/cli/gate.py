"""`kedro gate`: look at a draft, a bundle or a version with the gate of any risk tier."""

from pathlib import Path

import click
import msgspec
from rich.console import Console

from flightdeck.cli.errors import reports_errors
from flightdeck.cli.release_tables import checks_table
from flightdeck.core.clock import SystemClock
from flightdeck.core.config import cast_config, read_layers
from flightdeck.core.errors import GateFailed
from flightdeck.core.layout import PROJECT, layout
from flightdeck.gates.look import look_at
from flightdeck.gates.policy import read_policies
from flightdeck.gates.verdict import Verdict
from flightdeck.release.decisions import current_state
from flightdeck.release.intake import find_champion
from flightdeck.release.ledger_config import released_ledger
from flightdeck.release.moves import version_state

SETTINGS = "parameters_evaluation.yml"


class _Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    notebook: str
    cell_timeout_s: float


@click.group()
def gate() -> None:
    """Look at a model before anybody relies on it."""


@gate.command("run")
@click.argument("bundle")
@click.option("--tier", type=click.Choice(["low", "medium", "high"]), help="Risk tier; the version's own, else medium.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Where notebook, page and verdict go.")
@reports_errors
def run(bundle: str, tier: str | None, out: Path | None) -> None:
    """Run the gate on BUNDLE: the number of a version, or the folder of a draft or of a sealed bundle.

    Exit code 0: passed; 3: failed, the checks are named; 4: the gate could not run, which is no pass. Nothing is
    recorded and the bundle is not touched: a verdict that counts is made by the pipeline.
    """
    place = layout()
    folder, own_tier = _named(bundle)
    champion = find_champion(released_ledger(place, SystemClock()), place.bundles).path
    base, own = read_layers(SETTINGS)[1:]
    settings = cast_config({**base, **own}.get("evaluation"), _Settings, where=SETTINGS)
    target = out or place.root / "08_reporting" / "gates" / folder.name
    verdict = look_at(
        folder,
        target,
        tier=tier or own_tier,
        policies=read_policies(PROJECT / "conf"),
        notebook=PROJECT / settings.notebook,
        timeout_s=settings.cell_timeout_s,
        champion=None if champion is not None and champion.resolve() == folder.resolve() else champion,
    )
    Console().print(checks_table(verdict))
    click.echo(f"notebook and page: {target}")
    _end(verdict)


def _named(bundle: str) -> tuple[Path, str]:
    """Return the folder that a number or a path names, and the risk tier that is known for it."""
    if not bundle.isdecimal():
        return Path(bundle), "medium"
    place = layout()
    current = version_state(current_state(released_ledger(place, SystemClock())), int(bundle))
    return place.bundles / current.digest[:16], current.tier


def _end(verdict: Verdict) -> None:
    if not verdict.passed:
        raise GateFailed(
            f"the gate of tier {verdict.tier} says no: {', '.join(verdict.failed)}",
            next_step="read the page, change the model or its data and train again",
        )
    click.echo(f"the gate of tier {verdict.tier} passed, {len(verdict.checks)} checks")
