"""The ledger as the controller follows it: each record is read once, and what stands in for records is obeyed.

A ledger that cannot be read any more leaves what was known of it: by that a version that fails is still taken out.
"""

from pathlib import Path

from flightdeck.core.errors import FlightdeckError, NotFoundError
from flightdeck.release.ledger import Ledger
from flightdeck.release.orders import obey, read_orders
from flightdeck.release.record import Record
from flightdeck.release.rollout.label_period import LABEL_CHECK
from flightdeck.release.stages import ReleaseState
from flightdeck.release.state import fold

KEPT = ("routed", "alert", "promoted", LABEL_CHECK)


class FollowedLedger:
    """State of a ledger, and those of its records that the state does not say all of.

    Parameters
    ----------
    ledger
        The ledger; nothing is appended.
    orders
        Folder of the rollbacks that wait for their record; None: there are none.
    """

    def __init__(self, ledger: Ledger, orders: Path | None) -> None:
        self.records: list[Record] = []
        self._ledger, self._orders = ledger, orders
        self._recorded = ReleaseState()

    def read_on(self) -> ReleaseState:
        """Read what is new and return the state, the orders that wait obeyed.

        Raises
        ------
        NotFoundError
            If there is no ledger, and none was read before.
        FlightdeckError
            If it cannot be read, and never could.
        """
        try:
            if not self._recorded.seq and not self._ledger.exists():
                raise NotFoundError(f"following the ledger {self._ledger.place}: it is not there")
            news = self._ledger.records(self._recorded.seq, after_digest=self._recorded.digest)
        except FlightdeckError:
            if not self._recorded.seq:
                raise
            news = []
        self._recorded = fold(news, self._recorded)
        self.records += [record for record in news if record.action in KEPT]
        return obey(self._recorded, read_orders(self._orders)) if self._orders is not None else self._recorded
