"""The rows that a join answers: encoded once for all views, and ordered by key and time once for each entity."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

if TYPE_CHECKING:
    from flightdeck.features.event_index import OrderedStream

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
RADIX_KEYS = 2**16  # NumPy sorts 16-bit numbers by radix
Texts: TypeAlias = npt.NDArray[np.object_] | pa.Array | pa.ChunkedArray


class EntityFrame:
    """The rows to join features to: entity columns and times, encoded once for all views.

    Parameters
    ----------
    columns
        Entity columns of strings, NumPy or Arrow, shape `(n_rows,)`; an empty or missing value means unknown.
    at_us
        Time of each row, UTC microseconds, shape `(n_rows,)`.
    known_until_us
        Only events known until then are seen (default: `at_us`), shape `(n_rows,)`.
    """

    def __init__(self, columns: Mapping[str, Texts], at_us: Ints, known_until_us: Ints | None = None):
        self.at_us = np.asarray(at_us, dtype=np.int64)
        self.seen_us = self.at_us if known_until_us is None else np.minimum(self.at_us, known_until_us)
        self._columns = columns
        self._encoded: dict[str, tuple[Ints, list[str]]] = {}
        self._by_time: Ints | None = None

    def __len__(self) -> int:
        return len(self.at_us)

    @property
    def by_time(self) -> Ints:
        """Return the rows in the order of the time seen."""
        if self._by_time is None:
            is_ordered = bool((self.seen_us[1:] >= self.seen_us[:-1]).all())
            self._by_time = np.arange(len(self)) if is_ordered else np.argsort(self.seen_us, kind="stable")
        return self._by_time

    def encoded(self, column: str) -> tuple[Ints, list[str]]:
        """Return codes (-1 where unknown) and the values that they stand for."""
        if column not in self._encoded:
            given = self._columns[column]
            if isinstance(given, pa.Array | pa.ChunkedArray):
                codes, values = encode(given)
            else:
                codes, uniques = pd.factorize(np.asarray(given, dtype=object), use_na_sentinel=True)
                values = list(uniques)
            if "" in values:
                codes = np.where(codes == values.index(""), -1, codes)
            self._encoded[column] = codes.astype(np.int64), values
        return self._encoded[column]


@dataclass
class Keys:
    """What a frame asks of an entity: each known key at each moment, once, ordered by (key, time seen).

    Parameters
    ----------
    n
        Number of keys; they are 0 to n - 1.
    in_time
        Questions as places in `EntityFrame.by_time`.
    rows
        Questions as places in the frame.
    key
        Key of each question.
    answers
        Question of each row of the frame, -1 where its entity is unknown.
    """

    entity: tuple[str, ...]
    frame: EntityFrame
    n: int
    in_time: Ints
    rows: Ints
    key: Ints
    answers: Ints
    _numbered: list[Ints | None]

    @classmethod
    def of(cls, entity: tuple[str, ...], frame: EntityFrame) -> "Keys":
        """Return the rows of a frame by the key that some columns make."""
        key, n, numbered = np.zeros(len(frame), dtype=np.int64), 1, []
        for column in entity:
            codes, values = frame.encoded(column)
            key, n = _combined(key, codes, len(values)), n * max(1, len(values))
            present = None
            if n > max(RADIX_KEYS, 2 * len(frame)):  # far more combinations than rows: number those that occur
                present = np.unique(key[key >= 0])
                key, n = _number(key, present), max(1, len(present))
            numbered.append(present)
        by_time = frame.by_time
        key = key[by_time]
        known = None if n == 1 and not (key < 0).any() else np.flatnonzero(key >= 0)
        in_time = np.arange(len(key)) if known is None else known[stable_order(key[known], n)]
        rows, key = by_time[in_time], key[in_time]
        is_new = changes(key) | changes(frame.seen_us[rows])
        if frame.seen_us is not frame.at_us:
            is_new |= changes(frame.at_us[rows])
        answers = np.full(len(frame), -1, dtype=np.int64)
        answers[rows] = np.cumsum(is_new) - 1
        kept = np.flatnonzero(is_new)
        return cls(entity, frame, n, in_time[kept], rows[kept], key[kept], answers, numbered)

    @cached_property
    def bounds(self) -> Ints:
        """Return where the questions of each key begin, and the end."""
        return np.concatenate([[0], np.cumsum(np.bincount(self.key, minlength=self.n))])

    @cached_property
    def is_complete(self) -> bool:
        """Tell whether the entity of every row is known."""
        return not (self.answers < 0).any()

    def of_events(self, stream: "OrderedStream") -> Ints:
        """Return each event's key, -1 where no row asks for it."""
        key = np.zeros(len(stream), dtype=np.int64)
        for column, present in zip(self.entity, self._numbered, strict=True):
            key = _combined(key, stream.codes(column), len(self.frame.encoded(column)[1]))
            key = key if present is None else _number(key, present)
        return key

    def back(self, values: Floats) -> Floats:
        """Return values in the order of the frame, NaN for unknown entities."""
        return values.take(self.answers) if self.is_complete else np.append(values, np.nan).take(self.answers)


def changes(values: Ints) -> npt.NDArray[np.bool_]:
    """Return where a value differs from the one before; the first does."""
    is_new = np.ones(len(values), dtype=np.bool_)
    np.not_equal(values[1:], values[:-1], out=is_new[1:])
    return is_new


def stable_order(key: Ints, n: int) -> Ints:
    """Return the stable order of keys from 0 to n - 1."""
    if n == 1:
        return np.arange(len(key))
    return np.argsort(key.astype(np.uint16) if n <= RADIX_KEYS else key, kind="stable")


def _combined(key: Ints, codes: Ints, n_values: int) -> Ints:
    combined = key * max(1, n_values) + codes
    unknown = (key < 0) | (codes < 0)
    return np.where(unknown, -1, combined) if unknown.any() else combined


def _number(key: Ints, present: Ints) -> Ints:
    """Return the place of each key in `present`, -1 where it is not there."""
    place = np.minimum(np.searchsorted(present, key), max(0, len(present) - 1))
    return np.where(present[place] == key, place, -1) if len(present) else np.full(len(key), -1, dtype=np.int64)


def encode(texts: pa.Array | pa.ChunkedArray) -> tuple[Ints, list[str]]:
    """Return a code of each text, -1 where it is missing, and the texts."""
    whole = texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts
    encoded = whole if pa.types.is_dictionary(whole.type) else whole.dictionary_encode()
    codes = encoded.indices.fill_null(-1) if encoded.indices.null_count else encoded.indices
    return codes.to_numpy(zero_copy_only=False), encoded.dictionary.to_pylist()
