"""A release desk on which every command can succeed, and what each command is to be asked for.

Version 1 is the champion, by an emergency that nobody has reviewed; 2 is the canary, not judged in its present step; 3
is a frozen shadow; 4 is in staging and approved; 5 a candidate with a verdict, 6 one without.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from dashboards.decision import carry_out
from dashboards.releases import Decisions
from flightdeck.core.clock import SystemClock, VirtualClock
from flightdeck.core.layout import Layout
from flightdeck.gates.verdict import Check, Verdict, judge
from flightdeck.inference.bundle import Bundle, open_bundle
from flightdeck.release import commands, order_entry, rollout_commands
from flightdeck.release.ledger import Ledger, open_ledger
from flightdeck.release.people import Person
from flightdeck.release.route_commands import change_routes
from flightdeck.release.route_edits import set_shadow
from flightdeck.release.stages import VersionState
from flightdeck.release.state import fold
from tests import release_desk
from tests.candidates import seal_tiny
from tests.release_desk import PEOPLE, POLICIES

STARTED = SystemClock().now()  # the command line has the clock of the machine, and consent expires
CHAMPION, CANARY, FROZEN, STAGED, FRESH, UNJUDGED, UNKNOWN = range(1, 8)
WHY = "because"


@dataclass(frozen=True)
class House:
    """A data root with the ledger and the bundles of the versions."""

    where: Layout

    @property
    def ledger(self) -> Ledger:
        """The ledger, at the moment when the tests began."""
        return open_ledger(self.where.ledger, VirtualClock(STARTED))

    @property
    def bundles(self) -> Path:
        """Folder of the sealed bundles."""
        return self.where.bundles

    def version(self, number: int) -> VersionState:
        """Where a version stands."""
        return fold(self.ledger.records()).versions[number]

    def bundle(self, number: int) -> Bundle:
        """The sealed bundle of a version."""
        digest = self.version(number).digest
        return open_bundle(self.bundles / digest[:16], expected_digest=digest)


def write_house(root: Path) -> House:
    """Write the ledger and the bundles."""
    house = House(Layout(root))
    ledger, bundles = house.ledger, house.bundles
    for number in range(CHAMPION, UNJUDGED + 1):
        bundle = seal_tiny(root / f"draft-{number}", bundles, mark=f"version {number}")
        release_desk.register(ledger, number, bundle=bundle, model_name="flight-delay", tier="medium")
        if number != UNJUDGED:
            release_desk.record_verdict(ledger, number, verdict_of(bundle), bundle=bundle)
    for number in (CHAMPION, CANARY, FROZEN, STAGED):
        grace = replace(release_desk.person("Grace Hopper"), proof="key:test")  # counts where proof is asked for, too
        commands.approve(ledger, number, by=grace, policies=POLICIES, bundles=bundles)
    while house.version(CHAMPION).stage != "prod":
        release_desk.promote(ledger, CHAMPION, by="Mary", bundles=bundles, is_emergency=True, reason=WHY)
    release_desk.bring(ledger, CANARY, "canary", by="Mary", bundles=bundles)
    release_desk.bring(ledger, FROZEN, "shadow", by="Mary", bundles=bundles)
    release_desk.bring(ledger, STAGED, "staging", by="Mary", bundles=bundles)
    rollout_commands.freeze(ledger, FROZEN, by=release_desk.person("Mary"), reason=WHY)
    return house


def verdict_of(bundle: Bundle) -> Verdict:
    """Return a verdict that passes."""
    check = Check("auc_15", 0.8, 0.77, passed=True, blocking=True, detail="")
    return judge(bundle.manifest.metadata["content_digest"], "medium", [check], STARTED.isoformat())


@dataclass(frozen=True)
class Act:
    """One call of a command, which succeeds with the permissions that it needs.

    Parameters
    ----------
    command
        The function that is called.
    needs
        Permissions that the person must have, all of them.
    call
        Calls it in a house as a person.
    """

    command: Callable[..., object]
    needs: tuple[str, ...]
    call: Callable[[House, Person], object]


def _promote(house: House, number: int, by: Person, **more: bool) -> object:
    return commands.promote(
        house.ledger,
        number,
        by=by,
        policies=POLICIES,
        people=PEOPLE,
        bundles=house.bundles,
        reason=WHY,
        **more,  # type: ignore[arg-type]
    )


def _change_tier(house: House, by: Person, to: str) -> object:
    return rollout_commands.change_tier(house.ledger, FRESH, by=by, to=to, policies=POLICIES, reason=WHY)


def _register(house: House, by: Person) -> object:
    bundle = seal_tiny(house.where.root / f"draft-{by.name}", house.bundles, mark=f"version {UNKNOWN}")
    return commands.register(house.ledger, UNKNOWN, bundle=bundle, model_name="flight-delay", tier="low", by=by)


def _record_verdict(house: House, by: Person) -> object:
    bundle = house.bundle(UNJUDGED)
    return commands.record_verdict(house.ledger, UNJUDGED, verdict_of(bundle), bundle=bundle, by=by)


def _record_evidence(house: House, by: Person) -> object:
    return rollout_commands.record_evidence(
        house.ledger,
        CANARY,
        by=by,
        entered_seq=house.version(CANARY).entered_seq,
        verdict="pass",
        n_requests=1000,
        metrics={},
    )


def _route(house: House, by: Person) -> object:
    return change_routes(
        house.ledger,
        lambda state: set_shadow(state, STAGED, 0.2),
        by=by,
        policies=POLICIES,
        people=PEOPLE,
        bundles=house.bundles,
    )


ACTS: Mapping[str, Act] = {
    "register": Act(commands.register, ("register",), _register),
    "record_verdict": Act(commands.record_verdict, ("record_verdict",), _record_verdict),
    "approve": Act(
        commands.approve,
        ("approve",),
        lambda h, by: commands.approve(h.ledger, FRESH, by=by, policies=POLICIES, bundles=h.bundles),
    ),
    "reject": Act(commands.reject, ("reject",), lambda h, by: commands.reject(h.ledger, FRESH, by=by, reason=WHY)),
    "promote": Act(commands.promote, ("promote",), lambda h, by: _promote(h, FRESH, by)),
    "promote against the evidence": Act(
        commands.promote,
        ("promote", "override"),
        lambda h, by: _promote(h, CANARY, by, is_override=True),
    ),
    "promote in an emergency": Act(
        commands.promote, ("promote", "emergency"), lambda h, by: _promote(h, FRESH, by, is_emergency=True)
    ),
    "rollback": Act(
        commands.rollback, ("rollback",), lambda h, by: commands.rollback(h.ledger, by=by, bundles=h.bundles)
    ),
    "take out what fails": Act(
        order_entry.take_out,
        ("rollback",),
        lambda h, by: order_entry.take_out(
            h.ledger, h.where.root / "orders", h.version(CANARY), by=by, reason=WHY, evidence={}
        ),
    ),
    "order a rollback": Act(
        order_entry.roll_back,
        ("rollback",),
        lambda h, by: order_entry.roll_back(h.ledger, h.where.root / "orders", by=by, bundles=h.bundles),
    ),
    "record_evidence": Act(rollout_commands.record_evidence, ("judge",), _record_evidence),
    "freeze": Act(
        rollout_commands.freeze,
        ("freeze",),
        lambda h, by: rollout_commands.freeze(h.ledger, CANARY, by=by, reason=WHY),
    ),
    "thaw": Act(
        rollout_commands.thaw, ("thaw",), lambda h, by: rollout_commands.thaw(h.ledger, FROZEN, by=by, reason=WHY)
    ),
    "supersede": Act(
        rollout_commands.supersede,
        ("supersede",),
        lambda h, by: rollout_commands.supersede(h.ledger, CANARY, by=by, newer=FRESH),
    ),
    "record_rehearsal": Act(
        rollout_commands.record_rehearsal,
        ("rehearse",),
        lambda h, by: rollout_commands.record_rehearsal(h.ledger, FRESH, by=by, to=CHAMPION, duration_s=0.5),
    ),
    "review": Act(
        rollout_commands.review,
        ("review",),
        lambda h, by: rollout_commands.review(h.ledger, CHAMPION, by=by, reason=WHY),
    ),
    "revoke another's approval": Act(
        rollout_commands.revoke_approval,
        ("revoke_approval",),
        lambda h, by: rollout_commands.revoke_approval(h.ledger, STAGED, by=by, name="Grace Hopper", reason=WHY),
    ),
    "raise the tier": Act(rollout_commands.change_tier, ("change_tier",), lambda h, by: _change_tier(h, by, "high")),
    "lower the tier": Act(rollout_commands.change_tier, ("lower_tier",), lambda h, by: _change_tier(h, by, "low")),
    "change_routes": Act(change_routes, ("route",), _route),
}


def press(house: House, move: str, number: int, by: Person) -> None:
    """Press a button of the dashboard."""
    records = house.ledger.records()
    carry_out(move, by, Decisions(house.ledger, records, fold(records)), house.version(number), house.where, WHY)
