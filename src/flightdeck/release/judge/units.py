"""Which units have voted: eight bytes each, because a unit has one vote."""

import base64

import numpy as np
import numpy.typing as npt

from flightdeck.release.judge.evidence import Bools, Keys


class Units:
    """A set of unit keys that tells new ones.

    Parameters
    ----------
    encoded
        A former `encode`; empty at the start.

    Examples
    --------
    >>> units = Units()
    >>> units.first_of(np.array([7, 9, 7], dtype=np.uint64)).tolist()
    [True, True, False]
    >>> Units(units.encode()).first_of(np.array([9, 8], dtype=np.uint64)).tolist()
    [False, True]
    """

    def __init__(self, encoded: str = "") -> None:
        keys = np.frombuffer(base64.b64decode(encoded, validate=True), dtype="<u8")
        self._seen: set[int] = set(keys.tolist())

    def first_of(self, keys: Keys, where: Bools | None = None) -> Bools:
        """Return which of `keys` are the first of their unit ever, and keep them.

        Parameters
        ----------
        keys
            Keys in the order of time, shape `(n,)`.
        where
            Which of them count, shape `(n,)`; default: all.
        """
        rows: npt.NDArray[np.intp] = np.arange(len(keys)) if where is None else np.flatnonzero(where)
        found = np.zeros(len(keys), dtype=np.bool_)
        unique, places = np.unique(keys[rows], return_index=True)
        listed = unique.tolist()
        new = np.fromiter((key not in self._seen for key in listed), dtype=np.bool_, count=len(listed))
        found[rows[places[new]]] = True
        self._seen.update(listed)
        return found

    def encode(self) -> str:
        """Return the set as text."""
        keys = np.fromiter(self._seen, dtype="<u8", count=len(self._seen))
        return base64.b64encode(np.sort(keys).tobytes()).decode()
