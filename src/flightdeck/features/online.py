"""The online engine's reading side: the features of a request from one consistent moment of the store."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan

import numpy as np
import numpy.typing as npt

from flightdeck.core.errors import StoreUnavailable
from flightdeck.features.state_layout import KEY_SEPARATOR
from flightdeck.features.state_read import evaluate
from flightdeck.features.state_read_few import append_features, plan_of
from flightdeck.features.stores import FeatureStore, Mark, StoreRead
from flightdeck.features.view import FeatureView

Floats = npt.NDArray[np.float64]
Columns = dict[str, Floats]
Wanted = tuple[FeatureView, list[str], npt.NDArray[np.int64] | None]


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
        The store reflects every event known until then, and none after but for what the offset says is ahead.
    at_us
        Time that the features describe: the asked time, or the watermark if that is later (state never reads back).
    offset
        The part of the log that the store reflects: `stream@version`, or ids of a Redis stream; and which partitions of
        a store were ahead of the watermark (`reflected.py`).
    """

    columns: dict[str, Floats]
    ages_s: dict[str, Floats]
    watermark_us: int
    at_us: int
    offset: str = ""

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

    def __init__(self, store: FeatureStore, views: Sequence[FeatureView]) -> None:
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
        n_rows = len(next(iter(columns.values())))
        wanted = [(view, *_keys(view, columns, n_rows)) for view in self._views]
        found = self._store.read([(view, keys) for view, keys, _ in wanted])
        mark = self._common_mark(found)
        at_us = max(at_us, mark.watermark_us, *(max(part, default=0) for part in found.watermarks_us or ()))
        read = _one_row if n_rows == 1 else _rows
        features, ages_s = read(wanted, found.states, at_us)
        return OnlineFeatures(features, ages_s, mark.watermark_us, at_us, mark.offset)

    def _common_mark(self, found: StoreRead) -> Mark:
        """Return the mark of all views: an answer describes one moment of the stream.

        Where partitions of a store reflect different moments it is the lowest, which all of them have reached.
        """
        marks = found.marks
        behind = min(range(len(marks)), key=lambda place: marks[place].watermark_us)
        if found.watermarks_us is None and any(mark.watermark_us != marks[behind].watermark_us for mark in marks):
            raise StoreUnavailable(
                f"reading the online store: feature view {self._views[behind].name} is behind the others",
                next_step="feed all views together, or bring them level: kedro features apply",
            )
        return marks[behind]


def _one_row(wanted: Sequence[Wanted], states: Sequence[Sequence[bytes | None]], at_us: int) -> tuple[Columns, Columns]:
    """Return features and ages of one item: all numbers in one list, one array."""
    values: list[float] = []
    names: list[str] = []
    ages_s = []
    for (view, keys, _), found in zip(wanted, states, strict=True):
        names += view.columns
        if keys:
            ages_s.append(append_features(plan_of(view), found[0], at_us, values))
        else:
            values += [nan] * len(view.columns)
            ages_s.append(nan)
    features = dict(zip(names, np.array(values, dtype=np.float64).reshape(-1, 1), strict=True))
    ages = np.array(ages_s, dtype=np.float64).reshape(-1, 1)
    return features, dict(zip([view.name for view, _, _ in wanted], ages, strict=True))


def _rows(wanted: Sequence[Wanted], states: Sequence[Sequence[bytes | None]], at_us: int) -> tuple[Columns, Columns]:
    """Return features and ages of several items; each different key is worked out once."""
    features: Columns = {}
    ages_s: Columns = {}
    for (view, _, place), found in zip(wanted, states, strict=True):
        values, ages = evaluate(view, [*found, None], at_us)
        if place is None:
            values, ages = values[:-1], ages[:-1]
        else:
            values[-1], ages[-1] = np.nan, np.nan  # place -1: an unknown key
            values, ages = values[place], ages[place]
        features.update(zip(view.columns, values.T, strict=True))
        ages_s[view.name] = ages
    return features, ages_s


def _keys(
    view: FeatureView, columns: Mapping[str, Sequence[str] | npt.NDArray[np.object_]], n_rows: int
) -> tuple[list[str], npt.NDArray[np.int64] | None]:
    """Return the different keys of a request and each row's place among them, -1 where a part is unknown.

    The place is None where every row has the key of its own place.
    """
    if not view.entity:
        return [""], None if n_rows == 1 else np.zeros(n_rows, dtype=np.int64)
    parts = [columns[name] for name in view.entity]
    rows: Sequence[str | None]
    if all(map(all, parts)):
        rows = list(map(KEY_SEPARATOR.join, zip(*parts, strict=True))) if len(parts) > 1 else list(parts[0])
    else:
        rows = [KEY_SEPARATOR.join(row) if all(row) else None for row in zip(*parts, strict=True)]
    number = {key: place for place, key in enumerate(key for key in dict.fromkeys(rows) if key is not None)}
    if len(number) == n_rows:
        return list(number), None
    return list(number), np.array([-1 if row is None else number[row] for row in rows], dtype=np.int64)
