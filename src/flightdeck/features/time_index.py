"""How many ordered times lie up to a bound, by buckets of time: most bounds need no search."""

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


class TimeIndex:
    """Ordered times in buckets of equal length, about two buckets a time.

    Parameters
    ----------
    times_us
        Times in order, UTC microseconds, shape `(n_times,)`.

    Notes
    -----
    O(n_times) to make. A bound costs O(1) if its bucket holds no later time, which is the rule where times and bounds
    are whole minutes and buckets are shorter; else, and so wherever times are very uneven, a binary search.

    Examples
    --------
    >>> TimeIndex(np.array([10, 10, 30])).count_until(np.array([9, 10, 29, 31])).tolist()
    [0, 2, 2, 3]
    """

    def __init__(self, times_us: Ints) -> None:
        self._times_us = times_us
        if not len(times_us):
            return
        self._first_us, self._last_us = int(times_us[0]), int(times_us[-1])
        self._shift = ((self._last_us - self._first_us) // (2 * len(times_us))).bit_length()
        counts = np.bincount((times_us - self._first_us) >> self._shift)
        self._until = np.concatenate([[0], np.cumsum(counts)])  # before the first bucket, and with each

    def count_until(self, bounds_us: Ints) -> Ints:
        """Return how many times are at most each bound, int64 of shape `(n_bounds,)`; bounds in order are fastest."""
        if not len(self._times_us):
            return np.zeros(len(bounds_us), dtype=np.int64)
        bounds_us = np.clip(bounds_us, self._first_us - 1, self._last_us)
        found = self._until.take(((bounds_us - self._first_us) >> self._shift) + 1)
        searched = np.flatnonzero(self._times_us.take(np.maximum(found - 1, 0)) > bounds_us)
        found[searched] = np.searchsorted(self._times_us, bounds_us[searched], side="right")
        return found
