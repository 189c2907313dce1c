import asyncio
import io
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from rich.console import Console

from flightdeck.cli.replay import ReplayOptions, describe, replay_day
from flightdeck.cli.replay_feed import open_feed
from flightdeck.cli.replay_pacing import Pacer
from flightdeck.cli.replay_sender import KEEP_ALIVE_S, Sender, ServiceUnreachable
from flightdeck.cli.replay_statistics import ReplayStatistics
from flightdeck.core.clock import MINUTE_US, VirtualClock, from_us
from flightdeck.core.errors import FlightdeckError, NotFoundError
from flightdeck.core.layout import Layout
from flightdeck.core.processes import answers, free_port
from flightdeck.events.log import EventLog
from flightdeck.features.store import OnlineStore
from pipelines.features.views import VIEWS
from pipelines.inference.traffic import day_bounds_us
from serving.__main__ import IDLE_S
from tests.event_streams import random_events, write_log

DAY = date(2013, 9, 12)
START_US, END_US = day_bounds_us(DAY)
HOUR_US = 60 * MINUTE_US
SERVICE = Path(__file__).with_name("recording_service.py")
CLOCK = VirtualClock(datetime(2024, 1, 1, tzinfo=UTC))


def test_a_connection_is_left_before_the_service_closes_it() -> None:
    assert KEEP_ALIVE_S < IDLE_S / 2


@pytest.fixture(scope="module")
def where(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    found = Layout(tmp_path_factory.mktemp("data"))
    events = random_events(7, 60, first_us=START_US - 5 * HOUR_US, last_us=END_US + 5 * HOUR_US)
    write_log(found.event_log, events)
    return found


class RecordingService:
    """The service of recording_service.py as a process that can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.record = folder / "requests.jsonl"
        self.port = free_port(18_100)
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen([sys.executable, str(SERVICE), str(self.port), str(self.record)])
        deadline_s = time.monotonic() + 30
        while not answers(f"{self.url}/readyz"):
            assert time.monotonic() < deadline_s
            time.sleep(0.05)

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()

    def requests(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.record.read_text().splitlines()] if self.record.exists() else []


@pytest.fixture
def service(tmp_path: Path) -> Iterator[RecordingService]:
    started = RecordingService(tmp_path)
    started.start()
    yield started
    started.kill()


def quiet() -> Console:
    return Console(file=io.StringIO())


def test_a_day_is_replayed(where: Layout, service: RecordingService) -> None:
    console = quiet()
    report = replay_day(ReplayOptions(DAY, speed=0, url=service.url), where, CLOCK, console)
    sent = service.requests()
    assert report["n_requests"] == len(sent) > 500
    assert report["n_failed"] == report["n_retries"] == 0
    assert report["by_mode"] == {"model": report["n_items"]}
    assert report["watermark"] == from_us(START_US + 34 * HOUR_US).isoformat()
    assert json.loads(where.replay_report.read_text()) == report
    assert "replayed 2013-09-12" in describe(report)
    asked_us = [int(datetime.fromisoformat(str(body["request_timestamp"])).timestamp() * 1e6) for body in sent]
    assert all(START_US <= at_us < END_US for at_us in asked_us)
    minutes = [at_us // MINUTE_US for at_us in asked_us]
    assert minutes == sorted(minutes)
    assert len({body["request_id"] for body in sent}) == len(sent)
    assert isinstance(output := console.file, io.StringIO)
    assert "requests" in output.getvalue()


def test_the_store_ends_where_a_backfill_of_the_same_time_would_be(
    where: Layout, service: RecordingService, tmp_path: Path
) -> None:
    replay_day(ReplayOptions(DAY, speed=0, url=service.url, max_requests=300), where, CLOCK, quiet())
    end_us = START_US + 34 * HOUR_US
    with open_feed(EventLog(where.event_log), tmp_path / "store", VIEWS, end_us, end_us):
        pass
    replayed, backfilled = (OnlineStore.open(p, read_only=True) for p in (where.online_store, tmp_path / "store"))
    keys = ["", "UA", "DL", "B6", "EWR", "JFK", "LGA", "IAH", "MIA", "BOS", "N1", "N2", "N3"]
    with replayed.reading() as one, backfilled.reading() as other:
        for view in VIEWS:
            assert one.watermark_us(view) == other.watermark_us(view) == end_us
    with replayed.reading() as one:
        assert any(one.states(VIEWS[0], keys))
    replayed.close()
    backfilled.close()


def test_the_same_seed_asks_the_same(where: Layout, service: RecordingService) -> None:
    for _ in range(2):
        replay_day(ReplayOptions(DAY, speed=0, url=service.url, max_requests=50), where, CLOCK, quiet())
    sent = [{k: v for k, v in body.items() if k != "request_id"} for body in service.requests()]
    first, second = (sorted(map(str, part)) for part in (sent[:50], sent[50:]))
    assert first == second


def test_a_service_that_is_killed_and_started_again_costs_no_request(where: Layout, service: RecordingService) -> None:
    def restart() -> None:
        while len(service.requests()) < 100:
            time.sleep(0.01)
        service.kill()
        time.sleep(0.5)
        service.start()

    restarting = threading.Thread(target=restart)
    restarting.start()
    report = replay_day(ReplayOptions(DAY, speed=0, url=service.url, max_requests=400), where, CLOCK, quiet())
    restarting.join()
    assert report["n_failed"] == 0
    assert isinstance(report["n_retries"], int)
    assert report["n_retries"] > 0
    assert len({body["request_id"] for body in service.requests()}) == report["n_requests"] == 400


def test_requests_that_nobody_answers_are_counted_as_failed(service: RecordingService) -> None:
    statistics = ReplayStatistics()

    async def send() -> None:
        async with Sender(service.url, statistics, persist_for_s=0.3) as sender:
            await sender.require_ready()
            service.kill()
            await sender.send("search", {"flights": [{}], "request_timestamp": "now"}, 1)

    asyncio.run(send())
    assert statistics.n_failed == 1
    assert statistics.n_retries >= 1
    assert "no connection" in statistics.first_failure


def test_a_service_that_is_not_in_event_time_is_named(service: RecordingService) -> None:
    async def send() -> None:
        async with Sender(service.url, ReplayStatistics()) as sender:
            await sender.send("search", {"flights": [{}]}, 1)

    with pytest.raises(ServiceUnreachable, match="event time"):
        asyncio.run(send())


def test_an_answer_about_fewer_flights_is_a_failure(service: RecordingService) -> None:
    statistics = ReplayStatistics()

    async def send() -> None:
        async with Sender(service.url, statistics) as sender:
            await sender.send("search", {"flights": [{}], "request_timestamp": "now"}, 2)

    asyncio.run(send())
    assert statistics.first_failure == "asked about 2 flights, answered about 1"


def test_no_service_no_day_no_log(where: Layout, tmp_path: Path) -> None:
    nobody = f"http://127.0.0.1:{free_port(18_600)}"
    with pytest.raises(ServiceUnreachable, match="kedro serve"):
        replay_day(ReplayOptions(DAY, url=nobody), where, CLOCK, quiet())
    with pytest.raises(NotFoundError, match="choose a --day from 2013-09-11 to 2013-09-13"):
        replay_day(ReplayOptions(date(2014, 1, 5), url=nobody), where, CLOCK, quiet())
    with pytest.raises(NotFoundError, match="kedro run --pipelines ingestion"):
        replay_day(ReplayOptions(DAY, url=nobody), Layout(tmp_path), CLOCK, quiet())


def test_one_replay_at_a_time(where: Layout) -> None:
    log = EventLog(where.event_log)
    with (
        open_feed(log, where.online_store, VIEWS, START_US, END_US),
        pytest.raises(FlightdeckError, match="another replay"),
        open_feed(log, where.online_store, VIEWS, START_US, END_US),
    ):
        pass


def test_the_feed_applies_each_event_once_whatever_the_steps(where: Layout, tmp_path: Path) -> None:
    log = EventLog(where.event_log)
    counts = []
    for step_us in (HOUR_US, 7 * MINUTE_US):
        with open_feed(log, tmp_path / str(step_us), VIEWS, START_US, END_US) as feed:
            counts.append(sum(feed.advance_to(at_us) for at_us in [*range(START_US, END_US, step_us), END_US]))
            assert feed.n_backfilled > 0
    known = sum(
        log.read(stream, created_after_us=START_US, created_until_us=END_US).num_rows for stream in log.versions()
    )
    assert counts == [known, known]


@pytest.mark.parametrize(("speed", "waited_s"), [(60.0, 2.0), (0.0, 0.0)])
def test_virtual_time_passes_at_the_speed(speed: float, waited_s: float) -> None:
    clock = FakeWall()
    pacer = Pacer(speed, clock.now_s, clock.sleep)

    async def drive() -> None:
        for minute in range(3):
            await pacer.reach(minute * MINUTE_US)

    asyncio.run(drive())
    assert clock.at_s == pytest.approx(waited_s)


def test_a_slow_step_makes_the_day_longer_and_is_not_made_up_for() -> None:
    clock = FakeWall()
    pacer = Pacer(60.0, clock.now_s, clock.sleep)

    async def drive() -> None:
        await pacer.reach(0)
        clock.at_s += 5.0
        await pacer.reach(MINUTE_US)
        await pacer.reach(2 * MINUTE_US)
        await pacer.within_step(2 * MINUTE_US + 30_000_000)

    asyncio.run(drive())
    assert clock.at_s == pytest.approx(6.5)


class FakeWall:
    """Wall time that passes by sleeping only."""

    def __init__(self) -> None:
        self.at_s = 0.0

    def now_s(self) -> float:
        return self.at_s

    async def sleep(self, for_s: float) -> None:
        self.at_s += for_s


def test_statistics_of_nothing_and_of_something() -> None:
    statistics = ReplayStatistics()
    assert statistics.as_json()["p95_ms"] is None
    statistics.answered("search", ["model", "rules"], 4.0)
    statistics.answered("alerts", ["model"], 8.0)
    statistics.failed("first")
    statistics.failed("second")
    counted = statistics.as_json()
    assert counted["by_mode"] == {"model": 2, "rules": 1}
    assert counted["by_surface"] == {"alerts": 1, "search": 1}
    assert (counted["n_requests"], counted["n_items"], counted["n_failed"]) == (4, 3, 2)
    assert counted["first_failure"] == "first"
    assert counted["p50_ms"] == 6.0
