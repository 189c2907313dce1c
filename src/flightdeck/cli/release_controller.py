"""`kedro release rollout`: the controller as a process."""

import signal
import socket
import threading
import time
from contextlib import suppress
from datetime import timedelta
from types import FrameType

import click

from flightdeck.cli.errors import reports_errors
from flightdeck.core.clock import SystemClock
from flightdeck.core.errors import FlightdeckError, LedgerConflict, LedgerCorrupt, LedgerUnusable, NotFoundError
from flightdeck.core.layout import PROJECT, layout
from flightdeck.gates.policy import read_policies
from flightdeck.release.lease import Lease
from flightdeck.release.ledger_config import released_ledger
from flightdeck.release.order_entry import enter_orders
from flightdeck.release.people import read_people
from flightdeck.release.rollout.alias_watch import AliasWatch
from flightdeck.release.rollout.controller import Controller, Desk
from flightdeck.release.rollout.followed import FollowedLedger
from flightdeck.release.rollout.label_check import LabelChecks
from flightdeck.release.rollout.label_period import label_periods
from flightdeck.release.rollout.observer import LogObserver, Logs
from flightdeck.release.rollout.seat import Seat

CONTROLLER = "controller"
LEASE_S = 600.0
HALF_LEASE = timedelta(seconds=LEASE_S / 2)
AGAIN_S = 1.0
SEGMENTS = ("origin",)
RULES = ("policies.yml", "people.yml")


@click.command()
@click.option("--follow", is_flag=True, help="Go on until interrupted; otherwise look once.")
@click.option("--every", "every_s", type=click.FloatRange(min=0.05), default=0.25, show_default=True, help="Seconds.")
@reports_errors
def rollout(follow: bool, every_s: float) -> None:
    """Judge shadow and canary by what they serve, and act on it.

    A version is moved on, frozen or taken out.
    What a step asks for is in conf/base/policies.yml. A step that is by hand is judged and waits for a person. One
    controller at a time decides; a second one waits, and goes on where the one before it was stopped or killed.
    """
    desk, seat = _ControllerDesk(), Seat(layout().rollout)
    if not follow:
        holder = seat.take()
        if holder:
            raise FlightdeckError(
                f"looking once: the controller of process {holder} looks at these releases already",
                next_step=f"let it decide, or stop it first: kill {holder}",
            )
        desk.tell(desk.look())
        desk.aliases.reconcile()
        return
    stopped = _stop_on_signals()
    while holder := seat.take():
        desk.warn(f"the controller of process {holder} looks at these releases; this one waits until it has ended")
        if stopped.wait(AGAIN_S):
            return
    desk.aliases.start()
    while not stopped.is_set():
        stopped.wait(every_s if desk.goes_on() else AGAIN_S)
    desk.leave()


class _ControllerDesk:
    """The controller of this process, and its lease while there is something to decide."""

    def __init__(self) -> None:
        from pipelines.monitoring.label_source import flight_labels  # pandas and Delta, which only a controller needs

        self._place, self._clock = layout(), SystemClock()
        self._ledger = released_ledger(self._place, self._clock)
        self._holder = f"{CONTROLLER}@{socket.gethostname()}:{self._place.root}"  # one a seat
        self._read_at: tuple[int, ...] = ()
        self._idle_at = 0
        self._followed = FollowedLedger(self._ledger, None)
        self._lease: Lease | None = None
        self._controller: Controller | None = None
        self._labels = flight_labels(self._place)
        self._warned: set[str] = set()
        self._orders_again_s = 0.0
        self.aliases = AliasWatch(self._ledger, self._place.mlflow_uri, self._place.bundles, self.warn)
        self.aliases.follow()  # the controller before this one may have been killed between a decision and its alias

    def goes_on(self) -> bool:
        """Look once and tell of it; return whether nothing hinders the next look.

        A lease that was lost is taken again once the other controller's is over; until then this one waits.
        """
        try:
            self.tell(self.look())
        except LedgerConflict as error:
            self._lease = self._controller = None
            self.warn(f"another controller decides, this one waits: {error.message}")
            return False
        except FlightdeckError as error:
            self.warn(str(error))
            return False
        return True

    def look(self) -> list[str]:
        """Let the controller look once, where something is under way.

        A ledger that is away hinders what is new, and no controller that has begun: it still takes out what fails.
        """
        done = self._enter_orders()
        try:
            if not self._has_work():
                return done
        except (LedgerUnusable, LedgerCorrupt, NotFoundError) as error:
            if self._controller is None:
                raise
            self.warn(f"{error.message}; what fails is taken out all the same")
        return done + self._controller.step() if self._controller is not None else done

    def tell(self, done: list[str]) -> None:
        """Print what was done, and let MLflow's aliases follow it."""
        for line in done:
            click.echo(line)
        if done:
            self._warned.clear()
            self.aliases.follow()

    def warn(self, line: str) -> None:
        """Print a warning, the same one once until something is done again."""
        if line not in self._warned:
            click.secho(f"warning: {line}", fg="yellow", err=True)
        self._warned.add(line)

    def leave(self) -> None:
        """Let the aliases follow what was decided last, and give the lease up; without a ledger it runs out."""
        self.aliases.stop()
        if self._lease is not None:
            with suppress(LedgerConflict, LedgerUnusable):
                self._lease.release(self._clock)

    def _enter_orders(self) -> list[str]:
        """Record the orders that wait; where the ledger does not take them, try again a little later."""
        if time.monotonic() < self._orders_again_s:
            return []
        try:
            return enter_orders(self._ledger, self._place.orders)
        except FlightdeckError as error:
            self._orders_again_s = time.monotonic() + AGAIN_S
            self.warn(f"rollbacks that the service obeys wait for their record: {error.message}")
            return []

    def _has_work(self) -> bool:
        """Tell whether something is under way; where it is, lease and controller are there afterwards."""
        head = self._ledger.head()
        if head == self._idle_at:
            return False
        state = self._followed.read_on()
        has_no_segment = all(segment.canary is None for segment in state.rules.segments)
        has_no_labels = not label_periods(state, self._followed.records)
        if state.canary is None and state.shadow is None and has_no_segment and has_no_labels:
            self._idle_at = head
            return False
        now = self._clock.now()
        if self._lease is None or now > self._lease.expires_at - HALF_LEASE:
            self._lease = Lease.take(self._ledger, self._holder, LEASE_S, self._clock)
            self._controller = None
        written_at = tuple((PROJECT / "conf" / "base" / name).stat().st_mtime_ns for name in RULES)
        if self._controller is None or written_at != self._read_at:  # a revoked person counts no more from now on
            self._read_at = written_at
            policies, people = read_policies(PROJECT / "conf"), read_people(PROJECT / "conf")
            by = people.identify(CONTROLLER, proof=CONTROLLER)
            desk = Desk(self._lease.ledger, self._place.bundles, policies, people, by, self._place.orders)
            logs = Logs(self._place.prediction_log, self._place.shadow_log)
            observer = LogObserver(logs, self._place.rollout, SEGMENTS)
            self._controller = Controller(desk, observer, LabelChecks(logs, self._place.rollout, self._labels))
        return True


def _stop_on_signals() -> threading.Event:
    stopped = threading.Event()

    def stop(_: int, __: FrameType | None) -> None:
        stopped.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    return stopped
