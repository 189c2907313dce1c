"""Feeding a store: late events count, an event counts once, all versions are fed, a killed writer loses nothing."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flightdeck.core.errors import StoreUnavailable
from flightdeck.events.log import EventLog
from flightdeck.features.aggregates import count, distinct, highest, last, mean
from flightdeck.features.audit import recompute
from flightdeck.features.materializer import Materializer
from flightdeck.features.online import OnlineFeatures, OnlineReader
from flightdeck.features.store import OnlineStore
from flightdeck.features.stores import Mark
from flightdeck.features.view import FeatureView, windowed
from pipelines.features.views import VIEWS
from tests.event_streams import MINUTE_US, NOON_US, between, random_events, random_requests, write_log
from tests.flightdeck.features.test_state import shuffled_batches

START_US = NOON_US - 6 * 60 * MINUTE_US
AGGREGATES = (count(), mean("dep_delay_min"), highest("dep_delay_min"), last("dep_delay_min"), distinct("dest"))
NEW = FeatureView("busy_origins", ("origin",), "departed", windowed(*AGGREGATES, over="30m 2h"), "tests")
ALL = (*VIEWS, NEW)


def require_equal(served: OnlineFeatures, log: EventLog, columns: dict[str, np.ndarray], n_rows: int) -> None:
    """Hold what was served against a recomputation from the log."""
    at_us, known_us = np.full(n_rows, served.at_us), np.full(n_rows, served.watermark_us)
    offline = recompute(ALL, log, columns, at_us, known_us)
    for name, values in served.columns.items():
        np.testing.assert_array_equal(values, offline[name], err_msg=name)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n_batches=st.integers(1, 5))
def test_any_order_of_arrival_gives_what_the_log_says(
    tmp_path_factory: pytest.TempPathFactory, seed: int, n_batches: int
) -> None:
    folder = tmp_path_factory.mktemp("late")
    events = random_events(seed % 1000, 120, first_us=START_US, last_us=NOON_US)
    log = write_log(folder / "log", events)
    store = OnlineStore.open(folder / "store", read_only=False)
    first_us = NOON_US - 60 * MINUTE_US
    n_before = Materializer(store, ALL).backfill(log, START_US - MINUTE_US).n_late
    materializer = Materializer(store)  # whatever the store declares
    for place, batch in enumerate(shuffled_batches(events, np.random.default_rng(seed), n_batches)):
        applied = materializer.apply(batch, NOON_US, f"departed@{place}")
        assert place == 0 or applied.n_late == applied.n_events
        assert applied.n_events == sum(table.num_rows for name, table in batch.items() if name in materializer.streams)
    columns, _ = random_requests(seed % 1000, 20, first_us=first_us, last_us=NOON_US)
    served = OnlineReader(store, ALL).read(columns, NOON_US + 3 * MINUTE_US)
    assert n_before == 0 and served.offset == f"departed@{n_batches - 1}"
    require_equal(served, log, columns, 20)
    store.close()


def test_an_event_that_is_repeated_within_a_batch_counts_once(tmp_path: Path) -> None:
    events = random_events(2, 40, first_us=START_US, last_us=NOON_US)
    log = write_log(tmp_path / "log", events)
    store = OnlineStore.open(tmp_path / "store", read_only=False)
    materializer = Materializer(store, ALL)
    materializer.backfill(log, START_US - MINUTE_US)
    twice = {name: pa.concat_tables([table, table.slice(0, 7)]) for name, table in events.items()}
    assert materializer.apply(twice, NOON_US, "x@1").n_events == 40 * len(materializer.streams)
    columns, _ = random_requests(2, 10, first_us=NOON_US, last_us=NOON_US + 1)
    require_equal(OnlineReader(store, ALL).read(columns, NOON_US), log, columns, 10)


def test_a_new_version_is_fed_next_to_the_old_one_until_it_is_forgotten(tmp_path: Path) -> None:
    old = FeatureView("busy_origins", ("origin",), "departed", windowed(count(), over="1h"), "tests")
    events = random_events(3, 80, first_us=START_US, last_us=NOON_US)
    log = write_log(tmp_path / "log", events)
    store = OnlineStore.open(tmp_path / "store", read_only=False)
    middle_us = NOON_US - 90 * MINUTE_US
    Materializer(store, [old]).backfill(log, middle_us)
    materializer = Materializer(store)
    materializer.backfill(log, middle_us, [NEW])
    assert {view.digest for view in materializer.views} == {old.digest, NEW.digest}
    materializer.apply(between(events, middle_us, NOON_US), NOON_US)
    columns, _ = random_requests(3, 5, first_us=NOON_US, last_us=NOON_US + 1)
    at_us = np.full(5, NOON_US)
    for view in (old, NEW):
        served = OnlineReader(store, [view]).read(columns, NOON_US)
        offline = recompute([view], log, columns, at_us, at_us)
        for name, values in served.columns.items():
            np.testing.assert_array_equal(values, offline[name], err_msg=name)
    with store.writing() as moment:
        moment.forget(old)
    assert [view.digest for view in materializer.views] == [NEW.digest]
    with pytest.raises(StoreUnavailable, match="busy_origins"):
        OnlineReader(store, [old]).read(columns, NOON_US)
    OnlineReader(store, [NEW]).read(columns, NOON_US)


def test_a_store_that_declares_nothing_is_refused(tmp_path: Path) -> None:
    store = OnlineStore.open(tmp_path, read_only=False)
    with pytest.raises(StoreUnavailable, match="declares no view"):
        Materializer(store).apply({}, NOON_US)


def test_nothing_changes_when_the_transaction_fails(tmp_path: Path) -> None:
    events = random_events(4, 40, first_us=START_US, last_us=NOON_US)
    log = write_log(tmp_path / "log", events)
    store = OnlineStore.open(tmp_path / "store", read_only=False)
    materializer = Materializer(store, ALL)
    materializer.backfill(log, START_US)
    with pytest.raises(RuntimeError), store.writing() as moment:
        materializer.apply_within(moment, between(events, START_US, NOON_US), NOON_US, "x@9")
        raise RuntimeError
    columns, _ = random_requests(4, 10, first_us=NOON_US, last_us=NOON_US + 1)
    served = OnlineReader(store, ALL).read(columns, START_US)
    assert served.watermark_us == START_US and served.offset != "x@9"
    require_equal(served, log, columns, 10)


WRITER = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from flightdeck.features.materializer import Materializer
    from flightdeck.features.store import OnlineStore
    from tests.event_streams import MINUTE_US, NOON_US, between, random_events
    folder, start_us = Path(sys.argv[1]), int(sys.argv[2])
    events = random_events(7, 400, first_us=start_us, last_us=NOON_US)
    store = OnlineStore.open(folder / "store", read_only=False)
    materializer = Materializer(store)
    with store.reading() as moment:
        from_us = moment.mark(materializer.views[0]).watermark_us
    for until in range(from_us + MINUTE_US, NOON_US + 1, MINUTE_US):
        minute = (until - start_us) // MINUTE_US
        materializer.apply(between(events, until - MINUTE_US, until), until, f"minute@{minute}")
        print(until, flush=True)
    """
)


def test_a_writer_that_is_killed_again_and_again_neither_loses_nor_repeats(tmp_path: Path) -> None:
    events = random_events(7, 400, first_us=START_US, last_us=NOON_US)
    log = write_log(tmp_path / "log", events)
    store = OnlineStore.open(tmp_path / "store", read_only=False)
    Materializer(store, ALL).backfill(log, START_US)
    store.close()
    columns, _ = random_requests(7, 20, first_us=NOON_US, last_us=NOON_US + 1)
    random = np.random.default_rng(7)
    reached_us = START_US
    for _ in range(10):
        command = [sys.executable, "-c", WRITER, str(tmp_path), str(START_US)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            for _ in range(int(random.integers(1, 30))):
                writer.stdout.readline()
            os.kill(writer.pid, signal.SIGKILL)
        survived = OnlineStore.open(tmp_path / "store", read_only=True)
        served = OnlineReader(survived, ALL).read(columns, START_US)
        assert served.watermark_us > reached_us
        assert served.offset == f"minute@{(served.watermark_us - START_US) // MINUTE_US}"
        require_equal(served, log, columns, 20)
        reached_us = served.watermark_us
        survived.close()


def test_a_batch_in_two_transactions_equals_one(tmp_path: Path) -> None:
    events = random_events(9, 60, first_us=START_US, last_us=NOON_US)
    log = write_log(tmp_path / "log", events)
    stores = [OnlineStore.open(tmp_path / name, read_only=False) for name in ("one", "two")]
    for store in stores:
        with store.writing() as moment:
            for view in ALL:
                moment.declare(view)
                moment.set_mark(view, Mark(START_US - MINUTE_US))
    columns, _ = random_requests(9, 20, first_us=NOON_US, last_us=NOON_US + 1)
    Materializer(stores[0]).apply(events, NOON_US, "x@1")
    for name, table in reversed(events.items()):
        Materializer(stores[1]).apply({name: table}, NOON_US, "x@1")
    for store in stores:
        require_equal(OnlineReader(store, ALL).read(columns, NOON_US), log, columns, 20)
