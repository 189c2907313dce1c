"""Places among ordered events equal those that counting gives, whatever the keys and times are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flightdeck.features.entity_frame import RADIX_KEYS, stable_order
from flightdeck.features.key_ranks import MAX_KEYS, KeyRanks
from flightdeck.features.time_index import TimeIndex

INSTANTS = st.integers(-(2**61), 2**61) | st.integers(0, 50)


@given(times=st.lists(INSTANTS, max_size=60), bounds=st.lists(INSTANTS, max_size=20))
def test_times_up_to_a_bound_are_counted(times: list[int], bounds: list[int]) -> None:
    ordered = np.sort(np.array(times, dtype=np.int64))
    asked = np.array([*bounds, *times], dtype=np.int64)  # bounds that equal a time, too
    expected = [sum(time <= bound for time in times) for bound in asked.tolist()]
    assert TimeIndex(ordered).count_until(asked).tolist() == expected


@pytest.mark.parametrize("n_events", [0, 1, 31, 32, 33, 64, 1000])
@pytest.mark.parametrize("n_keys", [1, 3, MAX_KEYS])
def test_ranks_equal_counting(n_events: int, n_keys: int) -> None:
    random = np.random.default_rng(n_events + n_keys)
    key = random.integers(-1, n_keys, n_events)
    asked, until = random.integers(0, n_keys, 300), random.integers(0, n_events + 1, 300)
    found = KeyRanks(key, n_keys).place(asked, until)
    for place, own, seen in zip(found, asked, until, strict=True):
        lower = np.count_nonzero((key >= 0) & (key < own))
        assert place == lower + np.count_nonzero(key[:seen] == own)


@pytest.mark.parametrize("n", [1, 5, RADIX_KEYS, RADIX_KEYS + 1, 2**40, 2**62])
def test_equal_keys_stay_in_order(n: int) -> None:
    random = np.random.default_rng(4)
    some = random.integers(0, n, 40)
    key = np.concatenate([random.choice(some, 500), [n - 1, 0]])
    assert stable_order(key, n).tolist() == sorted(range(len(key)), key=lambda place: int(key[place]))
