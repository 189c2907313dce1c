from dashboards.releases import concerns, history_table, last_promotion, read_decisions, routes_in_force, went_live
from flightdeck.core.layout import PROJECT, Layout
from flightdeck.gates.policy import read_policies
from flightdeck.release.ledger import Ledger
from flightdeck.release.route_commands import change_routes
from flightdeck.release.route_edits import set_shadow
from tests import release_desk as commands
from tests.dashboards.data_root import CANDIDATE, CHAMPION


def bring(ledger: Ledger, where: Layout, to: str) -> None:
    commands.bring(ledger, CANDIDATE, to, by="Bob", bundles=where.bundles)


def test_who_made_the_champion_is_the_last_to_have_moved_it_there(where: Layout, ledger: Ledger) -> None:
    first = went_live(read_decisions(where).records, CHAMPION)
    assert first is not None
    assert first.actor == "Grace Hopper"
    assert went_live(read_decisions(where).records, CANDIDATE) is None

    commands.approve(ledger, CANDIDATE, by="Ada", bundles=where.bundles, reason="better")
    bring(ledger, where, "prod")
    commands.rollback(ledger, by="Eve", reason="worse after all", bundles=where.bundles)
    again = went_live(read_decisions(where).records, CHAMPION)
    assert again is not None
    assert (again.action, again.actor) == ("rolled_back", "Eve")


def test_killing_a_canary_does_not_make_the_champion_new(where: Layout, ledger: Ledger) -> None:
    commands.approve(ledger, CANDIDATE, by="Ada", bundles=where.bundles, reason="better")
    bring(ledger, where, "canary")
    before = went_live(read_decisions(where).records, CHAMPION)
    commands.rollback(ledger, by="Eve", reason="worse", bundles=where.bundles)
    records = read_decisions(where).records
    assert went_live(records, CHAMPION) == before
    assert not concerns(records[-1], CHAMPION)
    assert concerns(records[-1], CANDIDATE)
    promoted = last_promotion(records, CANDIDATE)
    assert promoted is not None
    assert promoted.detail["to"] == "canary"


def test_being_replaced_belongs_to_the_history_of_the_replaced(where: Layout, ledger: Ledger) -> None:
    commands.approve(ledger, CANDIDATE, by="Ada", bundles=where.bundles, reason="better")
    bring(ledger, where, "prod")
    assert concerns(read_decisions(where).records[-1], CHAMPION)


def test_routes_belong_to_the_history_of_their_version_and_are_named(where: Layout, ledger: Ledger) -> None:
    bring(ledger, where, "staging")
    change_routes(
        ledger,
        lambda state: set_shadow(state, CANDIDATE, 0.2),
        by=commands.person("Bob"),
        people=commands.PEOPLE,
        policies=read_policies(PROJECT / "conf"),
        bundles=where.bundles,
        reason="look first",
    )
    decisions = read_decisions(where)
    assert routes_in_force(decisions.state, CANDIDATE) == "shadow of 0.2 of the units"
    assert routes_in_force(decisions.state, CHAMPION) == "champion"
    assert concerns(decisions.records[-1], CANDIDATE)
    assert not concerns(decisions.records[-1], CHAMPION)
    assert history_table(decisions.records[-1:])["Detail"].tolist() == ["look first, shadow 2 of 0.2"]
