"""The routing table that the ledger amounts to: a projection, pure."""

from msgspec.structs import replace

from flightdeck.inference.routing import RoutingTable
from flightdeck.inference.routing_rules import Canary, Rules, Shadow
from flightdeck.release.stages import ReleaseState


def routing_table(state: ReleaseState) -> RoutingTable:
    """Return who decides for whom: champion, canary and shadow by their stages, the rules of the newest `routed`."""
    canary = Canary(state.canary, state.canary_share) if state.canary is not None else None
    rules = _with_shadow(state.rules, state.shadow)
    own = {version for version in (state.champion, state.canary) if version is not None}
    digests = {version: state.versions[version].digest for version in sorted(own | rules.versions)}
    return RoutingTable(state.champion, canary, rules, digests)


def _with_shadow(rules: Rules, version: int | None) -> Rules:
    """Return the rules with the version whose stage is shadow scoring a copy of everything."""
    if version is None:
        return rules
    others = tuple(shadow for shadow in rules.shadows if shadow.version != version)
    return replace(rules, shadows=(Shadow(version, 1.0), *others))
