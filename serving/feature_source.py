"""Features of a request from the online store, or the reason why there are none to use."""

import logging
import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from flightdeck.core.clock import SECOND_US
from flightdeck.core.errors import StoreUnavailable
from flightdeck.features.online import OnlineFeatures, OnlineReader
from flightdeck.features.store import OnlineStore
from flightdeck.features.view import FeatureView

UNAVAILABLE, STALE, LATE = "store_unavailable", "features_stale", "features_late"
AHEAD = "store_ahead_of_question"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reading:
    """What the store gave.

    Parameters
    ----------
    features
        What was read; None if nothing could be.
    unusable
        Why a model must not use it: `store_unavailable`, `features_stale`, or
        `store_ahead_of_question` (an old question: the store knows its future); empty if it may.
    note
        What to flag although it is usable: `features_late`; else empty.
    """

    features: OnlineFeatures | None
    unusable: str = ""
    note: str = ""


class FeatureSource:
    """Reads the online store, opening it when it appears and again when it is replaced. For one thread.

    Parameters
    ----------
    path
        Folder of the store.
    views
        Views to read; the tightest of their limits holds for all, they share one watermark.
    """

    def __init__(self, path: Path, views: Sequence[FeatureView]) -> None:
        self.problem = ""
        self._path = path
        self._views = views
        self._store: OnlineStore | None = None
        self._file: tuple[int, int] | None = None
        self._slo_s = min(view.freshness_slo_s for view in views)
        self._limit_s = min(view.hard_limit_s for view in views)

    def read(self, columns: Mapping[str, npt.NDArray[Any]], at_us: int) -> Reading:
        """Return the features of a batch at `at_us`; this never raises for what a store can do.

        Parameters
        ----------
        columns
            Request columns, shape `(n_rows,)` each.
        at_us
            Time of the question, UTC microseconds.
        """
        try:
            features = OnlineReader(self._open(), self._views).read(columns, at_us)
        except (StoreUnavailable, OSError, ValueError, struct.error) as error:
            self._report(str(error))
            return Reading(None, UNAVAILABLE)
        self._report("")
        if not features.staleness_s <= self._limit_s:
            return Reading(features, STALE)
        if features.at_us - at_us > self._slo_s * SECOND_US:
            return Reading(features, AHEAD)
        return Reading(features, "", LATE if features.staleness_s > self._slo_s else "")

    def close(self) -> None:
        """Release the store."""
        if self._store is not None:
            self._store.close()
        self._store = None

    def _open(self) -> OnlineStore:
        """Return the open store, opened anew if the file at the path is another one now."""
        file = None
        with suppress(FileNotFoundError):
            found = (self._path / "data.mdb").stat()
            file = found.st_dev, found.st_ino
        if self._store is None or file != self._file:
            self.close()
            self._store = OnlineStore.open(self._path, read_only=True)
            self._file = file
        return self._store

    def _report(self, problem: str) -> None:
        """Log when the store goes and when it comes back, not once a request."""
        if problem and not self.problem:
            _log.error("%s; answering goes on with the fallback model", problem)
        if self.problem and not problem:
            _log.info("the online store can be read again")
        self.problem = problem


def oldest_ages_s(features: OnlineFeatures) -> dict[str, float]:
    """Return the oldest age of each view over the rows, NaN where no row has one."""
    oldest = np.fmax.reduce(np.stack(list(features.ages_s.values())), axis=1)
    return dict(zip(features.ages_s, oldest.tolist(), strict=True))
