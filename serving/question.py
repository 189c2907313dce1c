"""A request on its way through the service: its columns and what the online store knows about them."""

from typing import Any

import numpy as np
import numpy.typing as npt

from flightdeck.inference.release_bundle import LoadedRelease
from serving.feature_source import Reading
from serving.use_case import has_unknown_origin

Columns = dict[str, npt.NDArray[Any]]


class Question:
    """Columns of a request with the features read for it; each release's model features are computed at most once.

    Parameters
    ----------
    request
        Request columns, shape `(n_rows,)` each.
    reading
        What the online store gave.
    """

    def __init__(self, request: Columns, reading: Reading) -> None:
        self.request = request
        self.reading = reading
        self.n_rows = len(request["request_us"])
        self._columns = request | (reading.features.columns if reading.features is not None else {})
        self._matrices: dict[str, npt.NDArray[np.float64]] = {}

    def rows(self, rows: npt.NDArray[np.intp]) -> Columns:
        """Return the request columns of some rows."""
        return self.request if len(rows) == self.n_rows else {name: c[rows] for name, c in self.request.items()}

    def features(self, release: LoadedRelease) -> npt.NDArray[np.float64]:
        """Return what the model of `release` reads, float64 of shape `(n_rows, n_numeric)`."""
        if release.digest not in self._matrices:
            self._matrices[release.digest] = release.model_features(self._columns)
        return self._matrices[release.digest]

    def features_as_served(self, release: LoadedRelease) -> list[list[float]] | None:
        """Return the features for the prediction log; None if the store gave none or they cannot be computed."""
        if self.reading.features is None:
            return None
        try:
            served: list[list[float]] = self.features(release).tolist()
        except Exception:  # noqa: BLE001 - the ladder met the same error, logged it and stepped down
            return None
        return served

    def notes(self, release: LoadedRelease) -> list[tuple[str, ...]]:
        """Return what to flag about each row although it is answered: late features, categories never seen."""
        late = (self.reading.note,) if self.reading.note else ()
        unseen = release.unseen_categories(self.request)
        guessed = has_unknown_origin(self.request)
        flags = [
            dict.fromkeys((*names, *(("origin",) if is_guessed else ())))
            for names, is_guessed in zip(unseen, guessed, strict=True)
        ]
        return [(*late, *(f"unseen:{name}" for name in names)) for names in flags]

    def feature_ages_s(self) -> list[dict[str, float]]:
        """Return the age of each view's last event for each row: NaN where none was seen, empty if nothing was read."""
        if self.reading.features is None:
            return [{} for _ in range(self.n_rows)]
        ages_s = self.reading.features.ages_s
        columns = (ages.tolist() for ages in ages_s.values())
        return [dict(zip(ages_s, row, strict=True)) for row in zip(*columns, strict=True)]
