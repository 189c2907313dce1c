"""The offline join equals the naive reference for any declaration, events and requests."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flightdeck.features import join, key_ranks
from flightdeck.features.aggregates import count, since_last
from flightdeck.features.join import EntityFrame, point_in_time_join, point_in_time_joins
from flightdeck.features.view import FeatureView, OpenItems, windowed
from tests.flightdeck.features.declarations import Case, cases, views
from tests.flightdeck.features.naive import naive


@pytest.mark.parametrize("part", [join.PART, 3], ids=["at once", "in parts"])
@pytest.mark.parametrize("max_keys", [key_ranks.MAX_KEYS, 0], ids=["by rank", "by search"])
@settings(max_examples=200, deadline=None)
@given(view=views(), case=cases(), lag_s=st.sampled_from([None, 0, 45, 5000]))
def test_join_equals_the_naive_reference(
    max_keys: int, part: int, view: FeatureView, case: Case, lag_s: int | None
) -> None:
    known_us = None if lag_s is None else case.at_us - lag_s * 1_000_000
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(key_ranks, "MAX_KEYS", max_keys)
        patch.setattr(join, "PART", part)
        joined = point_in_time_join(view, case.events, EntityFrame(case.columns, case.at_us, known_us))
    for row, at_us in enumerate(case.at_us.tolist()):
        expected = naive(view, case.events, case.entity(row), at_us, None if known_us is None else int(known_us[row]))
        found = [joined[name][row] for name in view.columns]
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=0, err_msg=str(view.columns))


@settings(max_examples=40, deadline=None)
@given(chosen=st.lists(views(), min_size=2, max_size=4), case=cases(), seed=st.integers(0, 2**32 - 1))
def test_order_and_repetition_of_events_change_nothing(chosen: list[FeatureView], case: Case, seed: int) -> None:
    random = np.random.default_rng(seed)
    frame = EntityFrame(case.columns, case.at_us)
    again = {}
    for name, table in case.events.items():
        rows = random.permutation(np.concatenate([np.arange(table.num_rows), np.arange(table.num_rows // 2)]))
        again[name] = table.take(pa.array(rows))
    named = [FeatureView(f"v{i}", v.entity, v.source, v.compute, v.owner, ttl_s=v.ttl_s) for i, v in enumerate(chosen)]
    once, twice = (point_in_time_joins(named, events, frame) for events in (case.events, again))
    for name, values in once.items():
        np.testing.assert_array_equal(values, twice[name], err_msg=name)


def test_many_sparse_keys_over_all_of_time_do_not_overflow() -> None:
    random = np.random.default_rng(2)
    n_keys, n_events, n_rows = 3000, 20_000, 4000
    users, items = (np.array([f"{letter}{k}" for k in range(n_keys)], dtype=object) for letter in "ui")
    user, item = random.integers(0, n_keys, n_events), random.integers(0, n_keys, n_events)
    created = np.sort(random.integers(-(2**61), 2**61, n_events))
    table = pa.table(
        {
            "event_id": pa.array([f"{k:06d}" for k in range(n_events)]),
            "created_timestamp": pa.array(created).cast(pa.timestamp("us", "UTC")),
            "user": pa.array(users[user]),
            "item": pa.array(items[item]),
        }
    )
    asked = random.integers(0, n_events, n_rows)
    frame = EntityFrame({"user": table["user"].take(pa.array(asked)), "item": items[item[asked]]}, created[asked])
    pair = FeatureView("pair", ("user", "item"), "clicks", windowed(count(), since_last(), over="1h"), "tests")
    opened = FeatureView("opened", ("user",), "clicks", OpenItems(("closed",)), "tests")
    joined = point_in_time_joins([pair, opened], {"clicks": table, "closed": table.slice(0, 0)}, frame)
    np.testing.assert_array_equal(joined["pair__count_60m"], 1.0)
    np.testing.assert_array_equal(joined["pair__since_last_60m"], 0.0)
    expected = [np.count_nonzero(user[: row + 1] == user[row]) for row in asked]
    np.testing.assert_array_equal(joined["opened__open"], expected)
