import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flightdeck.inference.budget import DAY_US, DailyBudget, Spent
from flightdeck.inference.surface_policy import Criticality, LatencyBudget, SurfacePolicy

LATENCY = LatencyBudget(150, 20, 2000)
NOON_US = 20_000 * DAY_US + DAY_US // 2


def policy(criticality: Criticality, own: float | None = None, weight: float = 1.0) -> SurfacePolicy:
    return SurfacePolicy(criticality, LATENCY, weight, own)


def make(
    total: float | None = None, n_workers: int = 1, *, alerts: float | None = None, search: float | None = None
) -> DailyBudget:
    surfaces = {
        "alerts": policy(Criticality.CRITICAL, alerts),
        "itinerary": policy(Criticality.NORMAL),
        "maps": policy(Criticality.SHEDDABLE, weight=3.0),
        "search": policy(Criticality.SHEDDABLE, search),
    }
    return DailyBudget(surfaces, total=total, n_workers=n_workers)


def test_over_the_total_the_least_critical_moves_first_and_the_others_at_five_percent_each() -> None:
    budget, order = make(total=100.0), []
    budget.charge("search", 1.0, NOON_US)
    for _ in range(120):
        budget.charge("alerts", 1.0, NOON_US)
        order.append(list(budget.over_budget(NOON_US)))
    assert order[97] == [] and order[98] == ["search"]
    assert order[103] == ["search", "maps"] and order[109] == ["search", "maps", "itinerary"]
    assert order[-1] == ["search", "maps", "itinerary", "alerts"]


def test_for_its_own_budget_a_surface_moves_after_all_that_are_less_critical() -> None:
    budget = make(alerts=10.0, search=10.0)
    budget.charge("search", 10.0, NOON_US)
    assert budget.over_budget(NOON_US) == {"search": "budget of search: 10 of 10 spent, its turn at 10"}
    budget.charge("alerts", 10.5, NOON_US)
    assert list(budget.over_budget(NOON_US)) == ["search", "maps"]
    budget.charge("alerts", 1.0, NOON_US)
    assert list(budget.over_budget(NOON_US)) == ["search", "maps", "itinerary", "alerts"]


def test_weights_and_workers_count() -> None:
    budget = make(total=90.0, n_workers=3)
    budget.charge("maps", 9.0, NOON_US)
    assert budget.spending() == [Spent("all", 27.0, 30.0)] and budget.over_budget(NOON_US) == {}
    budget.charge("maps", 1.0, NOON_US)
    assert list(budget.over_budget(NOON_US)) == ["maps"]


def test_a_new_day_begins_at_midnight_utc_and_no_day_comes_back() -> None:
    budget = make(total=10.0)
    budget.charge("search", 10.0, NOON_US)
    midnight_us = 20_001 * DAY_US
    assert budget.over_budget(midnight_us - 1) and not budget.over_budget(midnight_us)
    budget.charge("search", 10.0, midnight_us)
    assert budget.over_budget(NOON_US), "a clock that was put back brings no second day"


def test_a_restart_goes_on_and_only_from_what_counts() -> None:
    before, after = make(total=10.0), make(total=10.0)
    before.charge("search", 10.0, NOON_US)
    saved = json.loads(json.dumps(before.saved()))
    assert after.restore(saved, NOON_US) and list(after.over_budget(NOON_US)) == ["search"]
    assert not make(total=10.0).restore(saved, NOON_US + DAY_US)


@pytest.mark.parametrize(
    "saved",
    [
        {},
        {"day": 20_000},
        {"day": 20_000, "spent": 3},
        {"day": 20_000, "spent": {"search": -1.0}},
        {"day": 20_000, "spent": {"search": float("nan")}},
        {"day": 20_000, "spent": {"search": True}},
        {"day": "20000", "spent": {}},
    ],
)
def test_a_damaged_state_is_not_taken(saved: dict[str, Any]) -> None:
    budget = make(total=10.0)
    assert not budget.restore(saved, NOON_US)
    assert budget.spending() == [Spent("all", 0.0, 10.0)]


CHARGES = st.lists(st.tuples(st.sampled_from(["alerts", "itinerary", "maps", "search"]), st.floats(0, 20)), max_size=30)


@given(CHARGES)
def test_within_a_day_nobody_moves_back_and_the_more_critical_never_before_the_less(
    charges: list[tuple[str, float]],
) -> None:
    budget, before = make(total=50.0, alerts=30.0), set[str]()
    level = {"alerts": 0, "itinerary": 1, "maps": 2, "search": 2}
    for surface, cost_s in charges:
        budget.charge(surface, cost_s, NOON_US)
        moved = budget.over_budget(NOON_US)
        for name in moved:
            assert all(other in moved for other in level if level[other] > level[name])
        assert before <= set(moved)
        before = set(moved)
