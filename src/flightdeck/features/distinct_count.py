"""Exact numbers of different values in many ranges, vectorised.

An event is the first of its value in a range if the value's previous occurrence lies before the range. So a range
[b, e) holds as many different values as it holds events whose previous place is below b: a dominance count, answered
for all ranges at once by a wavelet matrix (Claude and Navarro 2012) over the previous places that is walked bit by bit.
"""

import numpy as np
import numpy.typing as npt

from flightdeck.features.entity_frame import Codes, changes, stable_order

Ints = npt.NDArray[np.int64]


def count_distinct(values: Ints, known: npt.NDArray[np.bool_], key: Codes, begin: Ints, end: Ints) -> Ints:
    """Return how many different values each range holds.

    Parameters
    ----------
    values
        Codes of the values, not negative where known, shape `(n_values,)`.
    known
        Where there is a value, shape `(n_values,)`.
    key
        Key of each value, not negative; no range spans two, shape `(n_values,)`.
    begin, end
        Ranges `begin <= place < end`, shape `(n_ranges,)`.

    Returns
    -------
    int64 array of shape `(n_ranges,)`

    Examples
    --------
    >>> some = np.array([7, 8, 7, 7])
    >>> count_distinct(some, some > 0, some * 0, np.array([0, 2, 1]), np.array([4, 4, 1])).tolist()
    [2, 1, 0]
    """
    places = np.flatnonzero(known)
    before = np.concatenate([[0], np.cumsum(known)])
    begin, end = before[begin], before[end]
    previous = _previous(values[places], key[places])
    return _count_below(previous, begin, end, bound=begin)


def _previous(values: Ints, key: Codes) -> Ints:
    """Return one more than the place of each value's previous occurrence with the same key, 0 where there is none."""
    by_value = stable_order(values, int(values.max(initial=0)) + 1)
    order = by_value[stable_order(key[by_value], int(key.max(initial=0)) + 1)]
    same = ~(changes(values[order]) | changes(key[order]))[1:]
    previous = np.zeros(len(values), dtype=np.int64)
    previous[order[1:][same]] = order[:-1][same] + 1
    return previous


def _count_below(numbers: Ints, begin: Ints, end: Ints, bound: Ints) -> Ints:
    """Return for each range how many numbers are at most its bound; numbers and bounds are below 2**62."""
    counted = np.zeros(len(begin), dtype=np.int64)
    low, high, limit = begin.copy(), np.maximum(begin, end), bound + 1
    for bit in reversed(range(int(max(numbers.max(initial=0), limit.max(initial=0))).bit_length())):
        is_one = (numbers >> bit & 1).astype(bool)
        n_zeros_before = np.concatenate([[0], np.cumsum(~is_one)])
        n_zeros = n_zeros_before[-1]
        goes_right = (limit >> bit & 1).astype(bool)
        zero_low, zero_high = n_zeros_before[low], n_zeros_before[high]
        counted += np.where(goes_right, zero_high - zero_low, 0)
        low = np.where(goes_right, n_zeros + low - zero_low, zero_low)
        high = np.where(goes_right, n_zeros + high - zero_high, zero_high)
        numbers = np.concatenate([numbers[~is_one], numbers[is_one]])
    return counted
