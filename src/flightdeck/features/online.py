"""The online engine's reading side: the features of a request from one consistent moment of the store."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flightdeck.core.errors import StoreUnavailable
from flightdeck.features.state import KEY_SEPARATOR, NAN, evaluate
from flightdeck.features.store import Moment, OnlineStore
from flightdeck.features.view import FeatureView

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class OnlineFeatures:
    """Features of `n_rows` items at one time.

    Parameters
    ----------
    columns
        float64 arrays of shape `(n_rows,)` by feature name.
    ages_s
        Seconds since the last event of each view's key, shape `(n_rows,)`, NaN where none was seen.
    watermark_us
        The store reflects every event known until then, and none after.
    at_us
        Time that the features describe: the asked time, or the watermark if that is later (state never reads back).
    """

    columns: dict[str, Floats]
    ages_s: dict[str, Floats]
    watermark_us: int
    at_us: int

    @property
    def staleness_s(self) -> float:
        """Seconds between the time that is described and the watermark: what the store may not have heard yet."""
        return (self.at_us - self.watermark_us) / 1e6


class OnlineReader:
    """Reads a set of views.

    Parameters
    ----------
    store
        Store opened for reading.
    views
        Declarations to read.
    """

    def __init__(self, store: OnlineStore, views: Sequence[FeatureView]) -> None:
        self._store = store
        self._views = views

    def read(self, columns: Mapping[str, Sequence[str] | npt.NDArray[np.object_]], at_us: int) -> OnlineFeatures:
        """Return the features of a batch of items at one time.

        Parameters
        ----------
        columns
            Entity columns of strings, shape `(n_rows,)`; empty means unknown.
        at_us
            Asked time, UTC microseconds.

        Raises
        ------
        StoreUnavailable
            If the store cannot be read, was never fed for one of the views, or was fed further for one than another.
        """
        with self._store.reading() as moment:
            watermark_us = self._common_watermark_us(moment)
            at_us = max(at_us, watermark_us)
            features: dict[str, Floats] = {}
            ages_s: dict[str, Floats] = {}
            n_rows = len(next(iter(columns.values())))
            for view in self._views:
                keys = _keys(view, columns, n_rows)
                states = moment.states(view, {key for key in keys if key is not None})
                unknown = [NAN] * len(view.columns), NAN
                values = {key: evaluate(view, state, at_us) for key, state in states.items()}
                rows = [unknown if key is None else values[key] for key in keys]
                table = np.array([row for row, _ in rows], dtype=np.float64).reshape(n_rows, -1)
                features.update({name: table[:, place] for place, name in enumerate(view.columns)})
                ages_s[view.name] = np.array([age_s for _, age_s in rows], dtype=np.float64)
        return OnlineFeatures(features, ages_s, watermark_us, at_us)

    def _common_watermark_us(self, moment: Moment) -> int:
        """Return the one watermark of all views: an answer describes one moment of the stream."""
        watermarks_us = {view.name: moment.watermark_us(view) for view in self._views}
        if len(set(watermarks_us.values())) > 1:
            behind = min(watermarks_us, key=lambda name: watermarks_us[name])
            raise StoreUnavailable(
                f"reading the online store: feature view {behind} is behind the others",
                next_step="feed all views together, or fill the store again: kedro replay --day <YYYY-MM-DD>",
            )
        return next(iter(watermarks_us.values()))


def _keys(
    view: FeatureView, columns: Mapping[str, Sequence[str] | npt.NDArray[np.object_]], n_rows: int
) -> list[str | None]:
    """Return the entity key of each row, None where a part of it is unknown."""
    if not view.entity:
        return [""] * n_rows
    parts = zip(*(columns[name] for name in view.entity), strict=True)
    return [KEY_SEPARATOR.join(part) if all(part) else None for part in parts]
