import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flightdeck.core.errors import FlightdeckError
from flightdeck.release.judge.betting import Bettor, vote_stakes

VOTES = st.lists(st.booleans(), min_size=1, max_size=60)
P0 = st.floats(0.01, 0.99)
RATIOS = (1.5, 4.0, 50.0)


def observe(votes: list[bool], p0: float) -> np.ndarray:
    return np.array(votes, dtype=np.float64) - p0


@given(P0, st.floats(0, 1))
def test_no_side_of_the_null_makes_a_bet_favourable(p0: float, below: float) -> None:
    p = p0 * below
    for stake in vote_stakes(p0, RATIOS):
        mean = p * (1 + stake * (1 - p0)) + (1 - p) * (1 - stake * p0)
        assert mean <= 1 + 1e-12
        assert min(1 + stake * (1 - p0), 1 - stake * p0) > 0, "one vote must not take everything"


@given(VOTES, P0)
def test_the_wealth_is_the_mean_likelihood_ratio(votes: list[bool], p0: float) -> None:
    path = Bettor(vote_stakes(p0, RATIOS)).path(observe(votes, p0))
    odds = p0 / (1 - p0) * np.array(RATIOS)
    p1 = odds / (1 + odds)
    n, ones = len(votes), sum(votes)
    log_ratios = ones * np.log(p1 / p0) + (n - ones) * np.log((1 - p1) / (1 - p0))
    assert path[-1] == pytest.approx(np.logaddexp.reduce(log_ratios) - np.log(len(RATIOS)), abs=1e-8)


@given(VOTES, P0, st.data())
def test_cuts_and_orders_do_not_change_the_wealth(votes: list[bool], p0: float, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(votes)))
    shuffled = data.draw(st.permutations(votes))
    whole, parts, other = (Bettor(vote_stakes(p0, RATIOS)) for _ in range(3))
    path = whole.path(observe(votes, p0))
    pieces = np.concatenate([parts.path(observe(votes[:place], p0)), parts.path(observe(votes[place:], p0))])
    np.testing.assert_allclose(pieces, path, atol=1e-9)
    np.testing.assert_allclose(other.path(observe(shuffled, p0))[-1], path[-1], atol=1e-9)


@given(VOTES, P0)
def test_one_more_vote_against_raises_the_wealth_and_one_for_lowers_it(votes: list[bool], p0: float) -> None:
    path = {last: Bettor(vote_stakes(p0, RATIOS)).path(observe([*votes, last], p0)) for last in (True, False)}
    assert path[True][-1] > path[True][-2]
    assert path[False][-1] < path[False][-2]


def test_a_state_of_other_stakes_is_refused() -> None:
    with pytest.raises(FlightdeckError, match="3 numbers are needed"):
        Bettor(vote_stakes(0.5, RATIOS)).resume([0.0])
