"""How far two arms differ: an interval that may be looked at after every unit (a confidence sequence).

Units are dealt to the arms by a hash, so for a value `f` of a unit, and any level `c` fixed before it is met,

    z = (f - c) * (1 / share if second arm else -1 / (1 - share))

has the effect of the second arm on that unit as its mean, whatever the values are and however they hang together: only
the dealing is random (Horvitz and Thompson, J. Am. Stat. Assoc. 47, 1952). Against "no unit's effect is above d" the
judge's gambler bets on `z - d`. The lower end is the largest `d` that has ever been refuted, the upper end likewise.
Both hold at all times at once (Ville 1939); the construction is that of Waudby-Smith and Ramdas (J. R. Stat. Soc. B 86,
2024, section 4) with the fixed stakes of `release.judge.betting`.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from flightdeck.release.judge.betting import Bettor, Floats

Bools = npt.NDArray[np.bool_]
STAKES = np.array([0.9, 0.45, 0.22, 0.11, 0.055, 0.025, 0.01])  # of the largest stake that cannot lose everything
PRIOR_UNITS = 10.0  # the level starts at one half, which counts as so many units
N_HALVINGS = 22  # ends are exact to 5e-7 of the range


class Interval(NamedTuple):
    """Ends of an interval; `low > high` where no single effect explains what was seen, because it changed."""

    low: float
    high: float


def difference_interval(
    values: Floats, is_second: Bools, share: float, bar: float, weight: Floats | None = None
) -> Interval:
    """Return what the difference "second arm less first arm" can be.

    Parameters
    ----------
    values
        One value a unit, in [0, 1], in the order in which they became known, shape `(n,)`.
    is_second
        Whether the unit lies in the second arm, shape `(n,)`.
    share
        Share of the second arm in the units of both, in (0, 1).
    bar
        Logarithm of the e-value that refutes: `judge.standing.proof_bar`.
    weight
        How many units each stands for, shape `(n,)`; one each if not given.

    Returns
    -------
    Interval
        In the unit of the values. Within [-1, 1], which is also what nothing gives.

    Notes
    -----
    Time is `44 * 7 * n` logarithms. Adding units never widens it.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> is_second = rng.random(4000) < 0.5
    >>> interval = difference_interval(np.where(is_second, 0.8, 0.3), is_second, 0.5, np.log(40))
    >>> interval.low < 0.5 < interval.high, interval.low > 0.4
    (True, True)
    """
    if not len(values):
        return Interval(-1.0, 1.0)
    stake_of = np.ones(len(values)) if weight is None else weight / weight.max()
    z = (values - _levels(values)) * np.where(is_second, 1 / share, -1 / (1 - share))
    stakes = STAKES / (1 + max(1 / share, 1 / (1 - share)))
    return Interval(_refuted_below(z, stake_of, stakes, bar), -_refuted_below(-z, stake_of, stakes, bar))


def _levels(values: Floats) -> Floats:
    """Return the mean of all values before each: subtracting it takes out what is common to both arms."""
    before = np.concatenate([[0.0], np.cumsum(values[:-1])])
    return np.asarray((0.5 * PRIOR_UNITS + before) / (PRIOR_UNITS + np.arange(len(values))))


def _refuted_below(z: Floats, stake_of: Floats, stakes: Floats, bar: float) -> float:
    """Return the largest `d` such that "no effect is above d" was refuted once; the evidence falls with `d`."""
    low, high = -1.0, 1.0
    for _ in range(N_HALVINGS):
        middle = (low + high) / 2
        if Bettor(stakes).path((z - middle) * stake_of).max() >= bar:
            low = middle
        else:
            high = middle
    return low
