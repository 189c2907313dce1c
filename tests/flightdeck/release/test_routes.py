"""Shadows, experiments and segments in the ledger: who may be named, what is refused, and who leaves by itself."""

from collections.abc import Callable
from pathlib import Path

import pytest

from flightdeck.core.errors import ConfigError, FlightdeckError, LedgerCorrupt, ReleaseRefused
from flightdeck.core.layout import PROJECT
from flightdeck.gates.policy import read_policies
from flightdeck.inference.bundle import Bundle
from flightdeck.inference.routing import RoutingTable
from flightdeck.inference.routing_rules import Canary
from flightdeck.release import route_edits
from flightdeck.release.ledger import Ledger
from flightdeck.release.moves import legal_moves
from flightdeck.release.record import Record
from flightdeck.release.route_commands import change_routes
from flightdeck.release.route_edits import Edit
from flightdeck.release.routing import routing_table
from flightdeck.release.stages import ReleaseState
from flightdeck.release.state import fold
from tests import release_desk as commands

POLICIES = read_policies(PROJECT / "conf")
Enter = Callable[..., Bundle]
EWR = {"origin": ["EWR"]}


class Desk:
    """The commands with ledger and bundles filled in."""

    def __init__(self, ledger: Ledger, bundles: Path) -> None:
        self.ledger, self.bundles = ledger, bundles

    def bring(self, version: int, to: str) -> None:
        """Approve a version and promote it until it is in `to`."""
        commands.approve(self.ledger, version, by="Ada", bundles=self.bundles)
        while self.state.versions[version].stage != to:
            commands.promote(self.ledger, version, by="Ada", bundles=self.bundles)

    def change(self, edit: Callable[[ReleaseState], Edit], by: str = "Ada", reason: str = "") -> Record:
        return change_routes(
            self.ledger,
            edit,
            by=commands.person(by),
            policies=POLICIES,
            people=commands.PEOPLE,
            bundles=self.bundles,
            reason=reason,
        )

    def shadow(self, version: int, share: float = 1.0) -> Record:
        return self.change(lambda state: route_edits.set_shadow(state, version, share))

    def experiment(self, name: str, *arms: tuple[str, int, float], segment: str = "") -> Record:
        return self.change(lambda state: route_edits.add_experiment(state, name, arms, segment))

    def segment(self, name: str, where: dict[str, list[str]], champion: int | None = None) -> Record:
        return self.change(lambda state: route_edits.add_segment(state, name, where, champion=champion))

    def canary(self, name: str, version: int, share: float | None = None) -> Record:
        return self.change(lambda state: route_edits.set_segment_canary(state, name, version, POLICIES, share))

    @property
    def state(self) -> ReleaseState:
        return fold(self.ledger.records())

    @property
    def table(self) -> RoutingTable:
        return routing_table(self.state)


@pytest.fixture
def desk(ledger: Ledger, bundles: Path, enter: Enter) -> Desk:
    """Return a desk with a champion 1, an approved 2 in staging, 3 in staging without approval, 4 a candidate."""
    desk = Desk(ledger, bundles)
    for version in (1, 2, 3, 4):
        enter(version)
    desk.bring(1, "prod")
    desk.bring(2, "staging")
    commands.promote(ledger, 3, by="Ada", bundles=bundles)
    return desk


def test_champion_and_canary_are_what_the_stages_make_of_them(desk: Desk) -> None:
    digests = {version: desk.state.versions[version].digest for version in (1, 2)}
    assert desk.table == RoutingTable(1, digests={1: digests[1]})
    commands.bring(desk.ledger, 2, "canary", bundles=desk.bundles)
    assert desk.table == RoutingTable(1, Canary(2, 0.1), digests=digests)
    assert routing_table(ReleaseState()) == RoutingTable()


def test_a_shadow_needs_no_approval_but_a_gate_that_it_passed(desk: Desk) -> None:
    record = desk.shadow(3, 0.2)
    assert (record.action, record.subject, record.detail["versions"]) == ("routed", "-", [3])
    assert record.detail["digests"] == {"3": desk.state.versions[3].digest}
    assert desk.table.roles() == [(1, "champion"), (3, "shadow of 0.2 of the units")]
    desk.shadow(3, 0.5)
    assert desk.table.roles_of(3) == ["shadow of 0.5 of the units"]
    with pytest.raises(
        ReleaseRefused, match=r"version 4 is in candidate .* legal in: staging, shadow, canary, frozen, prod, archived"
    ):
        desk.shadow(4)
    with pytest.raises(ReleaseRefused, match=r"version 9 .* is unknown; versions there: 1, 2, 3, 4"):
        desk.shadow(9)
    desk.change(lambda state: route_edits.remove_shadow(state, 3))
    with pytest.raises(ReleaseRefused, match="version 3 is no shadow; shadows: none"):
        desk.change(lambda state: route_edits.remove_shadow(state, 3))


def test_an_arm_that_decides_needs_what_a_canary_needs(desk: Desk) -> None:
    with pytest.raises(ReleaseRefused, match="version 3 is approved by nobody"):
        desk.experiment("prices", ("old", 1, 0.5), ("new", 3, 0.5))
    desk.segment("EWR", EWR)
    with pytest.raises(ReleaseRefused, match="version 3 is approved by nobody"):
        desk.canary("EWR", 3)
    desk.experiment("prices", ("old", 1, 0.5), ("new", 2, 0.25))
    assert desk.table.roles_of(2) == ["arm prices:new with a share of 0.25"]


def test_a_version_of_an_altered_bundle_gets_no_traffic_but_may_lose_some(desk: Desk) -> None:
    desk.experiment("prices", ("old", 1, 0.5), ("new", 2, 0.25))
    model = desk.bundles / desk.state.versions[2].digest[:16] / "model.onnx"
    model.chmod(0o644)
    model.write_bytes(b"!")
    with pytest.raises(ReleaseRefused, match="does not verify"):
        desk.shadow(2)
    with pytest.raises(ReleaseRefused, match="does not verify"):
        desk.change(lambda state: route_edits.set_arm_share(state, "prices", "new", 0.3))
    desk.change(lambda state: route_edits.set_arm_share(state, "prices", "new", 0.1))
    desk.change(lambda state: route_edits.remove_experiment(state, "prices"))
    assert desk.table.roles() == [(1, "champion")]


def test_an_arm_grows_into_free_slots_and_an_experiment_begun_again_has_another_layer(desk: Desk) -> None:
    desk.experiment("prices", ("old", 1, 0.2), ("new", 2, 0.2))
    first = desk.state.rules.experiments[0]
    desk.change(lambda state: route_edits.set_arm_share(state, "prices", "old", 0.3))
    assert [arm.slots for arm in desk.state.rules.experiments[0].arms] == [((0, 2000), (4000, 5000)), ((2000, 4000),)]
    desk.change(lambda state: route_edits.remove_experiment(state, "prices"))
    desk.experiment("prices", ("old", 1, 0.2), ("new", 2, 0.2))
    assert desk.state.rules.experiments[0].salt != first.salt


def test_a_segment_has_its_own_canary_champion_and_rollback(desk: Desk) -> None:
    desk.segment("EWR", EWR)
    assert desk.canary("EWR", 2).detail["what"] == "segment EWR: canary 2 of 0.1"
    assert desk.canary("EWR", 2).detail["what"] == "segment EWR: canary 2 of 0.5"
    with pytest.raises(ReleaseRefused, match=r"legal in tier medium: 0\.1, 0\.5"):
        desk.canary("EWR", 2, 0.3)
    with pytest.raises(ReleaseRefused, match="version 2 is the canary there"):
        desk.canary("EWR", 1)
    desk.change(lambda state: route_edits.roll_back_segment(state, "EWR"))
    assert desk.table.roles() == [(1, "champion")]
    desk.canary("EWR", 2)
    desk.change(lambda state: route_edits.promote_segment_canary(state, "EWR"))
    assert desk.table.roles_of(2) == ["champion of segment EWR"]
    with pytest.raises(ReleaseRefused, match="no canary to promote"):
        desk.change(lambda state: route_edits.promote_segment_canary(state, "EWR"))
    desk.shadow(3)
    assert desk.table.roles_of(2) == ["champion of segment EWR"], "a segment's champion stays legal"
    desk.change(lambda state: route_edits.roll_back_segment(state, "EWR"))
    assert [segment.name for segment in desk.state.rules.segments] == ["EWR"]
    with pytest.raises(ReleaseRefused, match="the champion of the table answers there already"):
        desk.change(lambda state: route_edits.roll_back_segment(state, "EWR"))


def test_nobody_becomes_champion_of_a_segment_without_having_been_a_canary(desk: Desk) -> None:
    with pytest.raises(ReleaseRefused, match=r"version 2 is in staging .* it was no canary yet"):
        desk.segment("EWR", EWR, champion=2)
    desk.segment("EWR", EWR, champion=1)
    assert "champion of segment EWR" in desk.table.roles_of(1)


def test_a_segment_comes_before_another_and_is_not_removed_under_an_experiment(desk: Desk) -> None:
    desk.segment("EWR", EWR)
    with pytest.raises(ReleaseRefused, match="'EWR-UA' never gets an item"):
        desk.segment("EWR-UA", {**EWR, "carrier": ["UA"]})
    narrow = {**EWR, "carrier": ["UA"]}
    desk.change(lambda state: route_edits.add_segment(state, "EWR-UA", narrow, before="EWR"))
    assert [segment.name for segment in desk.state.rules.segments] == ["EWR-UA", "EWR"]
    with pytest.raises(
        ReleaseRefused, match=r"no column 'orgin' \(did you mean 'origin'\?\); columns: carrier, origin"
    ):
        desk.change(lambda s: route_edits.add_segment(s, "x", {"orgin": ["EWR"]}, columns=["origin", "carrier"]))
    desk.experiment("local", ("a", 2, 0.5), segment="EWR")
    with pytest.raises(ReleaseRefused, match="experiments run in it: local"):
        desk.change(lambda state: route_edits.remove_segment(state, "EWR"))
    with pytest.raises(ReleaseRefused, match=r"no segment 'EWF' \(did you mean 'EWR'\?\); segments: EWR-UA, EWR"):
        desk.change(lambda state: route_edits.remove_segment(state, "EWF"))


def test_a_version_that_is_rejected_or_rolled_back_leaves_by_itself(desk: Desk) -> None:
    desk.segment("EWR", EWR)
    desk.canary("EWR", 2)
    desk.experiment("prices", ("old", 1, 0.5), ("new", 2, 0.25))
    desk.experiment("alone", ("new", 2, 0.25))
    desk.shadow(2)
    desk.shadow(3)
    commands.reject(desk.ledger, 2, by="Ada", reason="late")
    assert desk.table.roles() == [
        (1, "champion"),
        (3, "shadow of 1 of the units"),
        (1, "arm prices:old with a share of 0.5"),
    ]
    assert [segment.name for segment in desk.state.rules.segments] == ["EWR"], "nobody is moved into another canary"
    commands.approve(desk.ledger, 3, by="Ada", bundles=desk.bundles)
    commands.bring(desk.ledger, 3, "canary", bundles=desk.bundles)
    assert desk.table.roles_of(3) == ["canary with a share of 0.1", "shadow of 1 of the units"]
    commands.rollback(desk.ledger, by="Ada", bundles=desk.bundles)
    assert desk.table.roles_of(3) == []


def test_a_former_champion_may_stay_where_it_decides(desk: Desk) -> None:
    desk.segment("EWR", EWR, champion=1)
    commands.bring(desk.ledger, 2, "prod", bundles=desk.bundles)
    assert desk.state.versions[1].stage == "archived"
    assert desk.table.roles() == [(2, "champion"), (1, "champion of segment EWR")]


@pytest.mark.parametrize("share", [-1.0, 0.0, 1.5, float("nan")])
def test_an_impossible_share_is_refused_and_nothing_is_recorded(desk: Desk, share: float) -> None:
    desk.segment("EWR", EWR)
    head = desk.ledger.head()
    with pytest.raises(ReleaseRefused, match=r"a share lies in \(0, 1\]"):
        desk.shadow(3, share)
    with pytest.raises(ConfigError, match=r"a share lies in \(0, 1\]"):
        desk.experiment("prices", ("old", 1, share))
    with pytest.raises(ReleaseRefused, match="legal in tier medium"):
        desk.canary("EWR", 2, share)
    assert desk.ledger.head() == head


@pytest.mark.parametrize(
    ("name", "arms", "said"),
    [
        ("no name", [("a", 1, 0.5)], "'no name' is no name"),
        ("x" * 33, [("a", 1, 0.5)], "is no name"),
        ("x", [], "1 to 16 arms, got 0"),
        ("x", [("a", 1, 0.5), ("a", 1, 0.5)], "arm 'a' is there twice"),
        ("x", [("a", 1, 0.6), ("b", 1, 0.5)], "the shares sum to 1.1"),
        ("x", [("a", 4, 0.5), ("b", 9, 0.5)], r"version 9 .* is unknown(.|\n)*version 4 is in candidate"),
    ],
)
def test_bad_experiments_are_refused(desk: Desk, name: str, arms: list[tuple[str, int, float]], said: str) -> None:
    with pytest.raises(FlightdeckError, match=said):
        desk.experiment(name, *arms)


def test_every_change_has_a_person_and_a_plain_reason(desk: Desk) -> None:
    edit: Callable[[ReleaseState], Edit] = lambda state: route_edits.set_shadow(state, 3, 1.0)  # noqa: E731
    with pytest.raises(ReleaseRefused, match="person's name"):
        desk.change(edit, by=" ")
    record = desk.change(edit, by="Grace  Hopper", reason="look\nfirst")
    assert (record.actor, record.detail["reason"]) == ("Grace Hopper", "look first")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda detail: {**detail, "digests": {"3": "f" * 64}},
        lambda detail: {**detail, "digests": {}},
        lambda detail: {"digests": detail["digests"]},
        lambda detail: {**detail, "rules": {"shadows": [{"version": 4, "share": 1.0}]}},
        lambda detail: {**detail, "rules": {"shadows": [{"version": 3, "share": 1.5}]}},
        lambda detail: {**detail, "rules": {"shadows": [{"version": 3, "share": 1.0, "weight": 1}]}},
        lambda detail: {**detail, "rules": {"experiments": [{"name": "x", "salt": "x@1", "arms": []}]}},
    ],
)
def test_a_routed_record_that_no_command_writes_is_corruption(
    desk: Desk, spoil: Callable[[dict[str, object]], dict[str, object]]
) -> None:
    good = desk.shadow(3).detail
    desk.ledger.append("routed", actor="x", subject="-", detail=spoil(good))
    with pytest.raises(LedgerCorrupt, match="cannot be"):
        fold(desk.ledger.records())


def test_legal_moves_name_a_rollback_only_where_there_is_a_way_back(desk: Desk) -> None:
    assert legal_moves(desk.state, 1) == [], "the first champion has nobody to return to"
    assert legal_moves(desk.state, 2) == ["promote to shadow", "promote to canary", "approve", "reject"]
    commands.promote(desk.ledger, 2, by="Ada", bundles=desk.bundles)
    assert legal_moves(desk.state, 2) == ["promote to canary", "approve", "reject", "freeze"]
    commands.promote(desk.ledger, 2, by="Ada", bundles=desk.bundles)
    assert legal_moves(desk.state, 2) == ["promote to canary", "promote to prod", "approve", "freeze", "rollback"]
    assert legal_moves(desk.state, 3) == ["promote to shadow", "approve", "reject"], "there is a canary already"
    commands.bring(desk.ledger, 2, "prod", bundles=desk.bundles)
    assert legal_moves(desk.state, 2) == ["rollback"]
    assert legal_moves(desk.state, 1) == []
