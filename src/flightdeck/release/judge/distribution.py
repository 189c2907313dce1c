"""Predictions: whether the canary says something else than the champion about the same traffic.

Units are dealt to the arms by a hash, so for any statistic `f` of a prediction and any `c` fixed before the vote,

    z = (f - c) * (1 / share if canary else -1 / (1 - share))

has as its mean the difference of the arms' means of `f` (the weights of Horvitz and Thompson, J. Am. Stat. Assoc. 47,
1952). `c`, the mean of `f` so far over both arms, only takes out the level and with it most of what a day does to both
arms. The statistics are the prediction itself and its membership in each band; each is tested in both directions
against its margin. The mean of their e-values is an e-value against "all are within their margins"; for a pass each
must be shown to be within. A unit votes once in a step, with its first request.
"""

import numpy as np

from flightdeck.gates.judge_policy import PredictionRule
from flightdeck.release.judge.betting import Bettor, Floats
from flightdeck.release.judge.evidence import Bools
from flightdeck.release.judge.standing import Standing, State

STAKES = (0.9, 0.45, 0.22, 0.11, 0.055, 0.025)  # of the largest stake that cannot lose everything
PRIOR_VOTES = 10.0  # the level starts at an even spread that counts as so many votes


class PredictionTest:
    """Sequential test of shifts of the mean prediction and of the share of each band.

    Parameters
    ----------
    rule
        Margins and bands.
    share
        Share of the units that the canary decides for, in (0, 1).
    bar
        Logarithm of the e-value that fails the canary.
    """

    def __init__(self, rule: PredictionRule, share: float, bar: float) -> None:
        self.standing = Standing(bar)
        self._edges, self._share = np.array(rule.band_edges), share
        n_bands = len(rule.band_edges) + 1
        self._margins = [rule.mean_margin, *([rule.band_margin] * n_bands if n_bands > 1 else [])]
        largest = max(1 / share, 1 / (1 - share))
        stakes = [np.array(STAKES) / (largest + margin) for margin in self._margins for _ in (1, -1)]
        self._worse = [Bettor(each) for each in stakes]
        self._fine = [Bettor(each) for each in stakes]
        self._log_e_fine = [0.0] * len(stakes)
        self._level = [0.5 * PRIOR_VOTES, *([PRIOR_VOTES / n_bands] * (len(self._margins) - 1))]
        self._n_votes = PRIOR_VOTES

    def update(self, at_s: Floats, is_canary: Bools, prediction: Floats) -> None:
        """Count first requests of units, in the order of time; arrays of shape `(n,)`, predictions in [0, 1]."""
        if not len(prediction):
            return
        self.standing.count(int(is_canary.sum()), len(is_canary))
        weights = np.where(is_canary, 1 / self._share, -1 / (1 - self._share))
        worse, place = [], 0
        for values, level, margin in zip(
            self._statistics(prediction), self._levels(prediction), self._margins, strict=True
        ):
            shift = (values - level) * weights
            for signed in (shift, -shift):
                worse.append(self._worse[place].path(signed - margin))
                fine = self._fine[place].path(margin - signed)
                self._log_e_fine[place] = max(self._log_e_fine[place], float(fine.max()))
                place += 1
        self.standing.look(np.logaddexp.reduce(worse, axis=0) - np.log(len(worse)), at_s)
        self.standing.log_e_fine = min(self._log_e_fine)

    def state(self) -> State:
        """Return the evidence so far as plain values."""
        return {
            "standing": self.standing.state(),
            "bettors": [bettor.state() for bettor in (*self._worse, *self._fine)],
            "log_e_fine": list(self._log_e_fine),
            "level": list(self._level),
            "n_votes": self._n_votes,
        }

    def resume(self, state: State) -> None:
        """Go on from a former `state`."""
        self.standing = Standing(**state["standing"])
        for bettor, former in zip((*self._worse, *self._fine), state["bettors"], strict=True):
            bettor.resume(former)
        self._log_e_fine, self._level = list(state["log_e_fine"]), list(state["level"])
        self._n_votes = state["n_votes"]

    def _statistics(self, prediction: Floats) -> list[Floats]:
        """Return the prediction and, if there are bands, its membership in each; arrays of shape `(n,)`."""
        if not len(self._edges):
            return [prediction]
        band = np.searchsorted(self._edges, prediction, side="right")
        return [prediction, *((band == place).astype(np.float64) for place in range(len(self._edges) + 1))]

    def _levels(self, prediction: Floats) -> list[Floats]:
        """Return the mean of each statistic over all votes before each vote, and count these votes."""
        n_before = self._n_votes + np.arange(len(prediction))
        found = []
        for place, values in enumerate(self._statistics(prediction)):
            sums = self._level[place] + np.concatenate([[0.0], np.cumsum(values)])
            found.append(sums[:-1] / n_before)
            self._level[place] = float(sums[-1])
        self._n_votes += len(prediction)
        return found
