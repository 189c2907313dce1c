"""The online reader: one moment, one row or many, unknown keys, and what partitions reflect."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flightdeck.core.errors import StoreUnavailable
from flightdeck.events.offset import versions_of
from flightdeck.features.materializer import Materializer
from flightdeck.features.online import OnlineReader
from flightdeck.features.state_read import evaluate_many
from flightdeck.features.state_read_few import evaluate_few
from flightdeck.features.store import OnlineStore
from flightdeck.features.stores import StoreRead
from flightdeck.features.view import FeatureView
from pipelines.features.views import VIEWS
from tests.event_streams import MINUTE_US, NOON_US, random_events, random_requests, write_log
from tests.flightdeck.features.declarations import Case, cases, views
from tests.flightdeck.features.test_state import feed

START_US = NOON_US - 6 * 60 * MINUTE_US


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> OnlineStore:
    folder = tmp_path_factory.mktemp("online")
    events = random_events(4, 300, first_us=START_US, last_us=NOON_US)
    written = OnlineStore.open(folder / "store", read_only=False)
    Materializer(written, VIEWS).backfill(write_log(folder / "log", events), NOON_US)
    return written


def test_one_row_is_answered_as_a_row_of_many(store: OnlineStore) -> None:
    columns, _ = random_requests(9, 60, first_us=NOON_US, last_us=NOON_US + 1)
    reader = OnlineReader(store, VIEWS)
    many = reader.read(columns, NOON_US + MINUTE_US)
    for row in range(60):
        one = reader.read({name: values[row : row + 1] for name, values in columns.items()}, NOON_US + MINUTE_US)
        assert (one.at_us, one.watermark_us, one.offset) == (many.at_us, many.watermark_us, many.offset)
        assert list(one.columns) == list(many.columns) and list(one.ages_s) == list(many.ages_s)
        for name, values in {**many.columns, **many.ages_s}.items():
            got = {**one.columns, **one.ages_s}[name]
            np.testing.assert_array_equal(got, values[row : row + 1], err_msg=name)


def test_a_question_about_the_past_is_answered_for_the_watermark(store: OnlineStore) -> None:
    found = OnlineReader(store, VIEWS).read({name: ["?"] for view in VIEWS for name in view.entity}, START_US)
    assert found.at_us == found.watermark_us == NOON_US and found.staleness_s == 0
    assert versions_of(found.offset)["departed"] == 0


def test_an_unknown_part_of_a_key_makes_the_row_nan(store: OnlineStore) -> None:
    names = {name for view in VIEWS for name in view.entity}
    reader = OnlineReader(store, VIEWS)
    for rows in (["", "x"], [None, "x"], [""]):
        found = reader.read({name: np.array(rows, dtype=object) for name in names}, NOON_US)
        for view in VIEWS:
            if view.entity:
                assert all(np.isnan(found.columns[name][0]) for name in view.columns)


class Partitions:
    """A store whose keys reflect different moments."""

    def __init__(self, store: OnlineStore, ahead_us: int) -> None:
        self._store = store
        self._ahead_us = ahead_us

    def read(self, wanted: Sequence[tuple[FeatureView, Sequence[str]]]) -> StoreRead:
        found = self._store.read(wanted)
        return found._replace(watermarks_us=[[NOON_US + self._ahead_us] * len(keys) for _, keys in wanted])


def test_partitions_are_read_at_a_time_that_all_of_them_have_reached(store: OnlineStore) -> None:
    reader = OnlineReader(Partitions(store, MINUTE_US), VIEWS)  # type: ignore[arg-type]  # only read is asked for
    found = reader.read({name: ["?"] for view in VIEWS for name in view.entity}, NOON_US)
    assert (found.at_us, found.watermark_us) == (NOON_US + MINUTE_US, NOON_US)


def test_a_view_that_is_behind_is_refused(tmp_path: Path) -> None:
    first, second = VIEWS[:2]
    events = random_events(6, 30, first_us=START_US, last_us=NOON_US)
    behind = OnlineStore.open(tmp_path / "store", read_only=False)
    log = write_log(tmp_path / "log", events)
    Materializer(behind, [first]).backfill(log, NOON_US)
    Materializer(behind, [second]).backfill(log, START_US)
    with pytest.raises(StoreUnavailable, match=f"{second.name} is behind"):
        OnlineReader(behind, [first, second]).read({"origin": ["EWR"], "carrier": ["UA"]}, NOON_US)


@settings(max_examples=150, deadline=None)
@given(view=views(), case=cases(), lag_s=st.integers(0, 100_000))
def test_number_by_number_equals_all_at_once(view: FeatureView, case: Case, lag_s: int) -> None:
    newest_us = int(case.at_us.max())
    states: list[bytes | None] = [None, *feed(view, [case.events], newest_us).values()]
    at_us = newest_us + lag_s * 1_000_000
    values, ages = evaluate_many(view, states, at_us)
    few, few_ages = evaluate_few(view, states, at_us)
    np.testing.assert_array_equal(np.array(few).reshape(values.shape), values)
    np.testing.assert_array_equal(few_ages, ages)
