"""Replaying events into an online store: filled to a moment, it then learns what became known, in that order."""

import numpy as np
import pyarrow as pa

from flightdeck.events.log import EventLog
from flightdeck.features.materializer import Materializer


class EventFeed:
    """Applies the events of a log to a store in the order in which they became known.

    Parameters
    ----------
    log
        Event log to read.
    materializer
        Writer of the online store.
    start_us, end_us
        The feed begins with the state of `start_us` and holds the events known until `end_us`, UTC microseconds.
    """

    def __init__(self, log: EventLog, materializer: Materializer, start_us: int, end_us: int) -> None:
        self._materializer = materializer
        streams = materializer.streams
        self._events = {s: log.read(s, created_after_us=start_us, created_until_us=end_us) for s in streams}
        self._known_us = {s: _created_us(table) for s, table in self._events.items()}
        self._n_before = materializer.backfill(log, start_us).n_events
        self.watermark_us = start_us

    @property
    def n_backfilled(self) -> int:
        """Events within reach of the views that the state of the start was built from."""
        return self._n_before

    def advance_to(self, watermark_us: int) -> int:
        """Apply what became known since the last watermark until `watermark_us`; return how many events that were."""
        batch = {stream: self._between(stream, self.watermark_us, watermark_us) for stream in self._events}
        applied = self._materializer.apply(batch, watermark_us)
        self.watermark_us = watermark_us
        return applied.n_events

    def _between(self, stream: str, after_us: int, until_us: int) -> pa.Table:
        first, last = np.searchsorted(self._known_us[stream], [after_us, until_us], side="right")
        return self._events[stream].slice(first, last - first)


def _created_us(table: pa.Table) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.asarray(table["created_timestamp"].cast(pa.int64()).to_numpy(), dtype=np.int64)
