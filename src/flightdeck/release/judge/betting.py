"""Test martingales by betting: the one engine under every test of the judge.

A gambler starts with 1 and stakes on each observation `z`, whose mean is at most 0 under the null hypothesis, so that
the wealth after it is multiplied by `1 + stake * z`. Under the null the wealth is a nonnegative supermartingale, and
the chance that it *ever* reaches `1 / alpha` is at most `alpha` (Ville 1939): looking after every event costs nothing.
The stake that earns most is unknown, so the wealth is spread evenly over a few of them and their mean counts, which is
a wealth again (Waudby-Smith and Ramdas, J. R. Stat. Soc. B 86, 2024, sections 4.1 and 4.4, with a fixed grid).
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from flightdeck.core.errors import FlightdeckError

Floats = npt.NDArray[np.float64]


class Bettor:
    """The wealth of one null hypothesis, spread over `n_stakes` stakes.

    Parameters
    ----------
    stakes
        Stakes, shape `(n_stakes,)`; `1 + stake * z` must be above 0 for every `z` that can be observed.
    log_wealth
        Logarithm of the wealth on each stake, shape `(n_stakes,)`; 0 at the start.

    Examples
    --------
    >>> bettor = Bettor(vote_stakes(0.5, [3.0]))
    >>> [float(e) for e in np.exp(bettor.path(np.array([0.5, 0.5])))]  # two votes of 1, the alternative says 3 : 1
    [1.5, 2.25]
    """

    def __init__(self, stakes: Floats, log_wealth: Floats | None = None) -> None:
        self._stakes = stakes
        self._log_wealth = np.zeros(len(stakes)) if log_wealth is None else log_wealth

    def path(self, z: Floats) -> Floats:
        """Bet on observations and return the logarithm of the wealth after each.

        Parameters
        ----------
        z
            Observations in their order, shape `(n,)`.

        Returns
        -------
        ndarray of shape (n,)
            Natural logarithm of the e-value after each.
        """
        if not len(z):
            return np.zeros(0)
        paths = np.multiply.outer(self._stakes, z)
        np.log1p(paths, out=paths)
        np.cumsum(paths, axis=1, out=paths)
        paths += self._log_wealth[:, None]
        self._log_wealth = paths[:, -1].copy()
        highest = paths.max(axis=0)
        paths -= highest
        return np.asarray(np.log(np.exp(paths, out=paths).mean(axis=0)) + highest)

    def state(self) -> list[float]:
        """Return the logarithms of the wealth as plain numbers."""
        return [float(value) for value in self._log_wealth]

    def resume(self, state: object) -> None:
        """Go on from a former `state`.

        Raises
        ------
        FlightdeckError
            If it is not one number a stake.
        """
        if not isinstance(state, list) or len(state) != len(self._stakes):
            raise FlightdeckError(
                f"resuming a test of the judge: {len(self._stakes)} numbers are needed, the state has {state!r}",
                next_step="start the canary step anew; its evidence cannot be read",
            )
        self._log_wealth = np.array(state, dtype=np.float64)


def vote_stakes(p0: float, odds_ratios: Sequence[float]) -> Floats:
    """Return the stakes on `z = vote - p0` that make the wealth a likelihood ratio of a Bernoulli vote.

    Parameters
    ----------
    p0
        Boundary of the null: the largest probability of a 1 (ratios above 1) or the smallest (ratios below 1).
    odds_ratios
        Alternatives, as factors on the odds of `p0`.

    Returns
    -------
    ndarray of shape (n_ratios,)
        `(p1 - p0) / (p0 * (1 - p0))`: a vote of 1 then multiplies by `p1 / p0`, one of 0 by `(1 - p1) / (1 - p0)`. The
        mean of that factor is linear in the true probability, so it is at most 1 on the whole side of the null.
    """
    odds = p0 / (1 - p0) * np.asarray(odds_ratios, dtype=np.float64)
    return np.asarray((odds / (1 + odds) - p0) / (p0 * (1 - p0)))
