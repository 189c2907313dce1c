"""Features of a batch from the online store, or the reason why there are none to use.

Each release reads the versions of the feature views that its bundle declares: champion and canary may read different
ones of the same store at the same moment.
"""

import logging
import os
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from flightdeck.core.clock import SECOND_US
from flightdeck.core.errors import ContractViolation, FlightdeckError, StoreUnavailable
from flightdeck.features.online import OnlineFeatures, OnlineReader
from flightdeck.features.stores import FeatureStore, open_store
from flightdeck.features.view import FeatureView
from flightdeck.inference.breaker import Breaker, BreakerState
from flightdeck.inference.release_bundle import LoadedRelease

UNAVAILABLE, STALE, LATE = "store_unavailable", "features_stale", "features_late"
AHEAD = "store_ahead_of_question"
_DAMAGES = (
    ValueError,
    struct.error,
    LookupError,
    ArithmeticError,
    TypeError,
    MemoryError,
)  # of bytes that are no state
_FAULTS = (StoreUnavailable, ContractViolation, OSError, *_DAMAGES)
_log = logging.getLogger(__name__)


class Reading(NamedTuple):
    """What the store gave for `n_rows` rows.

    Parameters
    ----------
    features
        What was read; None if nothing could be.
    unusable
        Why a model must not use it, for all rows or for each, shape `(n_rows,)`: `store_unavailable`, `features_stale`,
        or `store_ahead_of_question` (an old question: the store knows its future); empty where it may.
    is_late
        Where to flag it although it is usable: older than the views promise; shape `(n_rows,)`, None for nowhere.
    """

    features: OnlineFeatures | None
    unusable: str | npt.NDArray[np.object_] = ""
    is_late: npt.NDArray[np.bool_] | None = None


@dataclass
class _Reader:
    """The reader of one set of views, with the tightest of their limits: they share one watermark."""

    reader: OnlineReader
    slo_us: float
    limit_us: float


class FeatureSource:
    """Reads the online store, opening it when it appears and again when it is replaced. For one thread at a time.

    Parameters
    ----------
    where
        Folder of the store, or its address.
    slow_s
        Time from which on a read counts as a failure. A store that fails or is slow is left alone for a while, for the
        set of views that met it: one that was never fed is no reason not to read the others.
    time_s
        Monotonic time in seconds.
    """

    def __init__(self, where: Path | str, slow_s: float, time_s: Callable[[], float]) -> None:
        self._where = where
        self._slow_s = slow_s
        self._breakers: dict[str, Breaker] = {}
        self._time_s = time_s
        self._data = f"{where}/data.mdb"
        self._store: FeatureStore | None = None
        self._file: tuple[int, int] | None = None
        self._readers: dict[str, _Reader] = {}
        self._problems: dict[str, str] = {}

    def read(
        self, columns: Mapping[str, npt.NDArray[Any]], at_us: npt.NDArray[np.int64], release: LoadedRelease
    ) -> Reading:
        """Return the features of a batch; this never raises for what a store can do.

        Parameters
        ----------
        columns
            Request columns, shape `(n_rows,)` each.
        at_us
            Time of the question of each row, UTC microseconds, shape `(n_rows,)`.
        release
            Whose views to read.
        """
        if not release.feature_views:
            return Reading(None)
        self._look_at_file()
        views, versions, began_s = release.feature_views, release.view_versions, self._time_s()
        breaker = self._breakers.get(versions) or self._breakers.setdefault(versions, Breaker(self._slow_s))
        if not breaker.allows(began_s):
            return Reading(None, UNAVAILABLE)
        try:
            reader = self._reader(versions, views)
            features = reader.reader.read(columns, at_us)
        except _FAULTS as error:
            now_s = self._time_s()
            breaker.record(took_s=now_s - began_s, is_ok=False, now_s=now_s)
            self._report(
                versions, str(error) if isinstance(error, FlightdeckError) else f"reading the online store: {error!r}"
            )
            return Reading(None, UNAVAILABLE)
        now_s = self._time_s()
        breaker.record(took_s=now_s - began_s, is_ok=True, now_s=now_s)
        self._report(versions, "")
        return _judge(features, at_us, reader)

    def problem(self, releases: Iterable[LoadedRelease]) -> str:
        """Return why the last read for one of these releases failed; empty if none did."""
        found = (self._problems.get(release.view_versions, "") for release in releases)
        return next((problem for problem in found if problem), "")

    @property
    def is_left_alone(self) -> bool:
        """Whether a breaker keeps somebody from asking."""
        now_s = self._time_s()
        return any(breaker.state(now_s) is not BreakerState.CLOSED for breaker in self._breakers.values())

    def close(self) -> None:
        """Release the store."""
        if self._store is not None:
            self._store.close()
        self._store = None
        self._readers.clear()

    def _reader(self, versions: str, views: Sequence[FeatureView]) -> _Reader:
        store = self._open()
        reader = self._readers.get(versions)
        if reader is None:
            slo_us = min(view.freshness_slo_s for view in views) * SECOND_US
            limit_us = min(view.hard_limit_s for view in views) * SECOND_US
            reader = self._readers[versions] = _Reader(OnlineReader(store, views), slo_us, limit_us)
        return reader

    def _look_at_file(self) -> None:
        """Let go of a folder's store if the file in it is another one now, and of what was thought of it."""
        if not isinstance(self._where, Path):
            return
        try:
            found = os.stat(self._data)  # noqa: PTH116 - once a batch, and a Path would cost as much again
            file = found.st_dev, found.st_ino
        except OSError:
            file = None
        if file != self._file:
            self.close()
            self._breakers.clear()
            self._file = file

    def _open(self) -> FeatureStore:
        if self._store is None:
            self._store = open_store(self._where, read_only=True)
        return self._store

    def _report(self, versions: str, problem: str) -> None:
        """Log when features go and when they come back, not once a request."""
        before = self._problems.get(versions, "")
        if problem and not before:
            _log.error("%s; answering goes on with the fallback model", problem)
        if before and not problem:
            _log.info("the online store can be read again")
        if problem or before:
            self._problems[versions] = problem


def _judge(features: OnlineFeatures, at_us: npt.NDArray[np.int64], reader: _Reader) -> Reading:
    """Say where features are too old, from after the question, or merely late."""
    described_us = features.rows_us
    staleness_us = described_us - features.watermark_us
    is_late = staleness_us > min(reader.slo_us, reader.limit_us)
    is_ahead = described_us - at_us > reader.slo_us
    if not is_late.any() and not is_ahead.any():
        return Reading(features)
    unusable = np.where(staleness_us > reader.limit_us, STALE, np.where(is_ahead, AHEAD, "")).astype(object)
    return Reading(features, unusable, is_late & (unusable == ""))


def oldest_ages_s(features: OnlineFeatures) -> dict[str, float]:
    """Return the oldest age of each view over the rows, NaN where no row has one."""
    return dict(zip(features.views, np.fmax.reduce(features.ages, axis=0).tolist(), strict=True))
