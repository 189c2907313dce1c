"""Laws of the waiting room, in any order of arrivals, turns, costs and clients that leave."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from flightdeck.inference.modes import RUNGS, Mode
from flightdeck.inference.scheduler import Scheduler
from flightdeck.inference.waiting import Refusal, State, Waiting
from tests.flightdeck.inference.simulation import POLICIES, SETTINGS

SURFACES = tuple(POLICIES)
TURN_S = SETTINGS.turn_ms / 1e3


def warm(*item_s: float, fixed_s: float = 1e-5) -> Scheduler:
    """Return a scheduler that knows what an item costs on each rung."""
    scheduler = Scheduler(POLICIES, SETTINGS)
    for mode, cost_s in zip(RUNGS, item_s, strict=True):
        cost = scheduler.costs[mode]
        cost.fixed_s, cost.per_request_s, cost.per_item_s = fixed_s, 1e-6, cost_s
        for _ in range(3):
            scheduler.observe(mode, 1, cost.predict_s(1, 1))
    return scheduler


def add(scheduler: Scheduler, surface: str, now_s: float = 0.0, n_items: int = 1, allowed_s: float = 0.0) -> Waiting:
    allowed_s = allowed_s or POLICIES[surface].latency_budget_ms.default / 1e3
    added = scheduler.add(surface, n_items, now_s, now_s + allowed_s, object())
    assert isinstance(added, Waiting)
    return added


def test_what_fits_is_computed_at_once_by_the_model() -> None:
    scheduler = warm(1e-5, 1e-5, 1e-6)
    asked = [add(scheduler, surface) for surface in SURFACES for _ in range(20)]
    turn = scheduler.next(0.0)
    assert set(turn.compute) == set(asked) and not turn.refuse and 0 < turn.work_s <= TURN_S
    assert {(request.mode, request.why, request.state) for request in asked} == {(Mode.MODEL, "", State.TAKEN)}
    assert scheduler.next(0.0).compute == [] == scheduler.next(0.0).refuse


def test_more_critical_first_then_the_oldest_deadline_then_the_order_of_arrival() -> None:
    scheduler = warm(1e-3, 1e-3, 1e-3)
    second = [add(scheduler, "search", allowed_s=0.3) for _ in range(3)]
    first = add(scheduler, "search", allowed_s=0.2)
    critical = [add(scheduler, "alerts") for _ in range(3)]
    order: list[Waiting] = []
    while scheduler.n_waiting:
        order += scheduler.next(0.0).compute
    assert order == [*critical, first, *second]


def test_a_turn_is_bounded_whatever_waits_and_a_large_request_has_one_to_itself() -> None:
    scheduler = warm(1e-3, 1e-3, 1e-3)
    large = add(scheduler, "alerts", n_items=20)
    for _ in range(8):
        add(scheduler, "alerts")
    assert scheduler.next(0.0).compute == [large]
    turn = scheduler.next(0.0)
    assert 3 <= len(turn.compute) <= 5 and turn.work_s <= TURN_S
    too_large = add(warm_cheap := warm(1e-3, 1e-5, 1e-6), "search", n_items=60)
    assert warm_cheap.next(0.0).compute == [too_large]
    assert (too_large.mode, too_large.why) == (Mode.FALLBACK, "overload")


@pytest.mark.parametrize(
    ("allowed_s", "mode", "why"),
    [(0.1, Mode.MODEL, ""), (0.02, Mode.FALLBACK, "deadline"), (0.0005, Mode.RULES, "deadline")],
)
def test_short_of_time_the_highest_rung_that_is_in_time_answers(allowed_s: float, mode: Mode, why: str) -> None:
    scheduler = warm(0.03, 1e-3, 1e-5)
    asked = add(scheduler, "alerts", allowed_s=allowed_s)
    assert scheduler.next(0.0).compute == [asked] and (asked.mode, asked.why) == (mode, why)


def test_what_no_rung_can_answer_in_time_is_refused_before_it_runs() -> None:
    scheduler = warm(0.03, 1e-3, 1e-3)
    asked = add(scheduler, "alerts", allowed_s=1e-4)
    turn = scheduler.next(0.0)
    assert turn.refuse == [asked] and not turn.compute
    assert asked.mode is Mode.REFUSED and asked.why == "deadline" and asked.retry_after_s >= 1.0
    assert isinstance(add(scheduler, "search"), Waiting), "a client in a hurry closes nobody out"


def test_the_highest_rung_that_a_caller_allows_is_kept() -> None:
    scheduler = warm(1e-5, 1e-5, 1e-6)
    added = scheduler.add("search", 1, 0.0, 0.3, None, Mode.RULES)
    assert scheduler.next(0.0).compute == [added] and isinstance(added, Waiting) and added.mode is Mode.RULES


def test_whoever_is_forgotten_is_not_computed_and_leaves_no_trace() -> None:
    scheduler = warm(1e-3, 1e-3, 1e-3)
    asked = [add(scheduler, "search") for _ in range(20)]
    gone = asked[::2]
    assert all(scheduler.forget(request) for request in gone) and not scheduler.forget(gone[0])
    assert {request.payload for request in gone} == {None}
    computed: list[Waiting] = []
    while scheduler.n_waiting:
        computed += scheduler.next(0.0).compute
    assert computed == asked[1::2] and not scheduler.forget(computed[0])


def test_clients_that_come_and_go_leave_no_memory_behind() -> None:
    scheduler = warm(1e-3, 1e-3, 1e-3)
    kept = add(scheduler, "search")
    for _ in range(10_000):
        scheduler.forget(add(scheduler, "search", allowed_s=0.4))
    assert len(scheduler.rooms.classes[2]._heap) < 200
    assert scheduler.next(0.0).compute == [kept]


def test_a_full_class_refuses_and_closes_those_below_but_never_those_above() -> None:
    scheduler = warm(5e-3, 5e-3, 5e-3)
    while not isinstance(refusal := scheduler.add("itinerary", 1, 0.0, 0.2, None), Refusal):
        pass
    assert refusal.why == "overload" and 1.0 <= refusal.retry_after_s <= 30.0
    while scheduler.n_waiting:
        scheduler.next(0.0)
    assert isinstance(scheduler.add("search", 1, 0.5, 0.8, None), Refusal), "closed for a while"
    assert isinstance(scheduler.add("alerts", 1, 0.5, 0.8, None), Waiting)
    assert isinstance(scheduler.add("itinerary", 1, 0.5, 0.8, None), Waiting)
    assert isinstance(scheduler.add("search", 1, 1.1, 1.4, None), Waiting), "and open again"


def test_lag_takes_room_from_the_least_critical_first_and_gives_it_back() -> None:
    scheduler = warm(1e-3, 1e-3, 1e-3)

    def rooms(lag_s: float, from_s: float, until_s: float) -> list[tuple[float, float, float]]:
        found, now_s = [], from_s
        while now_s < until_s:
            scheduler.next(now_s)
            scheduler.observe_lag(lag_s)
            found.append(scheduler.rooms.pressure.rooms)
            now_s += 0.01
        return found

    pressed = rooms(0.2, 0.0, 1.0)
    assert pressed == sorted(pressed, reverse=True) and pressed[-1] == (0.25, 0.0, 0.0)
    assert all(search == 0.0 or itinerary == 1.0 for _, itinerary, search in pressed)
    assert all(itinerary == 0.0 or alerts == 1.0 for alerts, itinerary, _ in pressed)
    assert rooms(0.0, 1.0, 4.0)[-1] == (1.0, 1.0, 1.0)


def test_one_wrong_observation_does_not_end_a_rung_for_good() -> None:
    scheduler = warm(1e-4, 1e-4, 1e-5)
    scheduler.next(0.0)
    scheduler.observe(Mode.MODEL, 1, 30.0)
    modes, now_s = [], 0.0
    while now_s < 400.0:
        asked = add(scheduler, "search", now_s)
        for request in scheduler.next(now_s).compute:
            scheduler.observe(request.mode, 1, 1e-4)
        modes.append(asked.mode)
        now_s += 0.5
    assert modes[0] is Mode.FALLBACK and modes[-1] is Mode.MODEL


class RoomMachine(RuleBasedStateMachine):
    """Everything that a server may do with the scheduler, with costs that lie."""

    @initialize(item_s=st.sampled_from([1e-5, 1e-3, 5e-3]), cheaper=st.sampled_from([1.0, 0.4, 0.01]))
    def begin(self, item_s: float, cheaper: float) -> None:
        self.scheduler = warm(item_s, item_s * cheaper, item_s * cheaper**2)
        self.now_s = 10.0
        self.waiting: dict[int, Waiting] = {}
        self.n_ended = self.n_added = 0
        self.highest: dict[int, Mode] = {}

    @rule(
        surface=st.sampled_from(SURFACES),
        n_items=st.sampled_from([1, 1, 1, 7, 50, 1000]),
        allowed_s=st.sampled_from([1e-4, 0.02, 0.15, 0.15, 2.0]),
        highest=st.sampled_from([Mode.MODEL, Mode.MODEL, Mode.FALLBACK, Mode.RULES]),
        n_times=st.integers(1, 30),
    )
    def arrive(self, surface: str, n_items: int, allowed_s: float, highest: Mode, n_times: int) -> None:
        for _ in range(n_times):
            level = POLICIES[surface].criticality.level
            added = self.scheduler.add(surface, n_items, self.now_s, self.now_s + allowed_s, self.n_added, highest)
            if isinstance(added, Refusal):
                assert 1.0 <= added.retry_after_s <= 30.0
                for lower in SURFACES:
                    if POLICIES[lower].criticality.level > level:
                        assert isinstance(self.scheduler.add(lower, 1, self.now_s, self.now_s + 1, None), Refusal)
                continue
            self.waiting[self.n_added] = added
            self.highest[self.n_added] = highest
            self.n_added += 1

    @rule(took=st.sampled_from([0.3, 1.0, 1.0, 1.0, 3.0, 30.0]))
    def turn(self, took: float) -> None:
        before = list(self.waiting.values())
        turn = self.scheduler.next(self.now_s)
        for request in (*turn.compute, *turn.refuse):
            assert self.waiting.pop(request.payload) is request, "in two turns, or never added"
            self.n_ended += 1
        for request in turn.compute:
            assert self.highest[request.payload] <= request.mode <= Mode.RULES
            assert (request.why == "") == (request.mode is self.highest[request.payload])
            assert request.state is State.TAKEN and request.deadline_s > self.now_s
        assert all(r.mode is Mode.REFUSED and r.why and r.state is State.REFUSED for r in turn.refuse)
        assert len(turn.compute) <= 1 or turn.work_s <= TURN_S * 1.05
        assert bool(before) == bool(turn.compute or turn.refuse)
        self.keep_order(before, turn.compute)
        self.now_s += turn.work_s * took
        for mode in RUNGS:
            batch = [request for request in turn.compute if request.mode is mode]
            if batch:
                n_items = sum(request.n_items for request in batch)
                took_s = self.scheduler.costs[mode].predict_s(len(batch), n_items) * took
                self.scheduler.observe(mode, n_items, took_s, len(batch))

    def keep_order(self, before: list[Waiting], computed: list[Waiting]) -> None:
        """Within a class nobody is computed while one with an older deadline, or equal and earlier, goes on waiting."""
        for level in range(3):
            mine = [(r.deadline_s, r.payload) for r in computed if r.level == level]
            left = [(r.deadline_s, r.payload) for r in before if r.level == level and r.state is State.WAITING]
            assert not mine or not left or max(mine) < min(left)
        levels_left = [r.level for r in before if r.state is State.WAITING]
        assert not levels_left or all(request.level <= min(levels_left) for request in computed)

    @rule(choice=st.randoms(use_true_random=False))
    def leave(self, choice: "st.random.Random") -> None:  # type: ignore[name-defined]
        if self.waiting:
            key = choice.choice(sorted(self.waiting))
            assert self.scheduler.forget(self.waiting.pop(key))
            self.n_ended += 1

    @rule(step_s=st.sampled_from([0.001, 0.05, 0.5, 5.0]), lag_s=st.sampled_from([0.0, 0.005, 0.3]))
    def wait(self, step_s: float, lag_s: float) -> None:
        self.now_s += step_s
        self.scheduler.observe_lag(lag_s)

    @invariant()
    def nothing_is_lost(self) -> None:
        if hasattr(self, "scheduler"):
            assert self.n_added == self.n_ended + len(self.waiting)
            assert self.scheduler.n_waiting == len(self.waiting)
            for waiting in self.scheduler.rooms.classes:
                assert waiting.work_s >= -1e-9

    def teardown(self) -> None:
        if hasattr(self, "scheduler"):
            for _ in range(20_000):
                if not self.waiting:
                    break
                self.turn(1.0)
            assert not self.waiting, "every request ends"


RoomMachine.TestCase.settings = settings(max_examples=120, stateful_step_count=30, deadline=None)
TestRoomMachine = RoomMachine.TestCase


@given(st.integers(1, 400))
def test_times_to_come_back_differ(n: int) -> None:
    scheduler = warm(5e-3, 5e-3, 5e-3)
    found = [scheduler.add("search", 1, 0.0, 0.3, None) for _ in range(n)]
    times = [added.retry_after_s for added in found if isinstance(added, Refusal)]
    later = [time_s for time_s in times if time_s > 1.0]
    assert len(set(later)) == len(later) and all(1.0 <= time_s <= 30.0 for time_s in times)
