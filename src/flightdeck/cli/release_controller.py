"""`kedro release rollout`: the controller as a process."""

import signal
import socket
import threading
from datetime import timedelta
from types import FrameType

import click

from flightdeck.cli.errors import reports_errors
from flightdeck.core.clock import SystemClock
from flightdeck.core.errors import FlightdeckError, LedgerConflict
from flightdeck.core.layout import PROJECT, layout
from flightdeck.gates.policy import read_policies
from flightdeck.release.decisions import current_state
from flightdeck.release.lease import Lease
from flightdeck.release.ledger_config import released_ledger
from flightdeck.release.order_entry import enter_orders
from flightdeck.release.people import read_people
from flightdeck.release.reconciler import reconcile_or_warn
from flightdeck.release.rollout.controller import Controller, Desk
from flightdeck.release.rollout.observer import LogObserver, Logs

CONTROLLER = "controller"
LEASE_S = 600.0
HALF_LEASE = timedelta(seconds=LEASE_S / 2)
AGAIN_S = 5.0
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
    controller at a time holds the lease of the ledger; it goes on where the one before it was stopped or killed, and a
    controller that another one has taken over from ends.
    """
    desk = _ControllerDesk()
    if not follow:
        desk.tell(desk.look())
        return
    stopped = _stop_on_signals()
    while not stopped.is_set():
        wait_s = every_s
        try:
            desk.tell(desk.look())
        except LedgerConflict:
            if desk.has_lease:
                raise
            wait_s = AGAIN_S
        except FlightdeckError as error:
            desk.warn(str(error))
            wait_s = AGAIN_S
        stopped.wait(wait_s)
    desk.leave()


class _ControllerDesk:
    """The controller of this process, and its lease while there is something to decide."""

    def __init__(self) -> None:
        self._place, self._clock = layout(), SystemClock()
        self._ledger = released_ledger(self._place, self._clock)
        self._read_at: tuple[int, ...] = ()
        self._idle_at = 0
        self._lease: Lease | None = None
        self._controller: Controller | None = None
        self._warned = ""
        self._has_reconciled = False

    @property
    def has_lease(self) -> bool:
        """Whether this process has taken the lease."""
        return self._lease is not None

    def look(self) -> list[str]:
        """Let the controller look once, where something is under way."""
        if not self._ledger.exists():
            return []
        done = enter_orders(self._ledger, self._place.orders)
        head = self._ledger.head()
        if head == self._idle_at:
            return done
        state = current_state(self._ledger)
        has_no_segment = all(segment.canary is None for segment in state.rules.segments)
        if state.canary is None and state.shadow is None and has_no_segment:
            self._idle_at = head
            return done
        now = self._clock.now()
        if self._lease is None or now > self._lease.expires_at - HALF_LEASE:
            self._lease = Lease.take(self._ledger, f"{CONTROLLER}@{socket.gethostname()}", LEASE_S, self._clock)
            self._controller = None
        written_at = tuple((PROJECT / "conf" / "base" / name).stat().st_mtime_ns for name in RULES)
        if self._controller is None or written_at != self._read_at:  # a revoked person counts no more from now on
            self._read_at = written_at
            policies, people = read_policies(PROJECT / "conf"), read_people(PROJECT / "conf")
            by = people.identify(CONTROLLER, proof=CONTROLLER)
            desk = Desk(self._lease.ledger, self._place.bundles, policies, people, by)
            logs = Logs(self._place.prediction_log, self._place.shadow_log)
            self._controller = Controller(desk, LogObserver(logs, self._place.rollout, SEGMENTS))
        return done + self._controller.step()

    def tell(self, done: list[str]) -> None:
        """Print what was done, and let MLflow's aliases follow it; at the start also what was done before."""
        for line in done:
            click.echo(line)
        if done or not self._has_reconciled:  # the controller before this one may have been killed in between
            self._has_reconciled = True
            for warning in reconcile_or_warn(self._ledger, self._place.mlflow_uri, self._place.bundles):
                self.warn(warning)

    def warn(self, line: str) -> None:
        """Print a warning, the same one once."""
        if line != self._warned:
            click.secho(f"warning: {line}", fg="yellow", err=True)
        self._warned = line

    def leave(self) -> None:
        """Give the lease up."""
        if self._lease is not None:
            self._lease.release(self._clock)


def _stop_on_signals() -> threading.Event:
    stopped = threading.Event()

    def stop(_: int, __: FrameType | None) -> None:
        stopped.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    return stopped
