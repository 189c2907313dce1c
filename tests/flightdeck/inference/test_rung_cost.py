import random
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from flightdeck.inference.rung_cost import MAX_PATIENCE_S, RungCost


def fitted(fixed_s: float, per_request_s: float, per_item_s: float, n_batches: int = 600) -> RungCost:
    cost, chance = RungCost(5e-5, 4e-5, 2e-5), random.Random(3)
    for place in range(n_batches):
        n_requests = chance.choice([1, 2, 8, 30])
        n_items = n_requests * chance.choice([1, 1, 10, 50])
        took_s = (fixed_s + n_requests * per_request_s + n_items * per_item_s) * chance.lognormvariate(0, 0.1)
        cost.learn(n_requests, n_items, took_s, now_s=place * 0.01)
    return cost


def test_it_learns_the_parts_from_batches_of_all_sizes() -> None:
    for fixed_s, per_request_s, per_item_s in ((2e-4, 4e-5, 7e-6), (1e-3, 1e-4, 5e-3), (1e-5, 2e-5, 1e-6)):
        cost = fitted(fixed_s, per_request_s, per_item_s)
        for n_requests, n_items in ((1, 1), (1, 50), (30, 30), (8, 400)):
            real_s = fixed_s + n_requests * per_request_s + n_items * per_item_s
            assert 0.75 < cost.predict_s(n_requests, n_items) / real_s < 1.35


def test_the_first_batch_sets_the_scale() -> None:
    cost = RungCost(5e-5, 4e-5, 2e-5)
    assert not cost.is_known
    cost.learn(1, 1, 0.5, now_s=0.0)
    assert cost.is_known and abs(cost.predict_s(1, 1) - 0.5) < 1e-9


def test_one_accident_moves_it_little_and_a_change_is_followed_in_five_batches() -> None:
    accident, change = fitted(1e-3, 1e-4, 1e-3), fitted(1e-3, 1e-4, 1e-3)
    usual_s = accident.predict_s(1, 1)
    accident.learn(1, 1, 50 * usual_s, now_s=6.0)
    assert accident.predict_s(1, 1) < 1.6 * usual_s
    for place in range(5):
        change.learn(1, 1, 10 * usual_s, now_s=6.0 + place * 0.01)
    assert 7 * usual_s < change.predict_s(1, 1) < 14 * usual_s


def test_a_batch_that_hung_is_believed_at_once_and_tried_again_after_a_while() -> None:
    cost = fitted(1e-3, 1e-4, 1e-3)
    cost.learn(1, 1, 1.0, now_s=6.0)
    assert cost.predict_s(1, 1) > 0.9
    assert not cost.is_due(25.0, level=2) and cost.is_due(27.0, level=2) and not cost.is_due(27.0, level=0)
    cost.begin_trial(27.0)
    assert not cost.is_due(27.1, level=2)
    cost.learn(1, 1, 0.002, now_s=27.0)
    assert cost.predict_s(1, 1) < 0.003, "the first batch after a pause is believed"


def test_trials_that_find_no_change_become_rare() -> None:
    cost, now_s, trials = fitted(1e-2, 1e-3, 5e-2), 6.0, []
    for _ in range(12):
        while not cost.is_due(now_s, level=2):
            now_s += 0.5
        cost.begin_trial(now_s)
        cost.learn(1, 1, 0.06, now_s)
        trials.append(now_s)
    pauses = [after - before for before, after in pairwise(trials)]
    assert pauses == sorted(pauses) and pauses[-1] <= MAX_PATIENCE_S + 0.5 < 2 * pauses[-1]


@given(st.lists(st.tuples(st.integers(1, 500), st.integers(0, 5000), st.floats(0, 1e3)), max_size=40))
def test_whatever_batches_take_the_parts_stay_positive_and_finite(batches: list[tuple[int, int, float]]) -> None:
    cost = RungCost(5e-5, 4e-5, 2e-5)
    for place, (n_requests, n_items, took_s) in enumerate(batches):
        cost.learn(n_requests, n_items, took_s, now_s=place * 0.3)
        assert all(0 < part < 1e9 for part in (cost.fixed_s, cost.per_request_s, cost.per_item_s, cost.request_s))
