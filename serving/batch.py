"""A batch on its way through the service: the items of all requests that waited together, as columns.

Everything that several releases or rungs need is read or computed once for the whole batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from flightdeck.inference.onnx_model import Scores
from flightdeck.inference.release_bundle import LoadedRelease
from serving.feature_source import LATE, FeatureSource, Reading
from serving.trace import Steps
from serving.use_case import has_unknown_origin

Columns = dict[str, npt.NDArray[Any]]
Rows = npt.NDArray[np.intp]
Floats = npt.NDArray[np.float64]


class Served(NamedTuple):
    """What a model read for some rows.

    Parameters
    ----------
    release
        The release whose model it was.
    rows
        Row numbers, ascending, shape `(n,)`.
    numeric
        float32 of shape `(n, n_numeric)`.
    took_ms
        CPU that its run took, milliseconds.
    """

    release: LoadedRelease
    rows: Rows
    numeric: npt.NDArray[np.float32]
    took_ms: float


@dataclass
class Batch:
    """Items of some requests.

    Parameters
    ----------
    request
        Request columns, shape `(n_rows,)` each.
    source
        Where features are read.
    steps
        Where steps are noted; None if nothing in it is traced.
    """

    request: Columns
    source: FeatureSource
    steps: Steps | None = None
    _readings: dict[str, Reading] = field(default_factory=dict)
    _ages: dict[str, list[Any]] = field(default_factory=dict)

    @property
    def n_rows(self) -> int:
        """Number of items."""
        return len(self.request["request_us"])

    def rows(self, rows: Rows) -> Columns:
        """Return the request columns of some rows."""
        return self.request if len(rows) == self.n_rows else {name: c[rows] for name, c in self.request.items()}

    def reading(self, release: LoadedRelease) -> Reading:
        """Return what the online store gives for the views of `release`, one read for each set of versions."""
        versions = release.view_versions
        if versions not in self._readings:
            self._readings[versions] = self._read(release)
        return self._readings[versions]

    def _read(self, release: LoadedRelease) -> Reading:
        if self.steps is None:
            return self.source.read(self.request, self.request["request_us"], release)
        with self.steps.take("read features", {"flightdeck.batch_items": self.n_rows}) as facts:
            reading = self.source.read(self.request, self.request["request_us"], release)
            unusable = reading.unusable
            why = {unusable} if isinstance(unusable, str) else set(unusable.tolist())
            facts["flightdeck.unusable"] = tuple(sorted(why - {""}))
        return reading

    def has_read(self, release: LoadedRelease) -> bool:
        """Tell whether the features of `release` were asked for: a lower rung alone needs none."""
        return release.view_versions in self._readings

    def readings(self) -> list[Reading]:
        """Return everything that was read."""
        return list(self._readings.values())

    def ages(self, release: LoadedRelease) -> list[Any]:
        """Return for each row the ages of what `release` was given, as JSON that has a name for each view."""
        versions = release.view_versions
        if versions not in self._ages:
            read = self.reading(release).features
            self._ages[versions] = [] if read is None else list(map(_ages_type(read.views), *read.ages.T.tolist()))
        return self._ages[versions]

    def score_model(self, release: LoadedRelease, rows: Rows) -> Scores:
        """Return the model's probabilities of some rows and what it read."""
        features = self.reading(release).features
        if features is None:
            views = np.empty((len(rows), 0))
        else:
            views = features.values if len(rows) == self.n_rows else features.values[rows]
        return release.score_model(self.rows(rows), views)

    def notes(self, release: LoadedRelease) -> list[tuple[str, ...]] | None:
        """Return what to flag about each row although it is answered; None if there is nothing to flag at all.

        Late features, categories that training never saw, and an origin whose time zone is a guess.
        """
        is_late = self.reading(release).is_late if self.has_read(release) else None
        unseen = release.unseen_categories(self.request)
        guessed = has_unknown_origin(self.request)
        if is_late is None and not any(unseen) and not any(guessed):
            return None
        late: Sequence[bool] = [False] * self.n_rows if is_late is None else is_late.tolist()
        flags = (
            ((LATE,) if was_late else ())
            + tuple(f"unseen:{name}" for name in dict.fromkeys((*names, *(("origin",) if is_guessed else ()))))
            for was_late, names, is_guessed in zip(late, unseen, guessed, strict=True)
        )
        return list(flags)


@lru_cache(maxsize=64)
def _ages_type(views: tuple[str, ...]) -> type[msgspec.Struct]:
    """Return a type with a field for each view: it is filled and encoded several times faster than a dict."""
    return msgspec.defstruct("Ages", [(view, float) for view in views], gc=False)
