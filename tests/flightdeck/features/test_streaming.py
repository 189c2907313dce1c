"""Following the log: killed, taken over, behind, ahead; in the end the store is what the log says."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from flightdeck.core.clock import SystemClock, VirtualClock, from_us
from flightdeck.core.errors import StoreUnavailable
from flightdeck.events.dead_letters import DeadLetters
from flightdeck.events.delivery import Reception, replay_letters
from flightdeck.events.log import EventLog
from flightdeck.events.offset import versions_of
from flightdeck.events.schema_history import SchemaHistory
from flightdeck.events.stream import INSTANT
from flightdeck.features.audit import recompute
from flightdeck.features.feed_status import OF_A_VIEW, FeedStatus
from flightdeck.features.follow_log import LogSource
from flightdeck.features.follower import Follower, Pace
from flightdeck.features.materializer import Materializer
from flightdeck.features.online import OnlineReader
from flightdeck.features.store import OnlineStore
from flightdeck.features.streaming import BatchOutdated
from flightdeck.features.view import FeatureView
from pipelines.features.views import VIEWS
from pipelines.ingestion.streams import DEPARTED, STREAMS
from tests.event_streams import MINUTE_US, NOON_US, random_events, random_requests, write_log
from tests.flightdeck.features.feed_process import N_EVENTS, START_US, produced

PATIENCE_S = 120
N_KILLS = 10


def wait_until(holds: Callable[[], bool]) -> None:
    ends = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < ends, "waited in vain"
        time.sleep(0.02)


@contextmanager
def process(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    started = subprocess.Popen([sys.executable, "-m", "tests.flightdeck.features.feed_process", *arguments])
    try:
        yield started
    finally:
        started.kill()
        started.wait()


def status(folder: Path, name: str) -> dict[str, object]:
    path = folder / f"status-{name}.json"
    found: dict[str, object] = json.loads(path.read_text()) if path.exists() else {}
    return found


def filled(folder: Path, log: EventLog, until_us: int, views: tuple[FeatureView, ...] = VIEWS) -> OnlineStore:
    store = OnlineStore.open(folder / "store", read_only=False)
    Materializer(store, views).backfill(log, until_us)
    return store


def follower(folder: Path, log: EventLog, store: OnlineStore, *, max_events: int = 70, **given: object) -> Follower:
    given = {"clock": SystemClock(), "event_time": True, **given}
    source = LogSource(log, store, lock=folder / "store" / ".feed.lock", **given)  # type: ignore[arg-type]
    reception = Reception(DeadLetters(folder / "dead"), SchemaHistory(folder))
    return Follower(source, store, STREAMS, reception, pace=Pace(max_events, max_wait_s=0.0))


def assert_equals_the_log(store: OnlineStore, log: EventLog, views: tuple[FeatureView, ...] = VIEWS) -> None:
    """Compare every view with the offline recompute at the offset and watermark that the store is stamped with."""
    with store.reading() as moment:
        marks = {view.name: moment.mark(view) for view in views}
    assert len({mark.watermark_us for mark in marks.values()}) == 1
    columns, _ = random_requests(3, 200, first_us=1, last_us=2000)
    for view in views:
        mark = marks[view.name]
        served = OnlineReader(store, [view]).read(columns, mark.watermark_us + 7 * MINUTE_US)
        offline = recompute(
            [view],
            log,
            columns,
            np.full(200, served.at_us),
            np.full(200, mark.watermark_us),
            versions=versions_of(mark.offset),
        )
        for name, values in served.columns.items():
            np.testing.assert_array_equal(values, offline[name], err_msg=name)


def started_log(root: Path) -> EventLog:
    """Return a log with one early event a stream, which the store can be filled from."""
    early = random_events(99, 1, first_us=START_US - 2_000_000, last_us=START_US - 1_000_000)
    return write_log(
        root, {name: table.set_column(0, "event_id", pa.array([f"{name}-early"])) for name, table in early.items()}
    )


def test_killed_ten_times_the_store_is_what_the_log_says(tmp_path: Path) -> None:
    log = started_log(tmp_path / "log")
    filled(tmp_path, log, START_US).close()
    chance = random.Random(5)
    with process("produce", str(log.root), "0") as producer:
        for number in range(N_KILLS):
            name = f"victim{number}"
            with process("feed", str(log.root), str(tmp_path), name) as victim:
                n_batches = chance.randint(0, 3)

                def has_fed(name: str = name, n_batches: int = n_batches) -> bool:
                    return int(str(status(tmp_path, name).get("n_batches", -1))) >= n_batches or (
                        producer.poll() is not None and status(tmp_path, name).get("backlog_events") == 0
                    )

                wait_until(has_fed)
                time.sleep(chance.uniform(0, 0.02))  # not to wait for something: to hit another place each time
                victim.send_signal(signal.SIGKILL)
                victim.wait()
        assert producer.wait(PATIENCE_S) == 0
    with process("feed", str(log.root), str(tmp_path), "last") as last:
        wait_until(lambda: status(tmp_path, "last").get("backlog_events") == 0)
        last.terminate()
        assert last.wait(PATIENCE_S) == 0
    assert status(tmp_path, "last")["role"] == "stopped"
    store = OnlineStore.open(tmp_path / "store", read_only=True)
    assert_equals_the_log(store, log)
    assert all(log.version(name).n_rows == N_EVENTS + 1 for name in produced())


def test_a_standby_takes_over(tmp_path: Path) -> None:
    log = started_log(tmp_path / "log")
    filled(tmp_path, log, START_US).close()
    with process("feed", str(log.root), str(tmp_path), "first") as first:
        wait_until(lambda: status(tmp_path, "first").get("role") == "feeding")
        with process("feed", str(log.root), str(tmp_path), "second") as second:
            wait_until(lambda: status(tmp_path, "second").get("role") == "standby")
            first.send_signal(signal.SIGKILL)
            wait_until(lambda: status(tmp_path, "second").get("role") == "feeding")
            log.append(DEPARTED, produced()["departed"].slice(0, 300))
            wait_until(lambda: int(str(status(tmp_path, "second")["n_applied"])) == 300)
            second.send_signal(signal.SIGTERM)
            assert second.wait(PATIENCE_S) == 0
    assert_equals_the_log(OnlineStore.open(tmp_path / "store", read_only=True), log)


def test_late_events_count_and_every_batch_is_bounded(tmp_path: Path) -> None:
    log = started_log(tmp_path / "log")
    store = filled(tmp_path, log, START_US)
    events = produced()
    for half, n_late in ((0, 0), (300, 1)):  # what waits when it is read is not late, in whatever order it was appended
        for first in range(half, half + 300, 50):
            for stream in STREAMS:
                log.append(stream, events[stream.name].slice(first, 50))
        totals = follower(tmp_path, log, store).run(until_idle=True)
        assert totals.n_applied == 300 * len(STREAMS)
        assert min(totals.n_late, 1) == n_late
        assert totals.n_batches >= totals.n_applied // 70
    assert_equals_the_log(store, log)


def test_a_replay_is_a_log_with_another_clock(tmp_path: Path) -> None:
    events = random_events(2, 400, first_us=START_US, last_us=NOON_US)
    log = write_log(tmp_path / "log", events)
    store = filled(tmp_path, log, START_US + 30 * MINUTE_US)
    clock = VirtualClock(from_us(START_US + 30 * MINUTE_US))
    for minute in (60, 61, 200, 301, 900):
        clock.advance_to(from_us(START_US + minute * MINUTE_US))
        follower(tmp_path, log, store, clock=clock, event_time=False).run(until_idle=True)
        with store.reading() as moment:
            assert moment.mark(VIEWS[0]).watermark_us == START_US + minute * MINUTE_US
        assert_equals_the_log(store, log)


@pytest.mark.parametrize("ahead_us", [-1, 0, 1])
def test_an_event_that_becomes_known_at_the_very_watermark_counts(tmp_path: Path, ahead_us: int) -> None:
    log = started_log(tmp_path / "log")
    store = filled(tmp_path, log, START_US)
    now_us = START_US + 10 * MINUTE_US
    at = pa.array([now_us + ahead_us]).cast(INSTANT)
    event = produced()["departed"].slice(0, 1)
    for name in ("event_timestamp", "created_timestamp"):
        event = event.set_column(event.column_names.index(name), name, at)
    log.append(DEPARTED, event)
    clock = VirtualClock(from_us(now_us))
    feed = follower(tmp_path, log, store, clock=clock, event_time=False)
    assert feed.run(until_idle=True).n_applied == (0 if ahead_us > 0 else 1)
    assert_equals_the_log(store, log)
    counts = next(view for view in VIEWS if view.name == "all_departures")
    n_before = 1  # what the log began with
    served = OnlineReader(store, [counts]).read({"": [""]}, now_us).columns["all_departures__count_60m"]
    assert served.tolist() == [n_before + (0 if ahead_us > 0 else 1)]


def test_what_is_not_known_yet_waits_and_does_not_hold_up_arrivals(tmp_path: Path) -> None:
    log = started_log(tmp_path / "log")
    store = filled(tmp_path, log, START_US)
    events = produced()["departed"].sort_by("created_timestamp")
    clock = VirtualClock(from_us(NOON_US - 100 * MINUTE_US))
    log.append(DEPARTED, events.slice(N_EVENTS - 10))  # known an hour and more from now
    log.append(DEPARTED, events.slice(0, 100))
    feed = follower(tmp_path, log, store, clock=clock, event_time=False, max_events=5)
    assert feed.run(until_idle=True).n_applied == 100
    assert_equals_the_log(store, log)
    clock.advance_to(from_us(NOON_US))
    assert follower(tmp_path, log, store, clock=clock, event_time=False).run(until_idle=True).n_applied == 10
    assert_equals_the_log(store, log)


def test_a_view_that_was_filled_later_or_earlier_is_brought_up(tmp_path: Path) -> None:
    log = started_log(tmp_path / "log")
    early, late = VIEWS[:6], VIEWS[6:]
    store = filled(tmp_path, log, START_US, early)
    events = produced()
    for name in ("departed", "arrived", "scheduled", "cancelled", "weather_observed"):
        stream = next(stream for stream in STREAMS if stream.name == name)
        log.append(stream, events[name].slice(0, 500))
    filled_us = START_US + 20 * MINUTE_US
    Materializer(store, late).backfill(log, filled_us)
    log.append(DEPARTED, events["departed"].slice(500, 500))
    follower(tmp_path, log, store).run(until_idle=True)
    assert_equals_the_log(store, log)


def test_a_batch_of_a_store_that_moved_is_not_applied(tmp_path: Path) -> None:
    log = started_log(tmp_path / "log")
    store = filled(tmp_path, log, START_US)
    log.append(DEPARTED, produced()["departed"].slice(0, 50))
    source = LogSource(log, store, lock=tmp_path / "lock", clock=SystemClock(), event_time=True)
    batch = source.poll(100, 0.0)
    assert batch is not None and batch.n_events == 50
    Materializer(store, VIEWS).backfill(log, NOON_US)
    with pytest.raises(BatchOutdated), source.applying(batch):
        raise AssertionError("the transaction must not begin")
    follower(tmp_path, log, store).run(until_idle=True)
    assert_equals_the_log(store, log)


def test_a_store_that_does_not_say_what_it_reflects_is_not_fed(tmp_path: Path) -> None:
    log = started_log(tmp_path / "log")
    store = filled(tmp_path, log, START_US)
    with store.writing() as moment:
        moment.set_watermark(VIEWS[0], START_US)
    source = LogSource(log, store, lock=tmp_path / "lock", clock=SystemClock())
    with pytest.raises(StoreUnavailable, match="does not say which part"):
        source.poll(100, 0.0)


def test_it_tries_again_until_the_log_is_back(tmp_path: Path) -> None:
    log = started_log(tmp_path / "log")
    store = filled(tmp_path, log, START_US)
    log.append(DEPARTED, produced()["departed"].slice(0, 50))
    away = tmp_path / "away"
    log.root.rename(away)
    feed = follower(tmp_path, log, store)
    feed.status = FeedStatus()
    retried = feed.status.away

    def bring_back(error: Exception) -> None:
        retried(error)
        if feed.status.totals.n_retries == 2:
            away.rename(log.root)

    feed.status.away = bring_back  # type: ignore[method-assign]
    totals = feed.run(until_idle=True)
    assert (totals.n_retries, totals.n_applied) == (2, 50)


def test_dead_letters_leave_the_stream_and_come_back_mended(tmp_path: Path) -> None:
    log = started_log(tmp_path / "log")
    store = filled(tmp_path, log, START_US)
    good = produced()["departed"].slice(0, 40)
    reception = Reception(DeadLetters(tmp_path / "dead"), SchemaHistory(tmp_path))
    rows = good.to_pylist()
    rows[3]["dep_delay_min"] = "12"
    rows[7]["origin"] = "EW\x1fR"
    incoming = reception.take_in(DEPARTED, rows)
    again = reception.take_in(DEPARTED, rows)
    log.append(DEPARTED, incoming.accepted)
    assert (incoming.accepted.num_rows, len(incoming.dead), len(again.dead)) == (38, 2, 2)

    def mend(row: dict[str, object]) -> dict[str, object]:
        return {**row, "dep_delay_min": int(str(row["dep_delay_min"]))}

    waiting = reception.letters.waiting("departed")
    assert [letter.offset for letter in waiting] == [str(rows[3]["source_offset"]), str(rows[7]["source_offset"])]
    sent = replay_letters(reception.letters, DEPARTED, lambda table: log.append(DEPARTED, table), mend=mend)
    assert sent == (1, 1)
    assert [letter.event_id for letter in reception.letters.waiting("departed")] == [rows[7]["event_id"]]
    assert follower(tmp_path, log, store).run(until_idle=True).n_applied == 39
    assert_equals_the_log(store, log)


def test_metrics_are_served_on_loopback(tmp_path: Path) -> None:
    from urllib.request import urlopen

    log = started_log(tmp_path / "log")
    store = filled(tmp_path, log, START_US)
    log.append(DEPARTED, produced()["departed"].slice(0, 5))
    feed = follower(tmp_path, log, store)
    feed.status = FeedStatus(tmp_path / "status.json", port=0)
    feed.run(until_idle=True)
    text = urlopen(f"http://127.0.0.1:{feed.status.port}/metrics").read().decode()
    assert 'flightdeck_feed_events_total{outcome="applied"} 5.0' in text
    assert "flightdeck_feed_backlog_events 0.0" in text
    for name in OF_A_VIEW:
        assert text.count(f"flightdeck_feed_{name}{{") == len(VIEWS)
    assert json.loads((tmp_path / "status.json").read_text())["pid"] == os.getpid()
