"""A second opinion on a ledger: each record compared with what was so at that moment, by rules written anew.

It knows nothing of the commands: who may what, which approvals counted and which champion comes back is worked out
from the records alone. What it objects to is an `AssertionError`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from flightdeck.gates.policy import Policies
from flightdeck.release.people import People, person_key
from flightdeck.release.reconciler import ALIASES, expected_aliases
from flightdeck.release.record import Record
from flightdeck.release.stages import FROZEN, PROD, SUPERSEDED, Approval, ReleaseState, VersionState
from flightdeck.release.state import fold

AUTOMATA = ("controller", "pipeline", "reconciler")


@dataclass
class Auditor:
    """Follows a ledger record by record.

    Parameters
    ----------
    people
        The register in force.
    """

    people: People
    state: ReleaseState = field(default_factory=ReleaseState)
    champions: list[int] = field(default_factory=list)
    superseded: set[int] = field(default_factory=set)
    orders: list[str] = field(default_factory=list)
    lease: int = 0
    n_moves: int = 0
    right: set[tuple[str, int | None]] = field(default_factory=set)
    """Version of each alias that was right at some moment since somebody emptied this."""

    def look(self, news: Sequence[Record], policies: Policies) -> None:
        """Take in what is new; `policies` and the register were in force when it was written."""
        for record in news:
            before, self.state = self.state, fold([record], self.state)
            if record.action == "lease":
                self.lease = record.seq
            elif "lease" in record.detail:
                assert record.detail["lease"] == self.lease, "who has lost the lease writes nothing"
            if "order" in record.detail:
                assert record.detail["order"] not in self.orders, "an order is counted once"
                self.orders.append(record.detail["order"])
            if record.subject.isdigit():
                self._look_at_version(before, before.versions.get(int(record.subject)), record, policies)
            self._look_at_state()

    def _look_at_version(
        self, before: ReleaseState, was: VersionState | None, record: Record, policies: Policies
    ) -> None:
        if was is None:
            assert record.action in ("registered", "refused")
            return
        if record.action == "approved":
            assert person_key(record.actor) != person_key(was.author), "nobody approves their own work"
            assert "approve" in self._may(record.actor)
        gone = before.versions[int(record.detail["supersedes"])] if record.detail.get("supersedes") else None
        moved = [one for one in (was, gone) if one is not None and one.stage != self.state.versions[one.version].stage]
        if any(one.stage == FROZEN for one in moved):
            assert record.actor not in AUTOMATA, "a frozen version is moved by people only"
        if record.action == "promoted":
            self.n_moves += 1
            self._look_at_promotion(before, was, record, policies)
        if record.action == "rolled_back":
            self.n_moves += 1
            if was.stage == PROD:
                assert self.champions.pop() == was.version
                assert self.champions[-1:] == [self.state.champion], "the champion before comes back"
        left = [version for version, one in self.state.versions.items() if one.stage == SUPERSEDED]
        assert self.superseded <= set(left), "who was superseded never comes back"
        self.superseded = set(left)

    def _look_at_promotion(self, before: ReleaseState, was: VersionState, record: Record, policies: Policies) -> None:
        tier, to = policies.tier(was.tier), record.detail["to"]
        assert was.verdict_passed, "nothing moves without a passed gate"
        assert "promote" in self._may(record.actor)
        if to == PROD:
            self.champions.append(was.version)
        if to not in ("canary", PROD):
            return
        asked = tier.emergency.approvals if record.detail["is_emergency"] else tier.approvals
        counting = {
            person_key(given.name): given
            for given in was.approvals
            if given.policy_digest == tier.digest
            and record.recorded_at < min(given.expires_at, given.at + timedelta(hours=asked.valid_for_h))
            and not self.people.void_because(given.name, given.proof)
            and person_key(given.name) != person_key(was.author)
        }
        assert len(counting) >= asked.n, f"{was.version} has {len(counting)} approvals, {asked.n} are asked for"
        assert _has_roles(list(counting.values()), asked.roles), f"roles {asked.roles} are asked for"
        if before.champion is not None and was.stage in ("shadow", "canary") and not record.detail["is_override"]:
            assert was.evidence is not None and was.evidence.verdict == "pass", "nothing moves on without evidence"
        if record.detail["is_override"]:
            assert "override" in self._may(record.actor)
        if record.detail["is_emergency"] and not was.is_emergency:
            assert "emergency" in self._may(record.actor)

    def _look_at_state(self) -> None:
        self.right |= {(alias, expected_aliases(self.state).get(alias)) for alias in ALIASES}
        live = [one.live_stage for one in self.state.versions.values()]
        assert live.count("canary") <= 1 and live.count("shadow") <= 1 and live.count(PROD) <= 1
        assert self.state.champion == (self.champions[-1] if self.champions else None), (
            "one champion, and there always is one"
        )
        assert self.state.previous_champions == tuple(self.champions[:-1]), "the right last-good ones are kept"
        for segment in self.state.rules.segments:
            for version in (segment.champion, segment.canary.version if segment.canary is not None else None):
                assert version is None or self.state.versions[version].stage not in ("superseded", "rejected")

    def _may(self, name: str) -> frozenset[str]:
        listed = self.people.people.get(name)
        return (
            frozenset(action for role in listed.roles for action in self.people.roles[role]) if listed else frozenset()
        )


def _has_roles(given: list[Approval], roles: Sequence[str]) -> bool:
    """Tell whether each of `roles` can be given to somebody else of those who approve."""
    if not roles:
        return True
    return any(
        roles[0] in one.roles and _has_roles([other for other in given if other is not one], roles[1:]) for one in given
    )
