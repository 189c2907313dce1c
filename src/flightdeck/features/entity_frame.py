"""The rows that a join answers: encoded once for all views, and ordered by key and time once for each entity."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from flightdeck.features.key_ranks import KeyRanks

if TYPE_CHECKING:
    from flightdeck.features.event_index import OrderedStream

Ints = npt.NDArray[np.int64]
Codes: TypeAlias = npt.NDArray[np.signedinteger]  # of any width
RADIX_KEYS = 2**16  # NumPy sorts 16-bit numbers by radix
MOSTLY = 0.9  # above this share of different questions, telling them apart saves nothing
MAX_BIT_LENGTH = 63  # of a number that is not negative
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

    def __len__(self) -> int:
        return len(self.at_us)

    @cached_property
    def is_by_time(self) -> bool:
        """Tell whether the rows are in the order of the time seen."""
        return bool((self.seen_us[1:] >= self.seen_us[:-1]).all())

    @cached_property
    def by_time(self) -> Ints:
        """Return the rows in the order of the time seen."""
        return np.arange(len(self)) if self.is_by_time else np.argsort(self.seen_us, kind="stable")

    @cached_property
    def moments(self) -> tuple[Ints, Ints]:
        """Return a row of each moment, in order of the time seen, and the moment of each row of `by_time`.

        Rows of one moment have the same times.
        """
        is_new = changes(self.seen_us[self.by_time])
        if self.seen_us is not self.at_us:
            is_new |= changes(self.at_us[self.by_time])
        return self.by_time[is_new], np.cumsum(is_new) - 1

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
    """What a frame asks of an entity: rows whose key is known, in an order that is fast to answer.

    Where keys are few (`KeyRanks`), questions are all these rows in order of time. Else they are ordered by (key, time
    seen), each once, so that binary searches and look-ups walk forward through memory.

    Parameters
    ----------
    n
        Number of keys; they are 0 to n - 1.
    are_few
        Whether keys are few.
    rows
        Questions as places in the frame.
    moment
        Questions as places in the moments of the frame.
    key
        Key of each question.
    answers
        Question of each row of the frame, -1 where its entity is unknown; `None` if questions are the rows themselves.
    """

    entity: tuple[str, ...]
    frame: EntityFrame
    n: int
    are_few: bool
    rows: Ints
    moment: Ints
    key: Ints
    answers: Ints | None
    _numbered: list[Ints | None]

    @classmethod
    def of(cls, entity: tuple[str, ...], frame: EntityFrame, n_events: int) -> "Keys":
        """Return the rows of a frame by the key that some columns make, to ask streams of at most `n_events`."""
        key, n, numbered = _keys_of_rows(entity, frame)
        rows, moment = frame.by_time, frame.moments[1]
        key = key if frame.is_by_time else key.take(rows)
        are_few = KeyRanks.fits(n, n_events)
        known = np.flatnonzero(key >= 0)
        if are_few and frame.is_by_time and len(known) == len(frame):
            return cls(entity, frame, n, are_few, rows, moment, key, None, numbered)
        order = known if are_few else known[stable_order(key[known], n)]
        rows, moment, key = rows.take(order), moment.take(order), key.take(order)
        answers = np.full(len(frame), -1, dtype=np.int64)
        is_new = changes(key) | changes(moment)
        if are_few or np.count_nonzero(is_new) > MOSTLY * len(rows):
            answers[rows] = np.arange(len(rows))
            return cls(entity, frame, n, are_few, rows, moment, key, answers, numbered)
        answers[rows] = np.cumsum(is_new) - 1
        return cls(entity, frame, n, are_few, rows[is_new], moment[is_new], key[is_new], answers, numbered)

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def at_us(self) -> Ints:
        """Return the time of each question, UTC microseconds."""
        return self.frame.at_us if self.answers is None else self.frame.at_us.take(self.rows)

    def of_events(self, stream: "OrderedStream") -> Codes:
        """Return each event's key, -1 where no row asks for it."""
        key: Codes | None = None
        for column, present in zip(self.entity, self._numbered, strict=True):
            key = _combined(key, stream.codes(column), len(self.frame.encoded(column)[1]))
            key = key if present is None else _number(key, present)
        return np.zeros(len(stream), dtype=np.int64) if key is None else key


def _keys_of_rows(entity: tuple[str, ...], frame: EntityFrame) -> tuple[Ints, int, list[Ints | None]]:
    """Return the key of each row (-1 where unknown), the number of keys, and what was numbered after each column."""
    key: Ints | None = None
    n, numbered = 1, list[Ints | None]()
    for column in entity:
        codes, values = frame.encoded(column)
        key, n = _combined(key, codes, len(values)), n * max(1, len(values))
        present = None
        if n > max(RADIX_KEYS, 2 * len(frame)):  # far more combinations than rows: number those that occur
            present = np.unique(key[key >= 0])
            key, n = _number(key, present), max(1, len(present))
        numbered.append(present)
    return np.zeros(len(frame), dtype=np.int64) if key is None else key, n, numbered


def changes(values: Codes) -> npt.NDArray[np.bool_]:
    """Return where a value differs from the one before; the first does."""
    is_new = np.ones(len(values), dtype=np.bool_)
    np.not_equal(values[1:], values[:-1], out=is_new[1:])
    return is_new


def stable_order(key: Codes, n: int) -> Ints:
    """Return the stable order of keys from 0 to n - 1.

    Examples
    --------
    >>> stable_order(np.array([100_000, 0, 100_000]), 100_001).tolist()
    [1, 0, 2]
    """
    if n == 1:
        return np.arange(len(key))
    if n <= RADIX_KEYS:
        return np.argsort(key.astype(np.uint16), kind="stable")
    shift = len(key).bit_length()
    if n.bit_length() + shift > MAX_BIT_LENGTH:
        return np.argsort(key, kind="stable")
    ordered = key.astype(np.int64) << shift  # numbers are sorted many times faster than places by number
    ordered |= np.arange(len(key))
    ordered.sort()
    return ordered & ((1 << shift) - 1)


def _combined(key: Codes | None, codes: Codes, n_values: int) -> Codes:
    """Return the key that a further column makes of a key, -1 where either is unknown."""
    if key is None:
        return codes
    combined = key * np.int64(max(1, n_values)) + codes
    unknown = (key < 0) | (codes < 0)
    return np.where(unknown, -1, combined) if unknown.any() else combined


def _number(key: Codes, present: Ints) -> Ints:
    """Return the place of each key in `present`, -1 where it is not there."""
    return np.asarray(pd.Index(present).get_indexer(pd.Index(key)), dtype=np.int64)


def encode(texts: pa.Array | pa.ChunkedArray) -> tuple[Ints, list[str]]:
    """Return a code of each text, -1 where it is missing, and the texts."""
    whole = texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts
    encoded = whole if pa.types.is_dictionary(whole.type) else whole.dictionary_encode()
    codes = encoded.indices.fill_null(-1) if encoded.indices.null_count else encoded.indices
    return codes.to_numpy(zero_copy_only=False), encoded.dictionary.to_pylist()


def codes_among(values: list[str], texts: pa.ChunkedArray) -> Codes:
    """Return the place of each text in `values`, -1 where it is not there, missing or empty."""
    known = pa.array([value if value != "" else None for value in values], pa.string())
    codes = pc.index_in(texts.cast(pa.string()), value_set=known, skip_nulls=True)
    whole = codes.combine_chunks().fill_null(-1) if codes.null_count else codes.combine_chunks()
    return np.asarray(whole.to_numpy(zero_copy_only=False))
