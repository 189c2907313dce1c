"""The breaker against a plain model of its rule, in any order of calls."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from flightdeck.inference.breaker import Breaker, BreakerState

SLOW_S = 0.02
STEP_S = st.sampled_from([0.0, 0.001, 0.1, 0.4, 0.6, 3.0, 20.0])


def test_a_dependency_that_fails_opens_it_within_a_second_at_any_rate() -> None:
    for pause_s in (0.001, 0.05, 0.3, 0.5, 0.9):
        breaker, now_s = Breaker(SLOW_S), 100.0
        while not breaker.n_opened:
            now_s += pause_s
            breaker.record(took_s=0.001, is_ok=False, now_s=now_s)
        assert now_s - (100.0 + pause_s) <= 1.0


def test_a_dependency_that_is_slow_opens_it_too_and_one_long_call_is_enough() -> None:
    slow, hung = Breaker(SLOW_S), Breaker(SLOW_S)
    for place in range(3):
        slow.record(took_s=0.021, is_ok=True, now_s=1.0 + place * 0.03)
    hung.record(took_s=2.0, is_ok=True, now_s=3.0)
    assert not slow.allows(1.1) and not hung.allows(3.0)


@pytest.mark.parametrize(("every", "opens"), [(2, True), (4, False)])
def test_what_fails_now_and_then_opens_it_if_it_is_more_than_one_in_three(every: int, opens: bool) -> None:
    breaker, now_s = Breaker(SLOW_S), 0.0
    for place in range(400):
        now_s += 0.001
        if breaker.allows(now_s):
            breaker.record(took_s=0.001, is_ok=place % every != 0, now_s=now_s)
    assert (breaker.n_opened > 0) == opens


def test_a_pause_doubles_with_each_bad_probe_up_to_the_longest() -> None:
    breaker = Breaker(SLOW_S, first_pause_s=0.5, max_pause_s=3.0)
    breaker.record(took_s=1.0, is_ok=False, now_s=0.0)
    now_s, pauses = 0.0, []
    for _ in range(5):
        began_s = now_s
        while not breaker.allows(now_s):
            now_s += 0.125
        pauses.append(now_s - began_s)
        breaker.record(took_s=0.001, is_ok=False, now_s=now_s)
    assert pauses == [0.5, 1.0, 2.0, 3.0, 3.0]
    assert breaker.n_opened == 1


class BreakerMachine(RuleBasedStateMachine):
    """Calls that overlap, are lost, fail, are slow; time passes."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker = Breaker(SLOW_S, first_pause_s=0.5, max_pause_s=8.0)
        self.now_s = 50.0
        self.n_bad_in_a_row = 0
        self.probe_until_s = 0.0
        self.is_out = False

    @rule(step_s=STEP_S)
    def wait(self, step_s: float) -> None:
        self.now_s += step_s

    @rule()
    def ask(self) -> None:
        before = self.breaker.state(self.now_s)
        allowed = self.breaker.allows(self.now_s)
        if before is BreakerState.CLOSED:
            assert allowed
        elif before is BreakerState.OPEN:
            assert not allowed
        elif allowed:
            assert not self.is_out or self.now_s >= self.probe_until_s, "two probes at once"
            self.probe_until_s = self.now_s + 0.5
        self.is_out = allowed or (self.is_out and self.now_s < self.probe_until_s)

    @precondition(lambda self: self.is_out)
    @rule(is_ok=st.booleans(), took_s=st.sampled_from([0.0, 0.01, 0.03, 0.7]))
    def end(self, is_ok: bool, took_s: float) -> None:
        before = self.breaker.state(self.now_s)
        is_bad = not is_ok or took_s > SLOW_S
        self.breaker.record(took_s=took_s, is_ok=is_ok, now_s=self.now_s)
        after = self.breaker.state(self.now_s)
        self.n_bad_in_a_row = self.n_bad_in_a_row + 1 if is_bad else 0
        self.is_out = False
        if is_bad:
            assert before is BreakerState.CLOSED or after is BreakerState.OPEN
            assert after is BreakerState.OPEN or self.n_bad_in_a_row < 3
        else:
            assert after is not BreakerState.OPEN
        if before is not BreakerState.CLOSED and after is BreakerState.CLOSED:
            assert not is_bad

    @invariant()
    def never_stays_open_for_longer_than_the_longest_pause(self) -> None:
        assert self.breaker.state(self.now_s + 8.0) is not BreakerState.OPEN


BreakerMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestBreakerMachine = BreakerMachine.TestCase
