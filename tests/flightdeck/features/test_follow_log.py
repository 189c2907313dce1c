"""Following the log: the watermark never claims more than was read; every event of the log counts, as in the audit."""

import tempfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from flightdeck.core.clock import from_us
from flightdeck.events.dead_letters import DeadLetters
from flightdeck.events.delivery import Reception
from flightdeck.events.log import EventLog
from flightdeck.events.offset import digests_of, versions_of
from flightdeck.events.schema_history import SchemaHistory
from flightdeck.events.stream import INSTANT, Stream
from flightdeck.features.aggregates import count, distinct, highest, last, mean, share, since_last, std, total
from flightdeck.features.audit import recompute
from flightdeck.features.follow_log import LogSource
from flightdeck.features.follower import Follower, Pace
from flightdeck.features.materializer import Materializer
from flightdeck.features.online import OnlineReader
from flightdeck.features.store import OnlineStore
from flightdeck.features.stores import Mark
from flightdeck.features.streaming import MustFill, StreamUnavailable
from flightdeck.features.view import FeatureView, OpenItems, windowed
from tests.flightdeck.features.declarations import NOON_US, SECOND_US

BEGUN = Stream("begun", {"key": pa.string(), "number": pa.int64(), "size": pa.float64()}, slo_s=60)
ENDED = Stream("ended", {"key": pa.string()}, slo_s=60)
EXACT = windowed(count(), total("size"), mean("number"), std("size"), last("size"), highest("size"), over="1m 1h 1d")
VIEWS = (
    FeatureView("exact", ("key",), "begun", EXACT, "tests"),
    FeatureView("counted", (), "begun", windowed(count(), since_last(), over="1h"), "tests"),
    FeatureView("chosen", ("key",), "begun", windowed(share("size"), distinct("number"), over="1h"), "tests"),
    FeatureView("open", ("key",), "begun", OpenItems(("ended",)), "tests"),
)
KEYS = ["a", "b", "long" * 200, ""]
SIZES = [1.0, 2.0, -3.0, 0.5, None, float("nan"), float("inf"), -float("inf"), 2.0**31, 2.0**60]
NUMBERS = [1, 2, -5, None, 2**53, -(2**63), 2**63 - 1]


def table_of(stream: Stream, created_us: list[int], first: int, **columns: list[object]) -> pa.Table:
    """Return events with ids counted from `first`; columns that are not given are null."""
    n = len(created_us)
    at = pa.array(created_us, pa.int64()).cast(INSTANT)
    common = {
        "event_id": [f"{stream.name}-{first + i:06d}" for i in range(n)],
        "event_timestamp": at,
        "created_timestamp": at,
        "source": ["tests"] * n,
        "source_offset": list(range(n)),
    }
    payload = {name: pa.array(columns.get(name, [None] * n), kind) for name, kind in stream.payload.items()}
    return stream.cast(pa.table({**common, **payload}))


class Hands:
    """A clock whose hands anybody may turn."""

    def __init__(self, us: int) -> None:
        self.us = us

    def now(self) -> datetime:
        """Return what it shows."""
        return from_us(self.us)


class Feed:
    """A log, a store that follows it, and a clock; in a folder of their own."""

    def __init__(self, folder: Path, views: tuple[FeatureView, ...] = VIEWS, streams: tuple[Stream, ...] = ()) -> None:
        self.folder, self.views, self.streams = folder, views, streams or (BEGUN, ENDED)
        self.log = EventLog(folder / "log")
        self.store = OnlineStore.open(folder / "store", read_only=False)
        self.clock = Hands(NOON_US)
        self.letters = DeadLetters(folder / "dead")

    def start(self, *, max_events: int = 1000, event_time: bool = False, log: EventLog | None = None) -> Follower:
        """Return a follower that begins where the store stands."""
        lock = self.folder / "lock"
        source = LogSource(log or self.log, self.store, lock=lock, clock=self.clock, event_time=event_time)
        reception = Reception(self.letters, SchemaHistory(self.folder))
        pace = Pace(max_events, max_wait_s=0.0, retry_s=0.0, longest_retry_s=0.0)
        return Follower(source, self.store, self.streams, reception, pace=pace, clock=self.clock)

    def mark(self, view: FeatureView) -> Mark:
        """Return what a view reflects."""
        with self.store.reading() as moment:
            return moment.mark(view)

    def require_equal(self, view: FeatureView, keys: list[str], log: EventLog | None = None) -> None:
        """Compare the served values of a view with those recomputed at the offset and watermark of the answer."""
        mark = self.mark(view)
        names = ("key", *view.entity)
        served = OnlineReader(self.store, [view]).read(dict.fromkeys(names, keys), self.clock.us)
        columns = dict.fromkeys(names, np.array(keys, dtype=object))
        at_us, known_us = np.full(len(keys), served.at_us), np.full(len(keys), served.watermark_us)
        again = recompute([view], log or self.log, columns, at_us, known_us, versions_of(served.offset))
        assert (served.watermark_us, served.offset) == (mark.watermark_us, mark.offset)
        for name, values in served.columns.items():
            np.testing.assert_array_equal(values, again[name], err_msg=name)


class Following(RuleBasedStateMachine):
    """Whatever is appended, whatever the clock shows, whoever restarts: a mark says what its states reflect."""

    @initialize(max_events=st.sampled_from([1, 3, 10]), event_time=st.booleans())
    def begin(self, max_events: int, event_time: bool) -> None:
        """Fill a store from a log of two events."""
        self._folder = tempfile.TemporaryDirectory(prefix="feed-")
        self.feed = Feed(Path(self._folder.name))
        self.n_made = 2
        for stream in (BEGUN, ENDED):
            self.feed.log.append(stream, table_of(stream, [NOON_US], 0, key=["a"], number=[1], size=[1.0]))
        Materializer(self.feed.store, VIEWS).backfill(self.feed.log, NOON_US)
        self.follower = self.feed.start(max_events=max_events, event_time=event_time)

    @rule(
        stream=st.sampled_from([BEGUN, ENDED]),
        offsets_s=st.lists(st.integers(-4000, 4000), min_size=1, max_size=12),
        chosen=st.randoms(use_true_random=False),
        is_ordered=st.booleans(),
        size=st.integers(1, 12),
    )
    def append(self, stream: Stream, offsets_s: list[int], chosen: object, is_ordered: bool, size: int) -> None:
        """Append events that are late, known now, or not known yet, at once or in several appends."""
        pick: Callable[[list[object]], object] = chosen.choice  # type: ignore[attr-defined]
        base_us = self.feed.clock.us if not is_ordered else max(self.feed.clock.us, NOON_US)
        times = [base_us + (abs(s) if is_ordered else s) * SECOND_US + i for i, s in enumerate(offsets_s)]
        times = sorted(times) if is_ordered else times
        values = {name: [pick(list(of)) for _ in times] for name, of in (("size", SIZES), ("number", NUMBERS))}
        keys = [pick(list(KEYS)) for _ in times]
        events = table_of(stream, times, self.n_made, key=keys, **values)
        for first in range(0, len(times), size):
            self.feed.log.append(stream, events.slice(first, size))
        self.n_made += len(times)

    @rule(seconds=st.one_of(st.integers(-5000, 5000), st.integers(0, 60), st.just(30_000)))
    def turn_the_clock(self, seconds: int) -> None:
        """Let time pass, or the clock be corrected."""
        self.feed.clock.us += seconds * SECOND_US

    @rule(max_events=st.sampled_from([1, 3, 10, 1000]), event_time=st.booleans())
    def restart(self, max_events: int, event_time: bool) -> None:
        """Let another process go on."""
        self.follower._source.close()
        self.follower = self.feed.start(max_events=max_events, event_time=event_time)

    @rule(n_rounds=st.integers(1, 4))
    def step(self, n_rounds: int) -> None:
        """Feed some batches."""
        for _ in range(n_rounds):
            before = {view.name: self.feed.mark(view) for view in VIEWS}
            totals = self.follower.status.totals
            n_applied, n_late = totals.n_applied, totals.n_late
            self.follower.step()
            most = max(1, self.follower._pace.max_events)
            assert totals.n_applied - n_applied <= most + totals.n_late - n_late
            for view in VIEWS:
                self.require_read(view, before[view.name].watermark_us)

    @rule()
    def lose_the_log_for_a_while(self) -> None:
        """Take the log away during a round."""
        away = self.feed.folder / "away"
        self.feed.log.root.rename(away)
        marks = [self.feed.mark(view) for view in VIEWS]
        try:
            self.follower.step()
        except StreamUnavailable:
            pass
        finally:
            away.rename(self.feed.log.root)
        assert [self.feed.mark(view).offset for view in VIEWS] == [mark.offset for mark in marks]

    @rule(view=st.sampled_from(VIEWS))
    def fill_one_again(self, view: FeatureView) -> None:
        """Fill a view from the log, further than the others."""
        until_us = max(self.feed.mark(view).watermark_us, self.feed.clock.us)
        Materializer(self.feed.store, VIEWS).backfill(self.feed.log, until_us, [view])

    def require_read(self, view: FeatureView, before_us: int) -> None:
        """Require that all that the watermark has passed just now lies in what was read."""
        mark = self.feed.mark(view)
        assert mark.watermark_us >= before_us
        for stream, version in versions_of(mark.offset).items():
            known = [
                self.feed.log.read(
                    stream, version=number, created_after_us=before_us, created_until_us=mark.watermark_us
                ).num_rows
                for number in (version, None)
            ]
            assert known[0] == known[1], f"{view.name} claims {stream} until {mark.watermark_us}, {version} was read"

    @invariant()
    def served_is_recomputed(self) -> None:
        """Compare every view with the log; nothing is a dead letter."""
        for view in VIEWS:
            self.feed.require_equal(view, KEYS)
        assert self.feed.letters.streams() == []

    def teardown(self) -> None:
        """Let all become known; then the store is what the log says."""
        if not hasattr(self, "feed"):
            return
        self.feed.clock.us = max(self.feed.clock.us, *(self.feed.mark(view).watermark_us for view in VIEWS)) + 10**11
        self.follower._source.close()
        self.feed.start(max_events=10).run(until_idle=True)
        for view in VIEWS:
            latest = {stream: self.feed.log.version(stream).version for stream in view.sources}
            mark = self.feed.mark(view)
            found = versions_of(mark.offset)
            assert {stream: found[stream] for stream in latest} == latest
            assert mark.watermark_us == self.feed.clock.us
            self.feed.require_equal(view, KEYS)
        self.feed.store.close()
        self._folder.cleanup()


Following.TestCase.settings = settings(
    max_examples=15, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)
)
TestFollowing = Following.TestCase


def hourly(feed: Feed, n_hours: int, n_events: int = 100) -> None:
    """Append what became known in the last minute of each hour since noon."""
    for hour in range(1, n_hours + 1):
        times = [NOON_US + hour * 3600 * SECOND_US - n_events + i for i in range(n_events)]
        ones: list[object] = [1] * n_events
        feed.log.append(BEGUN, table_of(BEGUN, times, hour * n_events, key=["a"] * n_events, number=ones, size=ones))


@pytest.fixture
def feed(tmp_path: Path) -> Feed:
    """Return a store that is filled until noon from a log of one event a stream."""
    feed = Feed(tmp_path)
    for stream in (BEGUN, ENDED):
        feed.log.append(stream, table_of(stream, [NOON_US], 0, key=["a"]))
    Materializer(feed.store, VIEWS).backfill(feed.log, NOON_US)
    return feed


def test_a_store_with_a_backlog_looks_as_old_as_it_is(feed: Feed) -> None:
    hourly(feed, 10)
    feed.clock.us += 10 * 3600 * SECOND_US
    follower = feed.start(max_events=100)
    assert follower.step()
    served = OnlineReader(feed.store, VIEWS[:1]).read({"key": ["a"]}, feed.clock.us)
    assert served.staleness_s > 8 * 3600
    lag = follower._source.lag()
    assert lag.n_events == 900 and lag.seconds == served.staleness_s
    while follower._source.lag().n_events:
        assert follower.step()
    served = OnlineReader(feed.store, VIEWS[:1]).read({"key": ["a"]}, feed.clock.us)
    assert served.staleness_s == 0 and served.columns["exact__count_60m"].tolist() == [100]


def test_one_large_append_is_cut_into_batches(feed: Feed) -> None:
    times = [NOON_US + i * SECOND_US for i in range(1, 501)]
    feed.log.append(BEGUN, table_of(BEGUN, times, 1, key=["a"] * 500))
    feed.clock.us += 3600 * SECOND_US
    follower = feed.start(max_events=20)
    for n_batches in range(1, 26):
        assert follower.step()
        assert follower.status.totals.n_applied == 20 * n_batches
        assert follower._source.lag().n_events == 500 - 20 * n_batches
    feed.require_equal(VIEWS[0], KEYS)


def test_a_log_that_grows_before_every_batch_does_not_hold_up_what_waits(feed: Feed) -> None:
    soon = [NOON_US + i * SECOND_US for i in range(1, 101)]
    feed.log.append(BEGUN, table_of(BEGUN, soon, 1, key=["a"] * 100))
    follower = feed.start(max_events=20)
    for number in range(10):
        feed.clock.us += 10 * SECOND_US
        feed.log.append(BEGUN, table_of(BEGUN, [NOON_US - SECOND_US], 1000 + number, key=["b"]))
        assert follower.step()
        assert feed.mark(VIEWS[0]).watermark_us == feed.clock.us
    assert follower.status.totals.n_applied == 110


def test_a_batch_that_was_not_committed_comes_again(feed: Feed) -> None:
    times = [NOON_US + i * SECOND_US for i in range(1, 101)]
    feed.log.append(BEGUN, table_of(BEGUN, times, 1, key=["a"] * 100))
    feed.clock.us += 3600 * SECOND_US
    follower = feed.start(max_events=20)
    assert follower.step()
    source = follower._source
    lost = source.poll(20, 0.0)
    assert lost is not None and lost.n_events == 20
    assert source.lag().n_events == 80
    again = source.poll(20, 0.0)
    assert again is not None and again.events["begun"].equals(lost.events["begun"])
    while source.lag().n_events:
        assert follower.step()
    assert follower.status.totals.n_applied == 100
    feed.require_equal(VIEWS[0], KEYS)


@pytest.mark.parametrize("offset_s", [3, 30, 59, 61, 90])
def test_what_becomes_known_after_a_restart_is_not_passed_over(feed: Feed, offset_s: int) -> None:
    feed.log.append(BEGUN, table_of(BEGUN, [NOON_US + offset_s * SECOND_US], 1, key=["a"]))
    feed.clock.us += SECOND_US
    follower = feed.start()
    assert follower.step()
    follower._source.close()
    follower = feed.start()  # it holds no rows, so it has to look when the next one becomes known
    for passed_s in (2, offset_s - 1, offset_s, offset_s + 1, 120):
        feed.clock.us = max(feed.clock.us, NOON_US + passed_s * SECOND_US)
        follower.step()
        assert follower.status.totals.n_applied == (passed_s >= offset_s)
        feed.require_equal(VIEWS[0], KEYS)


def test_what_is_appended_in_a_quiet_time_is_not_passed_over(feed: Feed) -> None:
    def pass_until(seconds: int) -> int:
        feed.clock.us = NOON_US + seconds * SECOND_US
        follower.step()
        feed.require_equal(VIEWS[0], KEYS)
        return follower.status.totals.n_applied

    feed.log.append(BEGUN, table_of(BEGUN, [NOON_US + 90 * SECOND_US], 1, key=["a"]))
    feed.clock.us += SECOND_US
    follower = feed.start()
    assert follower.step()
    follower._source.close()
    follower = feed.start()
    assert pass_until(3) == 0  # it knows now that nothing becomes known for a minute
    feed.log.append(BEGUN, table_of(BEGUN, [NOON_US + 20 * SECOND_US], 2, key=["b"]))
    assert [pass_until(seconds) for seconds in (5, 19, 20, 89, 90, 91)] == [0, 0, 1, 1, 2, 2]


def test_an_event_that_the_calendar_does_not_have_stops_nothing(feed: Feed) -> None:
    bounds = (2**62, -(2**62))
    for number, (name, us) in enumerate(
        (name, us) for name in ("event_timestamp", "created_timestamp") for us in bounds
    ):
        good = table_of(BEGUN, [NOON_US + 1] * 2, 10 + 2 * number, key=["a", "b"])
        beyond = pa.array([us, NOON_US + 1], pa.int64()).cast(INSTANT)
        feed.log.append(BEGUN, good.set_column(good.column_names.index(name), name, beyond))
    feed.log.append(BEGUN, table_of(BEGUN, [NOON_US + 2], 100, key=["a"]))
    feed.clock.us += SECOND_US
    totals = feed.start().run(until_idle=True)
    assert (totals.n_applied, totals.n_dead) == (8, 0)  # but for the one that becomes known in the year 148108
    for view in VIEWS:
        feed.require_equal(view, KEYS)


def test_streams_may_type_the_key_of_a_gauge_differently(tmp_path: Path) -> None:
    began = Stream("began", {"flight": pa.int64()}, slo_s=60)
    landed = Stream("landed", {"flight": pa.string()}, slo_s=60)
    view = FeatureView("aloft", ("flight",), "began", OpenItems(("landed",)), "tests")
    feed = Feed(tmp_path, (view,), (began, landed))
    feed.log.append(began, table_of(began, [NOON_US, NOON_US], 0, flight=[1, 2]))
    feed.log.append(landed, table_of(landed, [NOON_US], 0, flight=["1"]))
    Materializer(feed.store, [view]).backfill(feed.log, NOON_US)
    feed.require_equal(view, ["1", "2", "3"])
    feed.log.append(began, table_of(began, [NOON_US + 1], 2, flight=[3]))
    feed.log.append(landed, table_of(landed, [NOON_US + 1], 2, flight=["2"]))
    feed.clock.us += SECOND_US
    assert feed.start().run(until_idle=True).n_applied == 2
    served = OnlineReader(feed.store, [view]).read({"flight": ["1", "2", "3"]}, feed.clock.us)
    assert served.columns["aloft__open"].tolist() == [0, 0, 1]
    feed.require_equal(view, ["1", "2", "3"])


def other_log(feed: Feed, n_versions: int) -> EventLog:
    """Return a log with other events at the same versions."""
    log = EventLog(feed.folder / "other")
    for stream in (BEGUN, ENDED):
        for number in range(n_versions):
            log.append(stream, table_of(stream, [NOON_US + number], 50 + number, key=["b"]))
    return log


@pytest.mark.parametrize("n_versions", [1, 3])
def test_a_log_with_other_events_is_not_followed(feed: Feed, n_versions: int) -> None:
    other = other_log(feed, n_versions)
    feed.clock.us += 10 * SECOND_US
    before = feed.mark(VIEWS[0])
    with pytest.raises(MustFill, match=r"(?s)log with other events .*kedro features backfill") as refusal:
        feed.start(log=other).run(until_idle=True)
    assert before.offset.split("#")[1][:12] in str(refusal.value)
    assert feed.mark(VIEWS[0]) == before
    Materializer(feed.store, VIEWS).backfill(other, NOON_US)
    feed.start(log=other).run(until_idle=True)
    for view in VIEWS:
        feed.require_equal(view, KEYS, other)


def test_a_log_that_is_replaced_while_it_is_followed_is_noticed(feed: Feed) -> None:
    hourly(feed, 2)
    feed.clock.us += 3 * 3600 * SECOND_US
    follower = feed.start()
    for _ in range(2):  # the second time it looks at what it has read, and remembers that
        feed.clock.us += 10 * SECOND_US
        while follower.step():
            continue
    feed.log.root.rename(feed.folder / "before")
    other_log(feed, 2).root.rename(feed.log.root)
    feed.clock.us += 10 * SECOND_US
    with pytest.raises((MustFill, StreamUnavailable)):
        follower.step()
    other = EventLog(feed.log.root)
    other.append(BEGUN, table_of(BEGUN, [feed.clock.us + 15 * SECOND_US], 800, key=["b"]))  # the old one has no such
    Materializer(feed.store, VIEWS).backfill(other, feed.clock.us)
    other.append(BEGUN, table_of(BEGUN, [feed.clock.us + 1], 900, key=["a"]))
    for n_applied in (201, 202):
        feed.clock.us += 10 * SECOND_US
        while follower.step():
            continue
        assert follower.status.totals.n_applied == n_applied
        for view in VIEWS:
            feed.require_equal(view, KEYS, other)


def test_a_log_that_was_cut_off_is_not_followed(feed: Feed) -> None:
    hourly(feed, 2)
    feed.clock.us += 3 * 3600 * SECOND_US
    feed.start().run(until_idle=True)
    with pytest.raises(StreamUnavailable, match="does not say any more what version"):
        feed.clock.us += 10 * SECOND_US
        feed.start(log=other_log(feed, 1)).step()


def test_marks_of_before_have_no_digest_and_are_read(feed: Feed) -> None:
    with feed.store.writing() as moment:
        for view in VIEWS:
            moment.set_mark(view, Mark(NOON_US, "begun@0 ended@0"))
    hourly(feed, 1)
    feed.clock.us += 3600 * SECOND_US
    assert feed.start().run(until_idle=True).n_applied == 100
    digests = digests_of(feed.mark(VIEWS[0]).offset)
    assert all(feed.log.version(stream).digest.startswith(digest) for stream, digest in digests.items())
    assert set(digests) == {"begun", "ended"}
