"""The degradation ladder: the best rung that gives a usable probability answers, item by item.

A rung that raises, takes too long (`TimeoutError`), gives the wrong shape, or a value that is not finite or not in
[0, 1] costs its items nothing but a step down; each item is stamped with the rung that answered and with why the rungs
above did not. An item that no rung can answer is refused explicitly: it has no probability, never a made-up one.
"""

import logging
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.intp]
Floats = npt.NDArray[np.float64]
REFUSED = -1
RAISED, TOO_SLOW, WRONG_SHAPE = "raised", "too_slow", "wrong_shape"
NOT_FINITE, OUT_OF_RANGE = "not_finite", "out_of_range"

LOG_EVERY_S = 10.0

_log = logging.getLogger(__name__)
_logged_s: dict[tuple[str, str], float] = {}


class Rung(NamedTuple):
    """One way to answer.

    Parameters
    ----------
    name
        What reasons call it: canary, champion, fallback, rules.
    score
        Takes row numbers of shape `(n,)`, returns probabilities of shape `(n,)`.
    unavailable
        Why it must not even be tried, for all items or for each, shape `(n_rows,)`; empty where it may.
    """

    name: str
    score: Callable[[Rows], Floats]
    unavailable: str | npt.NDArray[np.object_] = ""


class Descent(NamedTuple):
    """What the ladder found for `n_rows` items.

    Parameters
    ----------
    probability
        float64 of shape `(n_rows,)`, in [0, 1]; NaN where every rung failed.
    rung
        Place of the rung that answered each item, `REFUSED` where none did.
    failures
        For each item the rungs that failed it, as `name:why`, from the top.
    """

    probability: Floats
    rung: npt.NDArray[np.intp]
    failures: list[tuple[str, ...]]


def descend(rungs: Iterable[Rung], n_rows: int) -> Descent:
    """Answer `n_rows` items, each by the first of `rungs` that can.

    Cost: one call of the first rung on a healthy day; a lower rung sees only the items that are left.

    Examples
    --------
    >>> broken = Rung("champion", lambda rows: np.full(len(rows), np.nan))
    >>> rules = Rung("rules", lambda rows: np.full(len(rows), 0.25))
    >>> found = descend([broken, rules], 1)
    >>> float(found.probability[0]), int(found.rung[0]), found.failures
    (0.25, 1, [('champion:not_finite',)])
    """
    probability = np.full(n_rows, np.nan)
    answered_by = np.full(n_rows, REFUSED, dtype=np.intp)
    failures: list[tuple[str, ...]] = [()] * n_rows
    left = np.arange(n_rows, dtype=np.intp)
    for place, rung in enumerate(rungs):
        if not len(left):
            break
        values, faults = _try(rung, left)
        if faults is None:
            probability[left], answered_by[left] = values, place
            break
        is_usable = faults == ""
        usable = left[is_usable]
        probability[usable], answered_by[usable] = values[is_usable], place
        left, faults = left[~is_usable], faults[~is_usable]
        for row, why in zip(left.tolist(), faults.tolist(), strict=True):
            failures[row] = (*failures[row], f"{rung.name}:{why}")
    return Descent(probability, answered_by, failures)


def _try(rung: Rung, rows: Rows) -> tuple[Floats, npt.NDArray[np.object_] | None]:
    """Return the rung's values and why each cannot be used (empty: it can); None where all can."""
    barred = rung.unavailable
    if isinstance(barred, str):
        return _score(rung, rows) if not barred else (_nothing(rows), _all(rows, barred))
    faults = barred[rows]
    open_to = np.flatnonzero(faults == "")
    if len(open_to) == len(rows):
        return _score(rung, rows)
    values = _nothing(rows)
    if len(open_to):
        scored, found = _score(rung, rows[open_to])
        values[open_to] = scored
        faults[open_to] = "" if found is None else found
    return values, faults


def _score(rung: Rung, rows: Rows) -> tuple[Floats, npt.NDArray[np.object_] | None]:
    try:
        values = np.asarray(rung.score(rows), dtype=np.float64)
    except TimeoutError as error:
        if _is_due(rung.name, TOO_SLOW):
            _log.error("rung %s on %d items: %s", rung.name, len(rows), error)
        return _nothing(rows), _all(rows, TOO_SLOW)
    except Exception:  # noqa: BLE001 - whatever a model raises, the rung below it answers
        if _is_due(rung.name, RAISED):
            _log.exception("rung %s raised on %d items", rung.name, len(rows))
        return _nothing(rows), _all(rows, RAISED)
    if values.shape != rows.shape:
        if _is_due(rung.name, WRONG_SHAPE):
            _log.error("rung %s gave shape %s for %d items", rung.name, values.shape, len(rows))
        return _nothing(rows), _all(rows, WRONG_SHAPE)
    is_usable = (values >= 0.0) & (values <= 1.0)
    if is_usable.all():
        return values, None
    faults = np.where(np.isfinite(values), OUT_OF_RANGE, NOT_FINITE).astype(object)
    faults[is_usable] = ""
    return values, faults


def _nothing(rows: Rows) -> Floats:
    return np.full(len(rows), np.nan)


def _all(rows: Rows, why: str) -> npt.NDArray[np.object_]:
    return np.full(len(rows), why, dtype=object)


def _is_due(name: str, why: str) -> bool:
    """Tell whether to log a failure: a model that fails every request must not fill the disk with tracebacks."""
    now_s = time.monotonic()
    is_due = now_s - _logged_s.get((name, why), -LOG_EVERY_S) >= LOG_EVERY_S
    if is_due:
        _logged_s[name, why] = now_s
    return is_due
