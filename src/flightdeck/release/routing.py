"""The routing table that the ledger amounts to: a projection, pure."""

from flightdeck.inference.routing import RoutingTable
from flightdeck.inference.routing_rules import Canary
from flightdeck.release.state import ReleaseState


def routing_table(state: ReleaseState) -> RoutingTable:
    """Return who decides for whom: champion and canary by their stages, the rules of the newest `routed` record."""
    canary = Canary(state.canary, state.canary_share) if state.canary is not None else None
    own = {version for version in (state.champion, state.canary) if version is not None}
    digests = {version: state.versions[version].digest for version in sorted(own | state.rules.versions)}
    return RoutingTable(state.champion, canary, state.rules, digests)
