"""The offline join equals the naive reference for any declaration, events and requests."""

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from flightdeck.features.join import EntityFrame, point_in_time_join, point_in_time_joins
from flightdeck.features.view import FeatureView
from tests.flightdeck.features.declarations import Case, cases, views
from tests.flightdeck.features.naive import naive


@settings(max_examples=200, deadline=None)
@given(view=views(), case=cases(), lag_s=st.sampled_from([None, 0, 45, 5000]))
def test_join_equals_the_naive_reference(view: FeatureView, case: Case, lag_s: int | None) -> None:
    known_us = None if lag_s is None else case.at_us - lag_s * 1_000_000
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
