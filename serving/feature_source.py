"""Features of a request from the online store, or the reason why there are none to use.

Each release reads the versions of the feature views that its bundle declares: champion and canary may read different
ones of the same store at the same moment.
"""

import logging
import struct
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from flightdeck.core.clock import SECOND_US
from flightdeck.core.errors import ContractViolation, StoreUnavailable
from flightdeck.features.online import OnlineFeatures, OnlineReader
from flightdeck.features.stores import FeatureStore, open_store
from flightdeck.features.view import FeatureView

UNAVAILABLE, STALE, LATE = "store_unavailable", "features_stale", "features_late"
AHEAD = "store_ahead_of_question"
Views = tuple[FeatureView, ...]
Versions = tuple[tuple[str, str], ...]
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


def versions_of(views: Views) -> Versions:
    """Return name and digest of each view: releases for which they are equal share one read."""
    return tuple((view.name, view.digest) for view in views)


class FeatureSource:
    """Reads the online store, opening it when it appears and again when it is replaced. For one thread.

    Parameters
    ----------
    where
        Folder of the store, or its address.
    """

    def __init__(self, where: Path | str) -> None:
        self._where = where
        self._store: FeatureStore | None = None
        self._file: tuple[int, int] | None = None
        self._problems: dict[Versions, str] = {}

    def read(self, columns: Mapping[str, npt.NDArray[Any]], at_us: int, views: Views) -> Reading:
        """Return the features of a batch at `at_us`; this never raises for what a store can do.

        Parameters
        ----------
        columns
            Request columns, shape `(n_rows,)` each.
        at_us
            Time of the question, UTC microseconds.
        views
            Views to read; the tightest of their limits holds for all, they share one watermark.
        """
        if not views:
            return Reading(None)
        try:
            features = OnlineReader(self._open(), views).read(columns, at_us)
        except (StoreUnavailable, ContractViolation, OSError, ValueError, struct.error) as error:
            self._report(versions_of(views), str(error))
            return Reading(None, UNAVAILABLE)
        self._report(versions_of(views), "")
        slo_s = min(view.freshness_slo_s for view in views)
        if not features.staleness_s <= min(view.hard_limit_s for view in views):
            return Reading(features, STALE)
        if features.at_us - at_us > slo_s * SECOND_US:
            return Reading(features, AHEAD)
        return Reading(features, "", LATE if features.staleness_s > slo_s else "")

    def problem(self, sets: Iterable[Views]) -> str:
        """Return why the last read of one of these sets of views failed; empty if none did."""
        found = (self._problems.get(versions_of(views), "") for views in sets)
        return next((problem for problem in found if problem), "")

    def close(self) -> None:
        """Release the store."""
        if self._store is not None:
            self._store.close()
        self._store = None

    def _open(self) -> FeatureStore:
        """Return the open store; a folder is opened anew if the file in it is another one now."""
        file = None
        if isinstance(self._where, Path):
            with suppress(FileNotFoundError):
                found = (self._where / "data.mdb").stat()
                file = found.st_dev, found.st_ino
        if self._store is None or file != self._file:
            self.close()
            self._store = open_store(self._where, read_only=True)
            self._file = file
        return self._store

    def _report(self, versions: Versions, problem: str) -> None:
        """Log when features go and when they come back, not once a request."""
        before = self._problems.get(versions, "")
        if problem and not before:
            _log.error("%s; answering goes on with the fallback model", problem)
        if before and not problem:
            _log.info("the online store can be read again")
        if problem or before:
            self._problems[versions] = problem


def oldest_ages_s(features: OnlineFeatures) -> dict[str, float]:
    """Return the oldest age of each view over the rows, NaN where no row has one."""
    oldest = np.fmax.reduce(np.stack(list(features.ages_s.values())), axis=1)
    return dict(zip(features.ages_s, oldest.tolist(), strict=True))
