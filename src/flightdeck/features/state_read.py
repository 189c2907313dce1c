"""Reading online states of several views at a time: the features of some rows as one matrix.

A few rows are read number by number (`state_read_few.py`), more of them with arrays: views of a kind together
(`state_read_together.py`), windowed views of any aggregates one by one (`state_read_windows.py`).
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import chain
from math import nan
from struct import Struct

import numpy as np
import numpy.typing as npt

from flightdeck.core.clock import SECOND_US
from flightdeck.features.state_layout import NEVER_US, layout_of
from flightdeck.features.state_read_few import append_features, plan_of
from flightdeck.features.state_read_together import Group, Latests, Member, OpenGauges, PlainWindows
from flightdeck.features.state_read_windows import Windows
from flightdeck.features.view import FeatureView, Windowed

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
States = Sequence[Sequence[bytes | None]]
Places = Sequence[Sequence[int]]
FEW_VALUES = 350  # numbers from which on arrays are faster (measured)


class StateReader:
    """Evaluates the states of a set of views; what that takes is worked out once.

    Parameters
    ----------
    views
        Declarations.

    Attributes
    ----------
    entities
        The different entities of the views; their keys are looked up once for all views that share them.
    entity_of
        For each view the place of its entity.
    columns
        Names of the features of all views, in order.
    """

    def __init__(self, views: Sequence[FeatureView]) -> None:
        self.entities = tuple(dict.fromkeys(view.entity for view in views))
        self.entity_of = tuple(self.entities.index(view.entity) for view in views)
        self.columns = tuple(column for view in views for column in view.columns)
        self._plans = [plan_of(view) for view in views]
        self._view_of_column = np.repeat(np.arange(len(views)), [len(view.columns) for view in views])
        self._groups = _groups(views)
        n_tracks = max((len(layout_of(view).tracks) for view in views), default=0)
        self._blank = np.array([NEVER_US, *[0] * n_tracks], dtype=np.int64).tobytes()
        self._rest = bytes(8 * max(map(len, (view.columns for view in views)), default=0))

    def read(self, states: States, places: Places, at_us: int | Ints, n_rows: int) -> tuple[Floats, Floats]:
        """Return the features of some rows.

        Parameters
        ----------
        states
            For each view the packed states of its keys, None where there is none.
        places
            For each of `entities` and each row, the place of the row's key; -1 where the key is not known.
        at_us
            UTC microseconds, of all rows or of each, shape `(n_rows,)`; the caller guarantees that no event newer than
            that is applied.
        n_rows
            How many rows.

        Returns
        -------
        values
            float64 of shape `(n_rows, n_columns)` in the order of `columns`; NaN in a row of unknown key.
        ages_s
            Seconds since the last event of each view's key, shape `(n_rows, n_views)`, NaN where there was none.
        """
        few = n_rows == 1 or n_rows * len(self.columns) < FEW_VALUES
        return (self.read_few if few else self.read_many)(states, places, at_us, n_rows)

    def read_few(self, states: States, places: Places, at_us: int | Ints, n_rows: int) -> tuple[Floats, Floats]:
        """Do what `read` does, number by number."""
        values: list[float] = []
        ages_s = []
        times_us = at_us.tolist() if isinstance(at_us, np.ndarray) else [int(at_us)] * n_rows
        for row, row_us in enumerate(times_us):
            for plan, found, entity in zip(self._plans, states, self.entity_of, strict=True):
                place = places[entity][row]
                if place >= 0:
                    ages_s.append(append_features(plan, found[place], row_us, values))
                else:
                    values += [nan] * len(plan.empty)
                    ages_s.append(nan)
        return _matrix(values, n_rows, len(self.columns)), _matrix(ages_s, n_rows, len(self._plans))

    def read_many(self, states: States, places: Places, at_us: int | Ints, n_rows: int) -> tuple[Floats, Floats]:
        """Do what `read` does, with arrays."""
        flat, starts, is_unknown = self._flat(states, places, n_rows)
        times_us = at_us if isinstance(at_us, np.ndarray) else np.array([at_us], dtype=np.int64)
        values = np.empty((len(self.columns), n_rows), dtype=np.float64)
        for group in self._groups:
            group.write(flat, starts, times_us, values)
        last_us = flat[starts]
        ages_s = (times_us - last_us) / SECOND_US
        ages_s[last_us == NEVER_US] = nan
        if is_unknown is not None:
            values[is_unknown[self._view_of_column]] = nan
        return values.T, ages_s.T

    def _flat(self, states: States, places: Places, n_rows: int) -> tuple[Ints, Ints, npt.NDArray[np.bool_] | None]:
        """Return all states as one array, where each view's and row's begins, and which are of unknown keys.

        A missing state is an empty one, so is that of an unknown key. Zeros follow the last one.
        """
        parts = [state or self._blank for state in chain.from_iterable(states)]
        parts += self._blank, self._rest
        sizes = np.fromiter(map(len, parts), dtype=np.int64, count=len(parts)) >> 3
        begins = sizes.cumsum() - sizes
        by_entity = np.fromiter(chain.from_iterable(places), dtype=np.int64, count=len(places) * n_rows)
        place = by_entity.reshape(len(places), n_rows)[list(self.entity_of)]
        n_keys = np.fromiter(map(len, states), dtype=np.int64, count=len(states))
        number = place + (n_keys.cumsum() - n_keys)[:, None]
        is_unknown = place < 0
        has_unknown = bool(is_unknown.any())
        if has_unknown:
            number[is_unknown] = len(parts) - 2
        return np.frombuffer(b"".join(parts), dtype=np.int64), begins[number], is_unknown if has_unknown else None


def _matrix(values: Sequence[float], n_rows: int, n_columns: int) -> Floats:
    """Return numbers as an array of rows; NumPy would look at each one twice to find out what it is."""
    matrix = np.empty((n_rows, n_columns), dtype=np.float64)
    _packer(len(values))(matrix, 0, *values)
    return matrix


@lru_cache(maxsize=FEW_VALUES)
def _packer(n: int) -> Callable[..., None]:
    """Return what writes `n` numbers into memory."""
    return Struct(f"{n}d").pack_into


def _groups(views: Sequence[FeatureView]) -> list[Group]:
    """Return who writes which columns: the views of a kind together, other windowed views each for itself."""
    members: dict[str, list[Member]] = {"plain": [], "latest": [], "open": []}
    groups: list[Group] = []
    first = 0
    for place, view in enumerate(views):
        kind = plan_of(view).kind
        if kind in members:
            members[kind].append((place, first, view))
        elif isinstance(view.compute, Windowed):
            groups.append(Windows(place, first, view, view.compute))
        first += len(view.columns)
    together = (("plain", PlainWindows), ("latest", Latests), ("open", OpenGauges))
    return groups + [make(members[kind]) for kind, make in together if members[kind]]
