"""Sample ratio: whether the arms have the units that they should have.

Each new unit is a canary's with probability `share`. If an arm loses some of its units before they are seen, it is not,
and every other test compares different people. The e-value is a likelihood ratio mixed over losses of either arm, valid
after every unit (a discrete form of the sequential multinomial test of Lindon and Malek, arXiv 2011.03567).
"""

import numpy as np

from flightdeck.release.judge.betting import Bettor, Floats, vote_stakes
from flightdeck.release.judge.evidence import Bools
from flightdeck.release.judge.standing import Standing, State

# Share of its units that an arm still has, under the alternatives; a loss of 5 % must be found soonest and weighs most.
KEPT = (0.95, 0.95, 0.95, 0.8, 0.3)


class SampleRatioTest:
    """Sequential two-sided test of the canary's share of the units.

    Parameters
    ----------
    share
        Share that was asked for, in (0, 1).
    bar
        Logarithm of the e-value that is a mismatch.
    """

    def __init__(self, share: float, bar: float) -> None:
        self.standing = Standing(bar)
        self._share = share
        self._bettor = Bettor(vote_stakes(share, [*KEPT, *(1 / kept for kept in KEPT)]))

    @property
    def is_mismatch(self) -> bool:
        """Whether the mismatch is proven."""
        return self.standing.worse_at_s is not None

    def update(self, at_s: Floats, is_canary: Bools) -> None:
        """Count first requests of units, in the order of time; arrays of shape `(n,)`."""
        self.standing.count(int(is_canary.sum()), len(is_canary))
        self.standing.look(self._bettor.path(np.asarray(is_canary - self._share)), at_s)

    def state(self) -> State:
        """Return the evidence so far as plain values."""
        return {"standing": self.standing.state(), "bettor": self._bettor.state()}

    def resume(self, state: State) -> None:
        """Go on from a former `state`."""
        self.standing = Standing(**state["standing"])
        self._bettor.resume(state["bettor"])
