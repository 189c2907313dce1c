"""The online engine's reading side: the features of a request from one consistent moment of the store."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import chain, compress

import msgspec
import numpy as np
import numpy.typing as npt

from flightdeck.core.clock import SECOND_US
from flightdeck.core.errors import ContractViolation, StoreUnavailable
from flightdeck.features.state_layout import KEY_SEPARATOR, entity_keys
from flightdeck.features.state_read import Places, StateReader
from flightdeck.features.stores import FeatureStore, Mark, StoreRead
from flightdeck.features.view import FeatureView

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Entities = Mapping[str, Sequence[str] | npt.NDArray[np.object_]]
Keys = tuple[list[str], list[int]]


class OnlineFeatures(msgspec.Struct, frozen=True, dict=True):
    """Features of `n_rows` items, at one time or each at its own.

    Parameters
    ----------
    values
        Features, float64 of shape `(n_rows, n_columns)`.
    ages
        Seconds since the last event of each view's key, shape `(n_rows, n_views)`, NaN where none was seen.
    names
        The features' names, in the order of the columns of `values`.
    views
        The views' names, in the order of the columns of `ages`.
    watermark_us
        The store reflects every event known until then, and none after but for what the offset says is ahead.
    described_us
        Time that the features describe, of all rows or of each, shape `(n_rows,)`: the asked time, or the watermark if
        that is later (state never reads back).
    offset
        The part of the log that the store reflects: `stream@version`, or ids of a Redis stream; and which partitions of
        a store were ahead of the watermark (`reflected.py`).
    """

    values: Floats
    ages: Floats
    names: tuple[str, ...]
    views: tuple[str, ...]
    watermark_us: int
    described_us: int | Ints
    offset: str = ""

    @cached_property
    def columns(self) -> dict[str, Floats]:
        """The features by name, shape `(n_rows,)` each."""
        return dict(zip(self.names, self.values.T, strict=True))

    @cached_property
    def ages_s(self) -> dict[str, Floats]:
        """The ages by name of the view, shape `(n_rows,)` each."""
        return dict(zip(self.views, self.ages.T, strict=True))

    @property
    def at_us(self) -> int:
        """Time that the features describe; of several the latest."""
        described_us = self.described_us
        return (
            int(described_us.max(initial=self.watermark_us)) if isinstance(described_us, np.ndarray) else described_us
        )

    @property
    def rows_us(self) -> Ints:
        """Time that the features of each row describe, shape `(n_rows,)`."""
        described_us = self.described_us
        return described_us if isinstance(described_us, np.ndarray) else np.full(len(self.values), described_us)

    @property
    def staleness_s(self) -> float:
        """Seconds between the time that is described and the watermark: what the store may not have heard yet."""
        return (self.at_us - self.watermark_us) / SECOND_US


class OnlineReader:
    """Reads a set of views; what does not depend on the request is worked out once, so keep it.

    Parameters
    ----------
    store
        Store opened for reading.
    views
        Declarations to read.
    """

    def __init__(self, store: FeatureStore, views: Sequence[FeatureView]) -> None:
        self._store = store
        self._states = StateReader(views)
        self._views = list(zip(views, self._states.entity_of, strict=True))
        self._names = tuple(view.name for view in views)

    def read(self, columns: Entities, at_us: int | Ints) -> OnlineFeatures:
        """Return the features of a batch of items, from one moment of the store.

        Parameters
        ----------
        columns
            Entity columns of strings, shape `(n_rows,)`; empty means unknown.
        at_us
            Asked time, UTC microseconds: of all rows, or of each, shape `(n_rows,)`. A row with a time of its own is
            answered as if it were read alone.

        Raises
        ------
        StoreUnavailable
            If the store cannot be read, was never fed for one of the views, or was fed further for one than another.
        ContractViolation
            If an entity's text holds a lone surrogate, or a window holds too many values to be added up exactly.
        ValueError
            If there are not as many times as rows.
        """
        n_rows = len(next(iter(columns.values())))
        if isinstance(at_us, np.ndarray) and at_us.shape != (n_rows,):
            raise ValueError(f"reading features: times of shape {at_us.shape} for {n_rows} rows; give one each, or one")
        asked = [
            _key(entity, columns) if n_rows == 1 else _keys(entity, columns, n_rows) for entity in self._states.entities
        ]
        try:
            found = self._store.read([(view, asked[entity][0]) for view, entity in self._views])
        except UnicodeEncodeError as error:
            raise ContractViolation(
                f"reading the online store: the entity {error.object!r} holds a lone surrogate, which is no character",
                next_step="decode the request's text as UTF-8",
            ) from error
        mark = self._common_mark(found)
        places = [places for _, places in asked]
        described_us = self._reached(at_us, mark, found, places)
        values, ages = self._states.read(found.states, places, described_us, n_rows)
        names = self._states.columns, self._names
        return OnlineFeatures(values, ages, *names, mark.watermark_us, described_us, mark.offset)

    def _reached(self, at_us: int | Ints, mark: Mark, found: StoreRead, places: Places) -> int | Ints:
        """Return the asked time, or what the keys of the question reflect already if that is later."""
        if not isinstance(at_us, np.ndarray):
            at_us = max(at_us, mark.watermark_us)
            return max([at_us, *chain.from_iterable(found.watermarks_us)]) if found.watermarks_us else at_us
        at_us = np.maximum(at_us, mark.watermark_us)
        for (_, entity), reached_us in zip(self._views, found.watermarks_us or (), strict=False):
            at_us = np.maximum(at_us, np.array([*reached_us, mark.watermark_us])[places[entity]])  # -1: unknown
        return at_us

    def _common_mark(self, found: StoreRead) -> Mark:
        """Return the mark of all views: an answer describes one moment of the stream.

        Where partitions of a store reflect different moments it is the lowest, which all of them have reached.
        """
        marks = found.marks
        if marks.count(marks[0]) == len(marks):
            return marks[0]
        behind = min(range(len(marks)), key=lambda place: marks[place].watermark_us)
        if found.watermarks_us is None and any(mark.watermark_us != marks[behind].watermark_us for mark in marks):
            raise StoreUnavailable(
                f"reading the online store: feature view {self._names[behind]} is behind the others",
                next_step="feed all views together, or bring them level: kedro features apply",
            )
        return marks[behind]


def _key(entity: Sequence[str], columns: Entities) -> Keys:
    """Do what `_keys` does for one row."""
    if len(entity) == 1:
        part = columns[entity[0]][0]
        return ([part], [0]) if part else ([], [-1])
    row = [columns[name][0] for name in entity]
    if not all(row):
        return [], [-1]
    key = KEY_SEPARATOR.join(row)
    is_plain = not row or key.count(KEY_SEPARATOR) == len(row) - 1
    return [key] if is_plain else entity_keys([[part] for part in row]), [0]


def _keys(entity: Sequence[str], columns: Entities, n_rows: int) -> Keys:
    """Return the different keys of an entity and each row's place among them, -1 where a part is unknown."""
    parts = [columns[name] for name in entity]
    if not parts:
        return [""], [0] * n_rows
    rows: list[str | None]
    if all(map(all, parts)):
        rows = [*entity_keys(parts)]
    else:
        is_known = list(map(all, zip(*parts, strict=True)))
        known = iter(entity_keys([list(compress(part, is_known)) for part in parts]))
        rows = [next(known) if is_there else None for is_there in is_known]
    keys = [key for key in dict.fromkeys(rows) if key is not None]
    number: dict[str | None, int] = {None: -1, **dict(zip(keys, range(len(keys)), strict=True))}
    return keys, list(map(number.__getitem__, rows))
