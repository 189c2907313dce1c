"""Outcomes of flights for the label check of a rollout: the label join of monitoring, as of the store's watermark."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from flightdeck.core.clock import SECOND_US
from flightdeck.core.layout import Layout
from flightdeck.events.log import EventLog
from flightdeck.monitoring.labels import PENDING_US
from flightdeck.monitoring.settings import DAY_US
from pipelines.monitoring.nodes import label_predictions
from pipelines.monitoring.outcomes import KEY

COLUMNS = {
    "scheduled": [KEY, "scheduled_arrival", "created_timestamp"],
    "arrived": [KEY, "is_late", "created_timestamp"],
    "cancelled": [KEY, "created_timestamp"],
}
UNKNOWN_FOR_US = 3 * DAY_US  # a flight that is in no schedule so long after somebody asked will have no label


@dataclass(frozen=True)
class FlightLabels:
    """Labels of flights from the event log, mature ones only.

    Parameters
    ----------
    log
        The event log.
    watermarks
        Gives the watermark of each view of the online store: what is known is known until the newest.
    """

    log: EventLog
    watermarks: Callable[[], Mapping[str, int]]

    def known(self, items: Sequence[str], asked_us: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.float64], float]:
        """Return the outcomes of flights that were asked about, and up to which time of request none is pending.

        Without a store nothing is known.

        Returns
        -------
        tuple of array and float
            1 for late, cancelled or diverted, 0 for on time, NaN while it is not due, shape `(n,)`; and seconds since
            the epoch.

        Raises
        ------
        NotFoundError
            If the log has no such streams.
        """
        as_of_us = max(self.watermarks().values(), default=None)
        if as_of_us is None or not len(items):
            return np.full(len(items), np.nan), float("-inf")
        streams = {
            name: self.log.read(name, columns=columns, created_until_us=as_of_us) for name, columns in COLUMNS.items()
        }
        flights = pd.DataFrame({KEY: list(items)})
        found = label_predictions(
            flights, streams["scheduled"], streams["arrived"], streams["cancelled"], {"as_of_us": as_of_us}
        )
        is_mature = found["is_mature"].to_numpy(dtype=bool)
        is_expected = found["due_us"].to_numpy() != PENDING_US
        is_pending = ~is_mature & (is_expected | (asked_us > as_of_us - UNKNOWN_FOR_US))
        until_us = min(as_of_us, int(asked_us[is_pending].min()) if is_pending.any() else as_of_us)
        labels = np.where(is_mature, found["label"].to_numpy(dtype=np.float64), np.nan)
        return labels, until_us / SECOND_US


def flight_labels(where: Layout) -> FlightLabels:
    """Return the labels below a data root."""

    def watermarks() -> Mapping[str, int]:
        from flightdeck.monitoring.datasets import WatermarksDataset  # brings Kedro, which a controller may do without

        return WatermarksDataset(filepath=str(where.online_store), views="pipelines.features.views:VIEWS").load()

    return FlightLabels(EventLog(where.event_log), watermarks)
