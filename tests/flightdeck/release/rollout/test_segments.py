"""Canaries of segments: judged by their own items, taken out without touching anybody else."""

from pathlib import Path

import pytest

from flightdeck.release import route_edits
from flightdeck.release.ledger import Ledger
from flightdeck.release.route_commands import change_routes
from tests import release_desk as commands
from tests.flightdeck.release.rollout.test_controller import Enter, House
from tests.flightdeck.release.rollout.traffic import healthy


@pytest.fixture
def house(ledger: Ledger, bundles: Path, tmp_path: Path, enter: Enter) -> House:
    """Return a house whose version 2 is the canary of the segment of one airport."""
    built = House(ledger, bundles, tmp_path, enter, "low")
    commands.promote(ledger, 2, by="Ada", bundles=bundles)
    for edit in (
        lambda state: route_edits.add_segment(state, "newark", {"origin": ("EWR",)}),
        lambda state: route_edits.set_segment_canary(state, "newark", 2, commands.POLICIES),
    ):
        change_routes(
            ledger, edit, by=commands.person("Ada"), policies=commands.POLICIES, people=commands.PEOPLE, bundles=bundles
        )
    return built


def canary_of(house: House) -> int | None:
    (segment,) = house.state.rules.segments
    return segment.canary.version if segment.canary is not None else None


def test_one_that_fails_leaves_its_segment_within_100_requests(house: House) -> None:
    house.traffic.behaviours[2] = lambda rng: {**healthy(rng), "fails": True}
    (line,) = house.run(2000, n_rounds=100)
    assert "version 2 in segment newark taken out: errors" in line
    assert canary_of(house) is None
    assert (house.state.champion, house.stage()) == (1, "staging")
    assert house.last("routed")["what"].startswith("segment newark: version 2 taken out")


def test_one_that_is_healthy_is_said_to_have_passed_once_and_waits_for_a_person(house: House) -> None:
    done = house.run(12000, n_rounds=60)
    assert len(done) == 1 and "version 2 in segment newark passed after" in done[0]
    assert canary_of(house) == 2
    assert house.last("alert")["name"] == "segment-canary-passed"
    house.controller = house.restarted()
    assert house.run(400) == [], "the ledger knows that it was said"


def test_one_that_answers_nothing_that_can_be_judged_is_told_of_and_stays(house: House) -> None:
    house.traffic.behaviours[2] = lambda rng: {**healthy(rng), "probability": float("nan")}
    done = house.run(2000, n_rounds=20)
    assert len(done) == 1 and "cannot be judged" in done[0]
    assert (canary_of(house), house.last("alert")["name"]) == (2, "segment-canary-unjudged")


def test_its_items_say_nothing_about_the_canary_of_the_table(house: House, enter: Enter) -> None:
    house.traffic.behaviours[2] = lambda rng: {**healthy(rng), "fails": True}
    enter(3, tier="low")
    commands.approve(house.ledger, 3, by="Ada", bundles=house.bundles)
    commands.bring(house.ledger, 3, "canary", bundles=house.bundles)
    house.run(12000, n_rounds=60)
    assert (house.state.champion, canary_of(house)) == (3, None)
