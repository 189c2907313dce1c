"""Errors: from which arm the next one comes.

With a known share of traffic, and error rates within the margin, the next unit to fail is a canary's with probability
at most `p0 = r * s / (r * s + 1 - s)`, whatever the rate is and however it moves during the day: an outage that hits
both arms says nothing. Each unit votes once in a canary step, with its first error, so that one traveller who retries a
broken request fifty times is one vote. The wealth is a likelihood ratio of these votes, mixed over alternatives.

For a pass, either the same votes show that the ratio is kept, or failures of units are rarer than a rate that is
negligible; the mean of the two e-values is an e-value against "neither holds". The first of them needs many errors, the
second few units.
"""

import math

import numpy as np

from flightdeck.gates.judge_policy import ErrorRule
from flightdeck.release.judge.betting import Bettor, Floats, vote_stakes
from flightdeck.release.judge.evidence import Bools
from flightdeck.release.judge.standing import Standing, State

WORSE = (1.25, 1.6, 2.5, 5.0, 20.0, 200.0, 1e5)  # odds ratios of the alternatives; the last is for a broken canary
FINE = (0.9, 0.8, 0.65, 0.5, 0.25, 0.05)
RARER = (0.5, 0.2, 0.05, 0.002)


class ErrorTest:
    """Sequential test of the ratio of error rates.

    Parameters
    ----------
    rule
        Margin.
    share
        Share of the units that the canary decides for, in (0, 1).
    bar
        Logarithm of the e-value that fails the canary.
    """

    def __init__(self, rule: ErrorRule, share: float, bar: float) -> None:
        self.standing = Standing(bar)
        self._p0 = rule.rate_ratio * share / (rule.rate_ratio * share + 1 - share)
        self._rate = rule.negligible_rate
        self._worse = Bettor(vote_stakes(self._p0, WORSE))
        self._fine = Bettor(vote_stakes(self._p0, FINE))
        self._rare = Bettor(vote_stakes(self._rate, RARER))

    def update(self, at_s: Floats, is_canary: Bools, is_new: Bools, fails_first: Bools) -> None:
        """Count requests in the order of time.

        Parameters
        ----------
        at_s
            Times, seconds, shape `(n,)`.
        is_canary
            Whether the canary answered, shape `(n,)`.
        is_new
            Whether it is the first request of its unit in this step, shape `(n,)`.
        fails_first
            Whether it is the first error of its unit in this step, shape `(n,)`.
        """
        self.standing.count(int(is_canary[is_new].sum()), int(is_new.sum()))
        votes = np.asarray(is_canary[fails_first] - self._p0, dtype=np.float64)
        self.standing.look(self._worse.path(votes), at_s[fails_first])
        rows = fails_first | (is_new & is_canary)
        ratio = np.where(fails_first, is_canary - self._p0, 0.0)[rows]
        rare = np.where(is_canary, fails_first - self._rate, 0.0)[rows]
        either = np.logaddexp(self._fine.path(ratio), self._rare.path(rare)) - math.log(2)
        self.standing.log_e_fine = max(self.standing.log_e_fine, float(either.max(initial=0.0)))

    def state(self) -> State:
        """Return the evidence so far as plain values."""
        bettors = [self._worse.state(), self._fine.state(), self._rare.state()]
        return {"standing": self.standing.state(), "bettors": bettors}

    def resume(self, state: State) -> None:
        """Go on from a former `state`."""
        self.standing = Standing(**state["standing"])
        for bettor, former in zip((self._worse, self._fine, self._rare), state["bettors"], strict=True):
            bettor.resume(former)
