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
from flightdeck.features.state_read import StateReader
from flightdeck.features.store import OnlineStore
from flightdeck.features.stores import StoreRead
from flightdeck.features.view import FeatureView
from pipelines.features.views import VIEWS
from tests.event_streams import MINUTE_US, NOON_US, random_events, random_requests, write_log
from tests.flightdeck.features.declarations import Case, cases, views
from tests.flightdeck.features.parity import as_bits
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
    """A store whose keys reflect different moments: some the watermark, others a later one."""

    def __init__(self, store: OnlineStore, ahead_us: int) -> None:
        self._store = store
        self._ahead_us = ahead_us

    def read(self, wanted: Sequence[tuple[FeatureView, Sequence[str]]]) -> StoreRead:
        found = self._store.read(wanted)
        watermarks_us = [[NOON_US + sum(key.encode()) % 2 * self._ahead_us for key in keys] for _, keys in wanted]
        return found._replace(watermarks_us=watermarks_us)


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
@given(chosen=st.lists(views(), min_size=1, max_size=4), case=cases(), seed=st.integers(0, 2**32 - 1))
def test_number_by_number_equals_all_at_once(chosen: list[FeatureView], case: Case, seed: int) -> None:
    random = np.random.default_rng(seed)
    newest_us = int(case.at_us.max())
    states: list[list[bytes | None]] = [[None, *feed(view, [case.events], newest_us).values()] for view in chosen]
    reader = StateReader(chosen)
    of_entity = [
        [found for found, e in zip(states, reader.entity_of, strict=True) if e == entity]
        for entity in range(len(reader.entities))
    ]
    n_keys = [min(map(len, found)) for found in of_entity]
    for n_rows in (1, 9, 40):
        places = [random.integers(-1, n, n_rows).tolist() for n in n_keys]
        times_us = newest_us + random.integers(0, 100_000, n_rows) * 1_000_000
        for at_us in (int(times_us[0]), times_us):
            few = reader.read_few(states, places, at_us, n_rows)
            many = reader.read_many(states, places, at_us, n_rows)
            for one, other in zip(few, many, strict=True):
                np.testing.assert_array_equal(as_bits(one), as_bits(other))
                assert one.shape == other.shape and n_rows == len(one)


def test_times_that_do_not_fit_the_rows_are_refused(store: OnlineStore) -> None:
    columns = {name: ["?", "?"] for view in VIEWS for name in view.entity}
    with pytest.raises(ValueError, match=r"times of shape \(3,\) for 2 rows"):
        OnlineReader(store, VIEWS).read(columns, np.full(3, NOON_US))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n_rows=st.sampled_from([0, 1, 2, 3, 7, 30]),
    ahead_us=st.sampled_from([None, 0, MINUTE_US]),
)
def test_a_row_with_a_time_of_its_own_is_answered_as_if_it_were_read_alone(
    store: OnlineStore, seed: int, n_rows: int, ahead_us: int | None
) -> None:
    random = np.random.default_rng(seed)
    columns, _ = random_requests(seed, n_rows, first_us=NOON_US, last_us=NOON_US + 1)
    for values in columns.values():
        values[random.random(n_rows) < 0.1] = ""
    at_us = NOON_US + random.choice([-90, -1, 0, 1, 59, 60, 1800, 90_000], n_rows) * 1_000_000
    asked = store if ahead_us is None else Partitions(store, ahead_us)
    reader = OnlineReader(asked, VIEWS)  # type: ignore[arg-type]  # only read is asked for
    together = reader.read(columns, at_us)
    assert together.values.shape == (n_rows, len(together.names))
    for row in range(n_rows):
        alone = reader.read({name: values[row : row + 1] for name, values in columns.items()}, int(at_us[row]))
        assert (alone.at_us, alone.watermark_us) == (together.rows_us[row], together.watermark_us)
        np.testing.assert_array_equal(as_bits(alone.values[0]), as_bits(together.values[row]))
        np.testing.assert_array_equal(alone.ages[0], together.ages[row])
