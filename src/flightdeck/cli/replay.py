"""`kedro replay`: one real day in event time, events into the online store and requests to the service.

A virtual clock advances minute by minute. At each minute the store first learns what has become known by then, then
that minute's requests go to the service, which takes their time for its own; the watermark moves on when all of them
are answered. After the last request the events go on until the day's labels are known.
"""

import asyncio
import time
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

import click
import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console

from flightdeck.cli.errors import reports_errors
from flightdeck.cli.feature_readers import list_readers, views_to_feed
from flightdeck.cli.replay_feed import open_feed
from flightdeck.cli.replay_pacing import Pacer
from flightdeck.cli.replay_progress import ReplayProgress
from flightdeck.cli.replay_sender import Sender
from flightdeck.cli.replay_statistics import ReplayStatistics
from flightdeck.core.clock import MINUTE_US, Clock, SystemClock, from_us
from flightdeck.core.errors import FlightdeckError, NotFoundError
from flightdeck.core.files import write_json
from flightdeck.core.layout import Layout, layout
from flightdeck.events.log import EventLog
from flightdeck.features.event_feed import EventFeed
from flightdeck.features.store_config import read_stores
from pipelines.features.views import VIEWS
from pipelines.inference.traffic import ZONE, PlannedRequest, day_bounds_us, plan_requests

TICK_US = MINUTE_US
HOUR_US = 60 * MINUTE_US
LABELS_KNOWN_US = 34 * HOUR_US  # the last flight of a day lands within ten hours of the next midnight


@dataclass(frozen=True)
class ReplayOptions:
    """What to replay.

    Parameters
    ----------
    day
        Local day.
    speed
        Virtual seconds per wall second; 0 is as fast as possible.
    url
        Address of the service.
    seed
        Seed of the traffic.
    max_requests
        Send only the first so many requests; None sends all.
    """

    day: date
    speed: float = 720.0
    url: str = "http://127.0.0.1:8000"
    seed: int = 7
    max_requests: int | None = None


def replay_day(options: ReplayOptions, where: Layout, clock: Clock, console: Console) -> dict[str, object]:
    """Replay one day and write its report.

    Parameters
    ----------
    options
        What to replay.
    where
        Where event log, online store and report lie.
    clock
        Tells when the replay began and ended.
    console
        Where progress is shown.

    Returns
    -------
    dict
        The report, as written to `where.replay_report`; failed requests are counted in it.

    Raises
    ------
    NotFoundError
        If there is no event log or it holds no flights of the day.
    ServiceUnreachable
        If the service does not answer, is not ready or refuses the requests.
    StoreUnavailable
        If the online store cannot be written.
    """
    started_at, started_s = clock.now(), time.monotonic()
    start_us, end_us = day_bounds_us(options.day)
    log = EventLog(where.event_log)
    plan = plan_requests(_flights_of(log, start_us, end_us, options.day), start_us, options.seed)[
        : options.max_requests
    ]
    statistics = ReplayStatistics()
    achieved = asyncio.run(_run(options, where, console, log, plan, statistics))
    report = {
        "day": options.day.isoformat(),
        "speed": options.speed,
        "achieved_speed": achieved,
        **statistics.as_json(),
        "watermark": from_us(start_us + LABELS_KNOWN_US).isoformat(),
        "started_at": started_at.isoformat(),
        "ended_at": clock.now().isoformat(),
        "wall_s": round(time.monotonic() - started_s, 1),
    }
    write_json(where.replay_report, report)
    return report


def describe(report: dict[str, object]) -> str:
    """Return the report of a replay as a few lines for people."""
    counted = "\n".join(f"  {name}: {value}" for name, value in report.items() if name not in ("day", "first_failure"))
    return f"replayed {report['day']}\n{counted}"


@click.command("replay", short_help="Replay one real day in event time against the service.")
@click.option("--day", type=click.DateTime(["%Y-%m-%d"]), default="2013-09-12", show_default=True, help="Local day.")
@click.option("--speed", type=click.FloatRange(min=0), default=720.0, show_default=True, help="0: as fast as possible.")
@click.option("--url", default="http://127.0.0.1:8000", show_default=True, help="Address of the service.")
@click.option("--seed", type=int, default=7, show_default=True, help="Seed of the traffic.")
@click.option("--max-requests", type=click.IntRange(min=0), default=None, help="Send only the first so many requests.")
@reports_errors
def replay(day: datetime, speed: float, url: str, seed: int, max_requests: int | None) -> None:
    """Replay one real day on a virtual clock: its events into the online store, its requests to the service.

    The service must run in event time: FLIGHTDECK_CLOCK=event kedro serve.
    """
    options = ReplayOptions(day.date(), speed, url, seed, max_requests)
    report = replay_day(options, layout(), SystemClock(), Console(stderr=True))
    click.echo(describe(report))
    if report["n_failed"]:
        raise FlightdeckError(
            f"{report['n_failed']} of {report['n_requests']} requests were not answered; "
            f"the first: {report['first_failure']}",
            next_step="see what the service says: /readyz and its log",
        )


async def _run(
    options: ReplayOptions,
    where: Layout,
    console: Console,
    log: EventLog,
    plan: Sequence[PlannedRequest],
    statistics: ReplayStatistics,
) -> float:
    """Drive the day; return virtual seconds per wall second while requests were sent."""
    start_us, _ = day_bounds_us(options.day)
    end_us = start_us + LABELS_KNOWN_US
    async with Sender(options.url, statistics) as sender:
        await sender.require_ready()
        filling = console.status(f"filling the online store from the log until {from_us(start_us):%Y-%m-%d %H:%M}Z")
        views, url = views_to_feed(VIEWS, list_readers(where)), read_stores().online_store_url
        with filling, open_feed(log, where.online_store, views, start_us, end_us, url=url) as feed:
            filling.stop()
            with ReplayProgress(console, start_us, end_us) as progress:
                begun_s = time.monotonic()
                await _ask_all(plan, feed, sender, Pacer(options.speed), progress, statistics)
                asked_s, asked_us = time.monotonic() - begun_s, feed.watermark_us - start_us
                _learn_labels(feed, end_us, progress, statistics)
    return round(asked_us / 1e6 / asked_s, 1) if asked_us else 0.0


async def _ask_all(
    plan: Sequence[PlannedRequest],
    feed: EventFeed,
    sender: Sender,
    pacer: Pacer,
    progress: ReplayProgress,
    statistics: ReplayStatistics,
) -> None:
    """Send all requests, each when the store knows what was known in the minute before it."""
    position, tick_us = 0, feed.watermark_us
    while position < len(plan):
        await pacer.reach(tick_us)
        statistics.n_events += feed.advance_to(tick_us)
        following = bisect_left(plan, tick_us + TICK_US, lo=position, key=lambda request: request.at_us)
        await asyncio.gather(*(_ask(request, sender, pacer) for request in plan[position:following]))
        position, tick_us = following, tick_us + TICK_US
        progress.advanced(tick_us, statistics)


async def _ask(request: PlannedRequest, sender: Sender, pacer: Pacer) -> None:
    await pacer.within_step(request.at_us)
    body = {
        "surface": request.surface,
        "unit_id": request.unit_id,
        "flights": request.flights,
        "request_timestamp": from_us(request.at_us).isoformat(),
    }
    await sender.send(request.surface, body, len(request.flights))


def _learn_labels(feed: EventFeed, end_us: int, progress: ReplayProgress, statistics: ReplayStatistics) -> None:
    """Apply the rest of the events, an hour at a time."""
    while feed.watermark_us < end_us:
        statistics.n_events += feed.advance_to(min(feed.watermark_us + HOUR_US, end_us))
        progress.advanced(feed.watermark_us, statistics)


def _flights_of(log: EventLog, start_us: int, end_us: int, day: date) -> pa.Table:
    flights = log.read("scheduled", created_after_us=start_us - 1, created_until_us=end_us - 1)
    if not flights.num_rows:
        known = pc.min_max(log.read("scheduled", columns=["scheduled_departure"])["scheduled_departure"]).as_py()
        raise NotFoundError(
            f"replaying {day}: the event log holds no flights of that day",
            next_step=f"choose a --day from {known['min'].astimezone(ZONE):%F} to {known['max'].astimezone(ZONE):%F}"
            if known["min"]
            else "ingest some: kedro run --pipelines ingestion",
        )
    return flights
