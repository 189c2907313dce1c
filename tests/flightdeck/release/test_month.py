"""A month of daily retraining, with emergencies in between: who gives way to whom, and where a rollback goes."""

import random
from datetime import timedelta

import pytest

from flightdeck.core.errors import ReleaseRefused
from flightdeck.release import route_edits
from flightdeck.release.stages import CANARY, FROZEN, PROD, SUPERSEDED
from tests.control_plane import ControlPlane

N_DAYS = 30


class Month:
    """A house in which a version is made each morning; the traffic of some is bad, that of others too little."""

    def __init__(self, seed: int, tier: str) -> None:
        self.plane, self.tier = ControlPlane(), tier
        self.chance = random.Random(seed)
        self.shows: dict[int, str] = {}
        self.went_live: list[int] = []
        self.n_canaries = self.n_overlaps = 0

    def make(self, *, is_emergency: bool) -> None:
        """Bring a new version; it takes the place of the one under way, if its tier or an emergency lets it."""
        plane = self.plane
        version = plane.enter(tier=self.tier)
        self.shows[version] = self.chance.choice(["pass", "pass", "pass", "fail", "inconclusive", "freeze"])
        plane.approve(version, "Ada")
        plane.approve(version, "Grace")
        plane.promote(version, "Max")
        plane.audit()
        state = plane.state
        under_way = [one for one in (state.canary, state.shadow) if one is not None]
        self.n_overlaps += bool(under_way)
        plane.promote(version, "Max", is_emergency=is_emergency, supersede=True)
        plane.audit()
        if is_emergency and state.canary is not None:
            assert plane.state.versions[state.canary].stage == SUPERSEDED
            assert plane.state.canary == version

    def pass_hours(self, n_hours: int) -> None:
        """Let the controller look each hour; what a person must do by hand is done, what is frozen taken out."""
        plane = self.plane
        for _ in range(n_hours):
            plane.clock.advance_to(plane.clock.now() + timedelta(hours=1))
            before = plane.state
            for version in (before.canary, before.shadow):
                if version is not None:
                    plane.attempt(lambda version=version: plane.look("one", self.shows[version]))  # type: ignore[misc]
                    self.let_go_on(version)
            canaries = [v.version for v in plane.state.versions.values() if v.live_stage == CANARY]
            assert len(canaries) <= 1
            self.n_canaries += len(canaries)
            if plane.state.champion != before.champion and plane.state.champion is not None:
                self.went_live.append(plane.state.champion)

    def let_go_on(self, version: int) -> None:
        """Do by hand what the policy leaves to a person."""
        plane, now = self.plane, self.plane.state.versions[version]
        if now.stage in (CANARY, "shadow") and now.evidence is not None and now.evidence.verdict == "pass":
            plane.attempt(lambda: plane.rehearse(version))
            plane.attempt(lambda: plane.promote(version, "Max"))
        if now.stage == FROZEN and now.live_stage == CANARY:
            plane.attempt(lambda: plane.roll_back("Max"))


@pytest.mark.parametrize("tier", ["low", "medium", "high"])
@pytest.mark.parametrize("seed", range(8))
def test_a_month_of_daily_retraining(seed: int, tier: str) -> None:
    month = Month(seed, tier)
    plane = month.plane
    first = plane.enter(tier=tier)
    plane.approve(first, "Ada")
    plane.approve(first, "Grace")
    while plane.state.champion != first:
        plane.promote(first, "Max")
        plane.audit()
    month.went_live.append(first)
    for day in range(N_DAYS):
        month.make(is_emergency=False)
        month.pass_hours(month.chance.randrange(1, 4))
        if day % 6 == 5:
            month.make(is_emergency=True)
        month.pass_hours(20)
        plane.reconcile()
    assert month.n_overlaps > 0 and month.n_canaries > 0
    assert list(plane.state.previous_champions) == month.went_live[:-1]
    gone = [version for version, one in plane.state.versions.items() if one.stage == SUPERSEDED]
    assert gone
    for version in gone:
        with pytest.raises(ReleaseRefused, match="legal from superseded: no promotion"):
            plane.promote(version, "Max")
    if plane.state.canary is not None:
        plane.roll_back("Max")
    for expected in reversed(month.went_live[:-1]):
        plane.roll_back("Olga")
        plane.audit()
        assert plane.state.champion == expected, "the champion that was there before comes back"
        assert plane.state.versions[expected].stage == PROD
    plane.reconcile()
    plane.close()


def test_a_segment_has_a_canary_of_its_own_and_one_only() -> None:
    month = Month(1, "low")
    plane = month.plane
    for _ in range(3):
        version = plane.enter(tier="low")
        plane.approve(version, "Ada")
        plane.promote(version, "Max")
        plane.audit()
    for _ in range(2):
        plane.promote(1, "Max")
        plane.audit()
    plane.reroute(lambda state: route_edits.add_segment(state, "x", {"origin": ["EWR"]}))
    plane.promote(2, "Max")
    plane.reroute(lambda state: route_edits.set_segment_canary(state, "x", 3, plane.policies))
    plane.audit()
    with pytest.raises(ReleaseRefused, match="version 3 is the canary there"):
        plane.reroute(lambda state: route_edits.set_segment_canary(state, "x", 2, plane.policies))
    version = plane.enter(tier="low")
    plane.approve(version, "Ada")
    plane.promote(version, "Max")
    plane.promote(version, "Max", is_emergency=True, supersede=True)
    plane.audit()
    (segment,) = plane.state.rules.segments
    assert (plane.state.canary, segment.canary.version if segment.canary else None) == (version, 3)
    plane.close()


def test_an_older_version_does_not_take_the_place_of_a_newer_one() -> None:
    plane = ControlPlane()
    for _ in range(2):
        version = plane.enter()
        plane.approve(version, "Ada")
        plane.promote(version, "Max")
    plane.promote(2, "Max")
    plane.audit()
    with pytest.raises(ReleaseRefused, match="a newer one that is under way takes the place of an older one"):
        plane.promote(1, "Max", supersede=True)
    plane.audit()
    assert plane.state.canary == 2
    plane.close()
