"""A request on its way through the service: its columns and what the online store knows about them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from flightdeck.inference.release_bundle import LoadedRelease
from serving.feature_source import Reading, Versions, Views, versions_of
from serving.use_case import has_unknown_origin

Columns = dict[str, npt.NDArray[Any]]


class Question:
    """Columns of a request with the features read for it; what releases share is read and computed once.

    Parameters
    ----------
    request
        Request columns, shape `(n_rows,)` each.
    read
        Reads some views for the request.
    """

    def __init__(self, request: Columns, read: Callable[[Views], Reading]) -> None:
        self.request = request
        self.n_rows = len(request["request_us"])
        self._read = read
        self._readings: dict[Versions, Reading] = {}
        self._matrices: dict[str, npt.NDArray[np.float64]] = {}

    def rows(self, rows: npt.NDArray[np.intp]) -> Columns:
        """Return the request columns of some rows."""
        return self.request if len(rows) == self.n_rows else {name: c[rows] for name, c in self.request.items()}

    def reading(self, release: LoadedRelease) -> Reading:
        """Return what the online store gave for the views of `release`, one read for each set of versions."""
        versions = versions_of(release.feature_views)
        if versions not in self._readings:
            self._readings[versions] = self._read(release.feature_views)
        return self._readings[versions]

    def features(self, release: LoadedRelease) -> npt.NDArray[np.float64]:
        """Return what the model of `release` reads, float64 of shape `(n_rows, n_numeric)`."""
        if release.digest not in self._matrices:
            read = self.reading(release).features
            self._matrices[release.digest] = release.model_features(self.request | (read.columns if read else {}))
        return self._matrices[release.digest]

    def features_as_served(self, release: LoadedRelease) -> list[list[float]] | None:
        """Return the features for the prediction log; None if the store gave none or they cannot be computed."""
        if self.reading(release).features is None:
            return None
        try:
            served: list[list[float]] = self.features(release).tolist()
        except Exception:  # noqa: BLE001 - the ladder met the same error, logged it and stepped down
            return None
        return served

    def notes(self, release: LoadedRelease) -> list[tuple[str, ...]]:
        """Return what to flag about each row although it is answered: late features, categories never seen."""
        note = self.reading(release).note
        late = (note,) if note else ()
        unseen = release.unseen_categories(self.request)
        guessed = has_unknown_origin(self.request)
        flags = [
            dict.fromkeys((*names, *(("origin",) if is_guessed else ())))
            for names, is_guessed in zip(unseen, guessed, strict=True)
        ]
        return [(*late, *(f"unseen:{name}" for name in names)) for names in flags]

    def feature_ages_s(self, release: LoadedRelease) -> list[dict[str, float]]:
        """Return the age of each view's last event for each row: NaN where none was seen, empty if nothing was read."""
        read = self.reading(release).features
        if read is None:
            return [{} for _ in range(self.n_rows)]
        return [dict(zip(read.views, row, strict=True)) for row in read.ages.tolist()]
