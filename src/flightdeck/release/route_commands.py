"""What people may do to the routing rules: one command, which makes an edit of `route_edits` a record.

Who decides for a unit, as an arm of an experiment, canary or champion of a segment, has what a canary of the table has:
a stage of staging or later, a passed verdict, the approvals of its tier and a bundle that verifies. A shadow never
decides; it has left candidate, passed the gate and has a bundle that verifies.
"""

from collections.abc import Callable

import msgspec

from flightdeck.gates.policy import Policies
from flightdeck.release.decisions import Decision, append_decision, records_refusals
from flightdeck.release.ledger import Ledger
from flightdeck.release.moves import require_routable
from flightdeck.release.people import People, Person
from flightdeck.release.record import Record
from flightdeck.release.requirements import (
    Bundles,
    plain_reason,
    require_approvals,
    require_bundle,
    require_verdict,
)
from flightdeck.release.route_edits import Edit
from flightdeck.release.stages import ReleaseState


@records_refusals
def change_routes(
    ledger: Ledger,
    edit: Callable[[ReleaseState], Edit],
    *,
    by: Person,
    policies: Policies,
    people: People,
    bundles: Bundles,
    reason: str = "",
) -> Record:
    """Put an edit of the routing rules in force.

    Parameters
    ----------
    ledger
        Where to write.
    edit
        Makes the change from the newest state; made again where the ledger has moved.
    by, reason
        Who does it and why.
    policies, people
        Risk tiers: approvals needed; and whose approvals count.
    bundles
        Folder of the sealed bundles; those that get traffic must verify.

    Returns
    -------
    Record
        With the whole rules, bound to the digests of their versions.

    Raises
    ------
    ReleaseRefused
        If the edit cannot be made, the rules that it leads to are wrong, or a version that gets traffic lacks verdict,
        approvals or bundle.
    """
    by.require("route")

    def decide(state: ReleaseState) -> Decision:
        made = edit(state)
        require_routable(state, made.rules)
        deciders = made.rules.deciders()
        for version in made.gains:
            current = state.versions[version]
            require_verdict(current)
            if version in deciders:
                require_approvals(current, policies.tier(current.tier), people, ledger.clock.now())
            require_bundle(current, bundles)
        return "routed", {
            "what": made.what,
            "versions": sorted(set(made.about)),
            "rules": msgspec.to_builtins(made.rules),
            "digests": {str(version): state.versions[version].digest for version in sorted(made.rules.versions)},
            "reason": plain_reason(reason),
            **({"returns": made.returns} if made.returns else {}),
        }

    return append_decision(ledger, None, by, decide)
