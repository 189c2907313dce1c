"""Labels as of a time of knowledge: never from the future, never biased."""

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from flightdeck.monitoring.labels import PENDING_US, join_labels

KEY = "flight_id"
EXPECTED = pd.DataFrame({KEY: ["a", "b", "c", "d", "e"], "known_us": 10, "due_us": 100})
NEGATIVES = pd.DataFrame({KEY: ["a", "e"], "known_us": [80, 150]})
POSITIVES = pd.DataFrame({KEY: ["b", "c"], "known_us": [20, 120]})
ITEMS = pd.DataFrame({KEY: ["a", "b", "c", "d", "e", "nobody"]})


def labels_at(as_of_us: int) -> pd.DataFrame:
    return join_labels(ITEMS, EXPECTED, NEGATIVES, POSITIVES, as_of_us, key=KEY)


def test_before_anything_is_known_all_is_pending() -> None:
    found = labels_at(9)
    assert found["label"].isna().all() and (found["label_known_us"] == PENDING_US).all()
    assert not found["is_mature"].any() and (found["due_us"] == PENDING_US).all()


def test_outcomes_count_as_soon_as_they_are_known() -> None:
    found = labels_at(80)
    np.testing.assert_array_equal(found["label"], [0, 1, np.nan, np.nan, np.nan, np.nan])
    assert found["label_known_us"].tolist() == [80, 20, -1, -1, -1, -1]
    assert not found["is_mature"].any()


def test_silence_means_positive_when_it_is_due() -> None:
    found = labels_at(100)
    np.testing.assert_array_equal(found["label"], [0, 1, 1, 1, 1, np.nan])
    assert found["label_known_us"].tolist() == [80, 20, 100, 100, 100, -1]
    assert found["is_mature"].tolist() == [True] * 5 + [False]


def test_late_news_corrects_and_unknown_items_never_get_a_label() -> None:
    found = labels_at(10**9)
    np.testing.assert_array_equal(found["label"], [0, 1, 1, 1, 0, np.nan])
    assert found["label_known_us"][4] == 150 and not found["is_mature"][5]


def test_no_predictions() -> None:
    assert join_labels(ITEMS.iloc[:0], EXPECTED, NEGATIVES, POSITIVES, 100, key=KEY).empty


def flights(seed: int, n: int) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame, np.ndarray]:
    """Return items and outcomes of flights: on time, late, cancelled before departure, or never heard of."""
    random = np.random.default_rng(seed)
    names = np.array([f"f{i}" for i in range(n)], dtype=object)
    departure = random.integers(0, 1000, n)
    arrival = departure + random.integers(60, 400, n)
    kind = random.choice(["on time", "late", "cancelled", "diverted"], n, p=[0.7, 0.2, 0.06, 0.04])
    delay = np.where(kind == "late", random.integers(15, 300, n), random.integers(-40, 15, n))
    expected = pd.DataFrame({KEY: names, "known_us": departure, "due_us": arrival + 17})
    landed = pd.DataFrame({KEY: names, "known_us": arrival + delay + 2})
    cancelled = pd.DataFrame({KEY: names, "known_us": departure + 2})[kind == "cancelled"]
    positives = pd.concat([landed[kind == "late"], cancelled])
    return pd.DataFrame({KEY: names}), expected, landed[kind == "on time"], positives, (kind != "on time").astype(float)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), as_of_us=st.integers(0, 2000))
def test_what_becomes_known_later_changes_nothing(seed: int, as_of_us: int) -> None:
    items, expected, negatives, positives, _ = flights(seed, 80)
    known = [events[events["known_us"] <= as_of_us] for events in (expected, negatives, positives)]
    past = join_labels(items, known[0], known[1], known[2], as_of_us, key=KEY)
    everything = join_labels(items, expected, negatives, positives, as_of_us, key=KEY)
    pd.testing.assert_frame_equal(everything, past)
    assert (everything["label_known_us"] <= as_of_us).all()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), as_of_us=st.integers(0, 2000))
def test_mature_labels_are_the_truth_and_no_outcome_selects_them(seed: int, as_of_us: int) -> None:
    items, expected, negatives, positives, truth = flights(seed, 80)
    found = join_labels(items, expected, negatives, positives, as_of_us, key=KEY)
    mature = found["is_mature"].to_numpy()
    np.testing.assert_array_equal(found["label"].to_numpy()[mature], truth[mature])
    np.testing.assert_array_equal(mature, expected["due_us"].to_numpy() <= as_of_us)


def test_early_rates_are_unbiased_where_arrived_labels_are_not() -> None:
    items, expected, negatives, positives, truth = flights(1, 20_000)
    found = join_labels(items, expected, negatives, positives, 600, key=KEY)
    arrived_only = found[found[KEY].isin(negatives.loc[negatives["known_us"] <= 600, KEY])]
    late_known = positives.merge(expected[[KEY]])["known_us"].le(600).sum()
    naive = late_known / (late_known + len(arrived_only))
    mature = found[found["is_mature"]]["label"].mean()
    assert abs(mature - truth.mean()) < 0.02 < abs(naive - truth.mean())
