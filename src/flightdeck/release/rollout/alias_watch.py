"""Keeps MLflow's aliases true beside the controller: after each decision, and where somebody moves one behind our back.

In a thread of its own, for MLflow may be slow or away, and a rollback must not wait for it. That it is away is no
error: nothing is decided by it.
"""

import threading
from collections.abc import Callable
from pathlib import Path

from flightdeck.core.errors import FlightdeckError
from flightdeck.release.ledger import Ledger
from flightdeck.release.reconciler import ALIASES, expected_aliases, reconcile_or_warn
from flightdeck.release.registry import Registry
from flightdeck.release.rollout.followed import FollowedLedger

LOOK_S, AGAIN_S, ENDS_WITHIN_S = 4.0, 1.0, 10.0
Difference = tuple[int, dict[str, int | None]]


class AliasWatch:
    """Compares the aliases of the registry with the ledger.

    Parameters
    ----------
    ledger
        What the aliases should say; alerts are appended to it.
    uri
        The MLflow that has them.
    bundles
        Folder of the sealed bundles.
    warn
        Told what could not be done and what had been moved, a line each.
    """

    def __init__(self, ledger: Ledger, uri: str, bundles: Path, warn: Callable[[str], None]) -> None:
        self._ledger, self._uri, self._bundles, self._warn = ledger, uri, bundles, warn
        self._followed = FollowedLedger(ledger, None)
        self._differed: Difference | None = None
        self._wake, self._is_over = threading.Event(), False
        self._thread = threading.Thread(target=self._run, name="aliases", daemon=True)

    def start(self) -> None:
        """Begin to look, every few seconds."""
        self._thread.start()

    def follow(self) -> None:
        """Let the aliases follow what was just decided, soon."""
        self._wake.set()

    def stop(self) -> None:
        """Let them follow what was decided last, and end; an MLflow that does not answer is waited for 10 s."""
        self._is_over = True
        self._wake.set()
        self._thread.join(ENDS_WITHIN_S)

    def reconcile(self) -> None:
        """Make the aliases say what the ledger says, and tell what hinders that or had been moved."""
        try:
            for warning in reconcile_or_warn(self._ledger, self._uri, self._bundles):
                self._warn(warning)
        except FlightdeckError as error:
            self._warn(f"comparing MLflow's aliases: {error.message}")

    def look(self) -> bool:
        """Compare once; return whether the aliases differ. What differs at two looks in a row is reconciled.

        A difference that is seen once may be the work of a command that has decided and is about to move the alias.
        """
        before, self._differed = self._differed, self._difference()
        if self._differed is not None and self._differed == before:
            self._differed = None
            self.reconcile()
        return self._differed is not None

    def _difference(self) -> Difference | None:
        """Return record and wrong aliases; None where all is right, or nothing can be known."""
        try:
            state = self._followed.read_on()
            if state.model_name is None:
                return None
            found, wanted = Registry(self._uri, state.model_name).aliases(), expected_aliases(state)
        except FlightdeckError:
            return None
        wrong = {alias: found.get(alias) for alias in ALIASES if found.get(alias) != wanted.get(alias)}
        return (state.seq, wrong) if wrong else None

    def _run(self) -> None:
        differs = False
        while not self._is_over or self._wake.is_set():
            is_woken = self._wake.wait(AGAIN_S if differs else LOOK_S)
            self._wake.clear()
            if is_woken:
                self.reconcile()
                differs = False
            else:
                differs = self.look()
