"""How far the evidence about one metric has come, in both directions."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from flightdeck.release.judge.betting import Floats

State = dict[str, Any]


@dataclass
class Standing:
    """Evidence that is kept: the highest e-values, and how many votes each arm cast.

    By Ville's inequality the *highest* wealth so far may be held against the threshold, so what was proven once stays
    proven and the order of looks does not matter.

    Parameters
    ----------
    bar
        Logarithm of the e-value that proves the canary worse.
    log_e_worse, log_e_fine
        Highest logarithm of either e-value so far.
    n_canary, n_champion
        Votes cast.
    worse_at_s
        Time of the vote that reached the bar, seconds.
    is_damaged
        Whether a value was missing that should have been there.
    """

    bar: float
    log_e_worse: float = 0.0
    log_e_fine: float = 0.0
    n_canary: int = 0
    n_champion: int = 0
    worse_at_s: float | None = None
    is_damaged: bool = False

    def look(self, log_e: Floats, at_s: Floats) -> None:
        """Look at the e-value against "within its margin" after each vote; both shape `(n,)`."""
        if not len(log_e):
            return
        reached = log_e >= self.bar
        if self.worse_at_s is None and reached.any():
            self.worse_at_s = float(at_s[np.argmax(reached)])
        self.log_e_worse = max(self.log_e_worse, float(log_e.max()))

    def count(self, n_canary: int, n_votes: int) -> None:
        """Count votes: `n_canary` of the `n_votes` are the canary's."""
        self.n_canary += n_canary
        self.n_champion += n_votes - n_canary

    def state(self) -> State:
        """Return all of it as plain values."""
        return asdict(self)


def proof_bar(alpha: float, n_tests: int = 1) -> float:
    """Return the logarithm of the e-value that proves something at `alpha`, split evenly over `n_tests`.

    Examples
    --------
    >>> round(math.exp(proof_bar(0.001, 4)))
    4000
    """
    return math.log(n_tests / alpha)
