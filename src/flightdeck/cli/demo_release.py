"""The release step of `kedro up`: on one's own machine the demo approves its own candidate, and says so.

It goes the road that everybody goes (staging, canary, prod; `flightdeck.release.commands`), with a person's name that
nobody mistakes for a person's decision.
"""

from collections.abc import Callable
from pathlib import Path

from flightdeck.core.errors import ReleaseRefused
from flightdeck.core.layout import Layout
from flightdeck.gates.policy import read_policies
from flightdeck.release import commands
from flightdeck.release.ledger import Ledger
from flightdeck.release.reconciler import reconcile_or_warn
from flightdeck.release.state import CANARY, CANDIDATE, PROD, STAGING, fold

REVIEWER = "Demo Reviewer (make run)"
REASON = "approved without a person's judgement, to show the loop on one machine"


def release_version(ledger: Ledger, version: int, *, project: Path, where: Layout, say: Callable[[str], None]) -> None:
    """Put `version` into prod unless people have decided about it already.

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
    current = fold(ledger.records()).versions[version]
    policies = read_policies(project / "conf")
    if current.stage in (CANDIDATE, STAGING, CANARY):
        say(f"version {version}: this demo approves its own candidate; elsewhere a person does: kedro release approve")
        _approve(ledger, version, policies.tier(current.tier).n_approvals, where.bundles)
    for stage, following in ((CANDIDATE, STAGING), (STAGING, CANARY), (CANARY, PROD)):
        if fold(ledger.records()).versions[version].stage == stage:
            commands.promote(
                ledger, version, by=REVIEWER, policies=policies, bundles=where.bundles, to=following, share=None
            )
            say(f"version {version}: {stage} -> {following}")
    for warning in reconcile_or_warn(ledger, where.mlflow_uri, where.bundles):
        say(f"warning: {warning}")
    champion = fold(ledger.records()).champion
    if champion is None:
        raise ReleaseRefused(
            f"version {version} is in {current.stage} and no version is in prod", next_step="kedro release list"
        )
    say(f"version {champion} is in prod")


def _approve(ledger: Ledger, version: int, n_approvals: int, bundles: Path) -> None:
    """Add the approvals that the risk tier asks for and that people have not given yet."""
    approved_by = fold(ledger.records()).versions[version].approved_by
    names = [REVIEWER, *(f"{REVIEWER} {number}" for number in range(2, n_approvals + 1))]
    missing = n_approvals - len(approved_by)
    for name in [name for name in names if name not in approved_by][: max(missing, 0)]:
        commands.approve(ledger, version, by=name, bundles=bundles, reason=REASON)
