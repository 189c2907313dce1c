"""The least value of many ranges, by a sparse table (Bender and Farach-Colton 2000) of which one level is kept."""

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def range_minimum(values: Floats, begin: Ints, end: Ints) -> Floats:
    """Return the least value of each range, NaN where a range holds none.

    Parameters
    ----------
    values
        float64 of shape `(n_values,)`; NaN is no value.
    begin, end
        Ranges `begin <= place < end`, shape `(n_ranges,)`.

    Notes
    -----
    A range of length n is covered by two overlapping blocks of the greatest power of two up to n. Ranges are answered
    level by level, so that one level is in memory at a time: O(n log longest + ranges) time, O(n) memory.

    Examples
    --------
    >>> range_minimum(np.array([3.0, np.nan, 2.0]), np.array([0, 1, 1]), np.array([1, 2, 3])).tolist()
    [3.0, nan, 2.0]
    """
    length = end - begin
    result = np.full(len(begin), np.inf)
    level_of = np.where(length > 0, np.frexp(np.maximum(length, 1).astype(np.float64))[1] - 1, -1)
    level = np.where(np.isnan(values), np.inf, values)
    for number in range(int(level_of.max(initial=-1)) + 1):
        here = np.flatnonzero(level_of == number)
        width = 1 << number
        result[here] = np.minimum(level[begin[here]], level[end[here] - width])
        if len(level) > width:
            level = np.minimum(level[:-width], level[width:])
    return np.where(np.isinf(result), np.nan, result)
