"""The release step of `kedro up`: on one's own machine the demo approves its own candidate, and says so.

It goes the road that everybody goes (`flightdeck.release.commands`), with a person's name that nobody mistakes for a
person's decision. Where there is a champion already, a new version goes as far as evidence is not needed: shadow or
canary; what the traffic then shows moves it on.
"""

from collections.abc import Callable
from pathlib import Path

from flightdeck.core.errors import ReleaseRefused
from flightdeck.core.layout import Layout
from flightdeck.gates.policy import Policies, read_policies
from flightdeck.release import commands
from flightdeck.release.ledger import Ledger
from flightdeck.release.people import People, read_people
from flightdeck.release.reconciler import reconcile_or_warn
from flightdeck.release.requirements import valid_approvals
from flightdeck.release.stages import CANARY, CANDIDATE, FROZEN, SHADOW, STAGING, ReleaseState
from flightdeck.release.state import fold

REVIEWER = "Demo Reviewer (make run)"
REASON = "approved without a person's judgement, to show the loop on one machine"
UNDER_WAY = (CANDIDATE, STAGING, SHADOW, CANARY)


def release_version(ledger: Ledger, version: int, *, project: Path, where: Layout, say: Callable[[str], None]) -> None:
    """Put `version` into prod, or as far as it gets without evidence, unless people have decided about it already.

    Parameters
    ----------
    ledger
        Release ledger.
    version
        Version that the golden path led to.
    project
        Folder of the project, for the policies.
    where
        Where bundles and MLflow's database lie.
    say
        Told each step, a line.

    Raises
    ------
    ReleaseRefused
        If the version may not be released and no other one is in prod.
    """
    policies, people = read_policies(project / "conf"), read_people(project / "conf")
    by = people.identify(REVIEWER)
    current = fold(ledger.records()).versions[version]
    if current.stage in UNDER_WAY:
        say(f"version {version}: this demo approves its own candidate; elsewhere a person does: kedro release approve")
        _approve(ledger, version, policies, people, where.bundles)
    while (state := fold(ledger.records())).versions[version].stage in _free_stages(state):
        taken = state.versions[version].stage
        moved = commands.promote(
            ledger, version, by=by, policies=policies, people=people, bundles=where.bundles, supersede=True
        )
        say(f"version {version}: {taken} -> {moved.detail['to']}")
    for warning in reconcile_or_warn(ledger, where.mlflow_uri, where.bundles):
        say(f"warning: {warning}")
    state = fold(ledger.records())
    if state.champion is None:
        raise ReleaseRefused(
            f"version {version} is in {current.stage} and no version is in prod", next_step="kedro release list"
        )
    if state.versions[version].stage in (SHADOW, CANARY, FROZEN):
        say(f"version {version} is in {state.versions[version].stage}: the controller moves it on by what it shows")
    say(f"version {state.champion} is in prod")


def _free_stages(state: ReleaseState) -> tuple[str, ...]:
    """Return the stages that a version leaves without evidence: all of them before there is a champion."""
    return (CANDIDATE, STAGING) if state.champion is not None else UNDER_WAY


def _approve(ledger: Ledger, version: int, policies: Policies, people: People, bundles: Path) -> None:
    """Add the approvals that the risk tier asks for and that people have not given yet."""
    current = fold(ledger.records()).versions[version]
    tier = policies.tier(current.tier)
    given = [approval.name for approval in valid_approvals(current, tier, people, ledger.clock.now())]
    names = [REVIEWER, *(f"{REVIEWER} {number}" for number in range(2, tier.approvals.n + 1))]
    missing = tier.approvals.n - len(given)
    for name in [name for name in names if name not in given][: max(missing, 0)]:
        commands.approve(ledger, version, by=people.identify(name), policies=policies, bundles=bundles, reason=REASON)
