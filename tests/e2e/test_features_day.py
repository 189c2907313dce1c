"""Two real days, served while the materializer is killed ten times: every value is the one that the log says.

The questions are those of the traffic model, asked at their own times about their own flights. Between them the
process that `kedro features materialize --follow` is follows the log on the clock of the questions, and is killed by
SIGKILL wherever it happens to be. What was served is then computed again offline, from the log, at the watermark that
each answer was stamped with.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import groupby
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from flightdeck.core.clock import MINUTE_US
from flightdeck.core.files import write_atomically
from flightdeck.core.layout import PROJECT, Layout
from flightdeck.events.log import EventLog
from flightdeck.features.audit import recompute
from flightdeck.features.materializer import Materializer
from flightdeck.features.online import OnlineFeatures, OnlineReader
from flightdeck.features.store import OnlineStore
from pipelines.features.views import VIEW_COLUMNS, VIEWS
from pipelines.inference.traffic import PlannedRequest, day_bounds_us, plan_requests
from tests.e2e.house import House

pytestmark = pytest.mark.slow
DAYS = (date(2013, 9, 12), date(2013, 9, 13))
N_KILLS = 10
MOST_BEHIND_US = 30 * MINUTE_US
ENTITY = ("carrier", "origin", "dest", "tailnum")
WAIT_S = 0.001


@pytest.fixture(scope="module")
def where(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    house = House(tmp_path_factory.mktemp("house"))
    house.kedro("run", "--pipelines", "ingestion")
    return house.layout


@pytest.fixture(scope="module")
def log(where: Layout) -> EventLog:
    return EventLog(where.event_log)


@dataclass
class Following:
    """The shipped materializer as a process of its own, which follows a clock that the test moves."""

    where: Layout
    clock: Path
    n_killed: int = 0
    _process: "subprocess.Popen[bytes] | None" = None

    def show(self, at_us: int) -> None:
        """Move the clock that the process follows."""
        write_atomically(self.clock, str(at_us).encode())

    def start(self) -> None:
        """Start the process where the store is."""
        arguments = [str(self.where.root), str(self.clock)]
        self._process = subprocess.Popen([sys.executable, "-m", "tests.e2e.feed_by_clock", *arguments], cwd=PROJECT)

    def kill_and_restart(self) -> None:
        """End the process by SIGKILL, wherever it is, and start another."""
        self.stop()
        self.n_killed += 1
        self.start()

    def stop(self) -> None:
        """End the process by SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def require_alive(self) -> None:
        """Fail if the process has ended by itself."""
        assert self._process is not None and self._process.poll() is None, "the materializer ended by itself"


@pytest.fixture
def following(where: Layout, log: EventLog, tmp_path: Path) -> Iterator[Following]:
    start_us, _ = day_bounds_us(DAYS[0])
    store = OnlineStore.open(where.online_store, read_only=False)
    Materializer(store, VIEWS).backfill(log, start_us)
    store.close()
    started = Following(where, tmp_path / "clock")
    started.show(start_us)
    started.start()
    yield started
    started.stop()


@dataclass
class Served:
    """Everything that was answered, a row a flight asked about."""

    entities: dict[str, list[str]] = field(default_factory=lambda: {name: [] for name in ENTITY})
    at_us: list[int] = field(default_factory=list)
    watermark_us: list[int] = field(default_factory=list)
    values: list[npt.NDArray[np.float64]] = field(default_factory=list)

    def add(self, columns: dict[str, list[str]], answer: OnlineFeatures) -> None:
        """Keep one answer."""
        n_rows = len(columns["origin"])
        for name, values in columns.items():
            self.entities[name] += values
        self.at_us += [answer.at_us] * n_rows
        self.watermark_us += [answer.watermark_us] * n_rows
        self.values.append(np.stack([answer.columns[name] for name in VIEW_COLUMNS], axis=1))

    def recomputed(self, log: EventLog, known_until_us: Sequence[int]) -> npt.NDArray[np.float64]:
        """Return what the log says, shape `(n_rows, n_features)`."""
        columns = {name: np.array(values, dtype=object) for name, values in self.entities.items()}
        offline = recompute(VIEWS, log, columns, np.array(self.at_us), np.array(known_until_us))
        return np.stack([offline[name] for name in VIEW_COLUMNS], axis=1)


def planned(log: EventLog) -> list[PlannedRequest]:
    """Return the questions of both days, in the order in which they are asked."""
    requests = []
    for day in DAYS:
        start_us, end_us = day_bounds_us(day)
        flights = log.read("scheduled", created_after_us=start_us - 1, created_until_us=end_us - 1)
        requests += plan_requests(flights, start_us, seed=3)
    return requests


def serve(following: Following, requests: Sequence[PlannedRequest]) -> Served:
    """Ask the store every question at its time, while its writer advances and dies."""
    kill_at = set(np.random.default_rng(9).choice(len(requests), N_KILLS, replace=False).tolist())
    store = OnlineStore.open(following.where.online_store, read_only=True)
    reader, served, number = OnlineReader(store, VIEWS), Served(), 0
    for minute, group in groupby(requests, key=lambda request: request.at_us // MINUTE_US):
        following.show(minute * MINUTE_US)
        wait_until(lambda at=minute * MINUTE_US: watermark_us(store) >= at - MOST_BEHIND_US, following)  # type: ignore[misc]
        for request in group:
            columns = {name: [str(flight.get(name, "")) for flight in request.flights] for name in ENTITY}
            served.add(columns, reader.read(columns, request.at_us))
            if number in kill_at:
                following.kill_and_restart()
            number += 1
    store.close()
    return served


def watermark_us(store: OnlineStore) -> int:
    """Return how far the writer has come."""
    with store.reading() as moment:
        return moment.mark(VIEWS[0]).watermark_us


def wait_until(is_so: Callable[[], bool], following: Following) -> None:
    """Wait for the writer."""
    while not is_so():
        following.require_alive()
        time.sleep(WAIT_S)


def test_two_days_are_served_as_the_log_says_whatever_is_killed(
    log: EventLog, following: Following, capsys: pytest.CaptureFixture[str]
) -> None:
    served = serve(following, planned(log))
    values = np.concatenate(served.values)
    audited = served.recomputed(log, served.watermark_us)
    differs = ~((values == audited) | (np.isnan(values) & np.isnan(audited)))
    ideal = served.recomputed(log, served.at_us)
    is_stale = ~((values == ideal) | (np.isnan(values) & np.isnan(ideal))).all(axis=1)
    staleness_s = (np.array(served.at_us) - np.array(served.watermark_us)) / 1e6
    with capsys.disabled():
        print(
            f"\n{len(values):,} questions x {values.shape[1]} features = {values.size:,} comparisons "
            f"({int((~np.isnan(values)).sum()):,} with a value): {int(differs.sum())} mismatches; "
            f"{following.n_killed} kills; staleness median {np.median(staleness_s):.0f} s, at most "
            f"{staleness_s.max():.0f} s; {int(is_stale.sum()):,} answers differ from the ideal at t, by staleness alone"
        )
    assert following.n_killed == N_KILLS
    assert len(values) >= 50_000
    wrong = sorted({VIEW_COLUMNS[place] for place in np.flatnonzero(differs.any(axis=0))})
    assert not differs.any(), f"{int(differs.sum())} values differ, in {wrong}"
    assert (staleness_s >= 0).all() and is_stale.any() and (staleness_s > 0).any()
