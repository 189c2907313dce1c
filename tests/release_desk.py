"""The release commands by a stated name, with the policies of the project: how most tests move a version.

`promote` brings the judge's pass that the step needs, so that a test of something else need not; a test of evidence
calls `flightdeck.release.commands` itself.
"""

from pathlib import Path
from typing import Any

from flightdeck.core.layout import PROJECT
from flightdeck.gates.policy import Policies, read_policies
from flightdeck.gates.verdict import Verdict
from flightdeck.inference.bundle import Bundle
from flightdeck.release import commands, rollout_commands
from flightdeck.release.decisions import current_state
from flightdeck.release.ledger import Ledger
from flightdeck.release.moves import version_state
from flightdeck.release.people import Person, read_people
from flightdeck.release.record import Record
from flightdeck.release.stages import CANARY, SHADOW

POLICIES = read_policies(PROJECT / "conf")
PEOPLE = read_people(PROJECT / "conf")
CONTROLLER = PEOPLE.identify("controller", proof="controller")
PIPELINE = PEOPLE.identify("pipeline", proof="pipeline")

current_state = current_state


def person(name: str) -> Person:
    """Return the person of a stated name, with the roles that strangers have in the demo."""
    return PEOPLE.identify(name)


def register(ledger: Ledger, version: int, *, bundle: Bundle, model_name: str, tier: str, **more: Any) -> Record:
    """Enter a bundle as the pipeline does."""
    return commands.register(ledger, version, bundle=bundle, model_name=model_name, tier=tier, by=PIPELINE, **more)


def record_verdict(ledger: Ledger, version: int, verdict: Verdict, *, bundle: Bundle) -> Record:
    """Enter a verdict as the pipeline does."""
    return commands.record_verdict(ledger, version, verdict, bundle=bundle, by=PIPELINE)


def approve(ledger: Ledger, version: int, *, by: str, bundles: Path, reason: str = "") -> Record:
    """Approve a version."""
    return commands.approve(ledger, version, by=person(by), policies=POLICIES, bundles=bundles, reason=reason)


def reject(ledger: Ledger, version: int, *, by: str, reason: str) -> Record:
    """Reject a version."""
    return commands.reject(ledger, version, by=person(by), reason=reason)


def show_evidence(ledger: Ledger, version: int, verdict: str = "pass") -> Record:
    """Let the judge say something about the present step of a version."""
    current = version_state(current_state(ledger), version)
    return rollout_commands.record_evidence(
        ledger,
        version,
        by=CONTROLLER,
        entered_seq=current.entered_seq,
        verdict=verdict,
        n_requests=1000,
        metrics={},
    )


def promote(
    ledger: Ledger, version: int, *, by: str, bundles: Path, policies: Policies = POLICIES, **more: Any
) -> Record:
    """Move a version on, with the evidence that its step needs."""
    state = current_state(ledger)
    current = state.versions.get(version)
    is_judged = state.champion is not None and current is not None and current.stage in (SHADOW, CANARY)
    if is_judged and current is not None and current.evidence is None:
        show_evidence(ledger, version)
    return commands.promote(ledger, version, by=person(by), policies=policies, people=PEOPLE, bundles=bundles, **more)


def bring(ledger: Ledger, version: int, to: str, *, bundles: Path, by: str = "Ada") -> None:
    """Move a version on until it is in the stage `to`."""
    while current_state(ledger).versions[version].stage != to:
        promote(ledger, version, by=by, bundles=bundles)


def rollback(ledger: Ledger, *, by: str, reason: str = "", bundles: Path | None = None) -> tuple[int, int | None]:
    """Take the canary out, or return to the champion before."""
    return commands.rollback(ledger, by=person(by), reason=reason, bundles=bundles)
