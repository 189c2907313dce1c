"""`kedro release rehearse`: the rollback of a version, performed against a service that is started for it."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

import click
import pyarrow as pa
import pyarrow.compute as pc

from flightdeck.cli.errors import reports_errors
from flightdeck.cli.release_options import ACTOR, VERSION, decider
from flightdeck.cli.services import READY_WITHIN_S, SERVICE_PORT, child_environment, program
from flightdeck.core.clock import SystemClock, from_us
from flightdeck.core.errors import NotFoundError
from flightdeck.core.layout import PROJECT, Layout, layout
from flightdeck.core.processes import Processes, free_port
from flightdeck.events.log import EventLog
from flightdeck.release.decisions import current_state, record_refusal
from flightdeck.release.ledger_config import released_ledger
from flightdeck.release.people import PermissionDenied
from flightdeck.release.rehearsal import Body, furnish, perform, way_back
from flightdeck.release.rollout_commands import record_rehearsal
from pipelines.inference.traffic import day_bounds_us, plan_requests

N_REQUESTS = 60
SEED = 7


@click.command()
@VERSION
@ACTOR
@reports_errors
def rehearse(version: int, by: str) -> None:
    """Perform the rollback of VERSION against a service of its own.

    How long it took is recorded. Nothing that serves is touched. A rehearsal that fails records nothing and ends with
    exit code 3.
    """
    place, clock = layout(), SystemClock()
    person, ledger = decider(by), released_ledger(place, clock)
    try:
        person.require("rehearse")
    except PermissionDenied as error:
        record_refusal(ledger, version, person.name, "rehearse", error)
        raise
    state = current_state(ledger)
    practice = way_back(state, version)
    requests = _requests(place)
    scratch = Path(tempfile.mkdtemp(prefix=".rehearsal-", dir=place.bundles.parent))
    processes = Processes()
    try:
        own = furnish(scratch, place, state, practice, clock)
        port = free_port(SERVICE_PORT + 100)
        url = f"http://127.0.0.1:{port}"
        service = processes.start(
            "the service of the rehearsal",
            [program("kedro"), "serve", "--port", str(port)],
            log_path=scratch / "service.log",
            environment=child_environment(
                FLIGHTDECK_DATA=str(scratch),
                FLIGHTDECK_CLOCK="event",
                FLIGHTDECK_LEDGER="embedded",
                FLIGHTDECK_ORDERS=str(scratch / "orders"),
            ),
            folder=PROJECT,
        )
        service.wait_until_ready(f"{url}/readyz", READY_WITHIN_S)
        took_s = perform(url, own, state, practice, requests)
    finally:
        processes.stop_all()
        shutil.rmtree(scratch, ignore_errors=True)
    record_rehearsal(ledger, version, by=person, to=practice.back, duration_s=round(took_s, 3))
    click.echo(
        f"version {version}: its rollback to version {practice.back} took {took_s:.2f} s, "
        f"{len(requests)} requests answered as before"
    )


def _requests(place: Layout) -> list[Body]:
    """Return requests about the newest flights of the event log, each of a unit of its own."""
    log = EventLog(place.event_log)
    known = log.read("scheduled", columns=["scheduled_departure"])["scheduled_departure"] if _has(log) else pa.array([])
    if not len(known):
        raise NotFoundError(
            "rehearsing: the event log holds no flights to ask about",
            next_step="ingest some: kedro run --pipelines ingestion",
        )
    day = pc.max(known).as_py().date()
    start_us, end_us = day_bounds_us(day)
    flights = log.read("scheduled")
    departures_us = flights["scheduled_departure"].cast(pa.int64()).to_numpy()
    planned = plan_requests(flights.filter(pa.array(departures_us >= end_us - 2 * (end_us - start_us))), start_us, SEED)
    bodies: list[Body] = []
    for number, request in enumerate(planned[-N_REQUESTS:]):
        body: dict[str, Any] = {
            "surface": request.surface,
            "unit_id": f"rehearsal-{number}",
            "flights": list(request.flights),
            "request_timestamp": from_us(request.at_us).isoformat(),
        }
        bodies.append(body)
    return bodies


def _has(log: EventLog) -> bool:
    return (log.root / "scheduled").is_dir()
