"""A request on its way through the service: its columns and what the online store knows about them."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from flightdeck.inference.release_bundle import LoadedRelease
from serving.feature_source import Reading, Versions, Views, versions_of
from serving.use_case import has_unknown_origin

Columns = dict[str, npt.NDArray[Any]]


class Question:
    """Columns of a request with the features read for it; what releases share is read once.

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
        self._served: dict[str, dict[int, list[float]]] = {}

    def rows(self, rows: npt.NDArray[np.intp]) -> Columns:
        """Return the request columns of some rows."""
        return self.request if len(rows) == self.n_rows else {name: c[rows] for name, c in self.request.items()}

    def reading(self, release: LoadedRelease) -> Reading:
        """Return what the online store gave for the views of `release`, one read for each set of versions."""
        versions = versions_of(release.feature_views)
        if versions not in self._readings:
            self._readings[versions] = self._read(release.feature_views)
        return self._readings[versions]

    def views(self, release: LoadedRelease) -> npt.NDArray[np.float64]:
        """Return the columns of the views of `release`, float64 of shape `(n_rows, n_view_columns)`.

        Raises
        ------
        KeyError
            If the store gave none.
        """
        read = self.reading(release).features
        columns = read.columns if read else {}
        names = [column for view in release.feature_views for column in view.columns]
        return np.stack([columns[name] for name in names], axis=1) if names else np.empty((self.n_rows, 0))

    def keep(self, release: LoadedRelease, rows: npt.NDArray[np.intp], numeric: npt.NDArray[np.float32]) -> None:
        """Keep what the model of `release` has read of some rows, for the prediction log."""
        served = self._served.setdefault(release.digest, {})
        served.update(zip(rows.tolist(), numeric.tolist(), strict=True))

    def features_as_served(self, release: LoadedRelease) -> Mapping[int, list[float]]:
        """Return by row what the model of `release` has read; rows that it was not asked about are missing."""
        return self._served.get(release.digest, {})

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
        columns = (ages.tolist() for ages in read.ages_s.values())
        return [dict(zip(read.ages_s, row, strict=True)) for row in zip(*columns, strict=True)]
