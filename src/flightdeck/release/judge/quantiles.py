"""Latency: whether the canary's quantile is more than a margin above the champion's.

Let `t` be the champion's quantile as far as it is known. A champion's request exceeds if it takes longer than `t`, a
canary's if it takes longer than `(1 + margin) * t`. If the canary is within its margin (its latency divided by
`1 + margin` has no heavier tail beyond `t` than the champion's), the next unit that exceeds is a canary's with
probability at most its share, *whatever `t` is*. So `t` may be a rough estimate, of the champion's last thousand units,
as long as it was made before the vote: its error costs power, not validity, and a slow hour slows both arms.
A unit votes once in a step, with its first request.
"""

import numpy as np

from flightdeck.gates.judge_policy import LatencyRule
from flightdeck.release.judge.betting import Bettor, Floats, vote_stakes
from flightdeck.release.judge.evidence import Bools
from flightdeck.release.judge.standing import Standing, State

WORSE = (1.25, 1.6, 2.2, 4.0, 20.0)  # odds ratios of the alternatives
FINE = (0.9, 0.75, 0.6, 0.4, 0.15)
REFRESH_EVERY, KEPT = 200, 1000  # units of the champion between two estimates, and used for one


class LatencyTest:
    """Sequential test of a quantile of the latency.

    Parameters
    ----------
    rule
        Which quantile, and the margin.
    share
        Share of the units that the canary decides for, in (0, 1).
    bar
        Logarithm of the e-value that fails the canary.
    """

    def __init__(self, rule: LatencyRule, share: float, bar: float) -> None:
        self.standing = Standing(bar)
        self._rule, self._share = rule, share
        self._worse = Bettor(vote_stakes(share, WORSE))
        self._fine = Bettor(vote_stakes(share, FINE))
        self._recent: list[float] = []
        self._n_new = 0
        self._threshold_s: float | None = None

    def update(self, at_s: Floats, is_canary: Bools, latency_s: Floats) -> None:
        """Count first requests of units, in the order of time; arrays of shape `(n,)`, latencies finite."""
        self.standing.count(int(is_canary.sum()), len(is_canary))
        bounds = self._thresholds_s(is_canary, latency_s) * np.where(is_canary, 1 + self._rule.margin, 1.0)
        exceeds = latency_s > bounds
        votes = np.asarray(is_canary[exceeds] - self._share, dtype=np.float64)
        self.standing.look(self._worse.path(votes), at_s[exceeds])
        self.standing.log_e_fine = max(self.standing.log_e_fine, float(self._fine.path(votes).max(initial=0.0)))

    def state(self) -> State:
        """Return the evidence so far as plain values."""
        return {
            "standing": self.standing.state(),
            "bettors": [self._worse.state(), self._fine.state()],
            "recent": list(self._recent),
            "n_new": self._n_new,
            "threshold_s": self._threshold_s,
        }

    def resume(self, state: State) -> None:
        """Go on from a former `state`."""
        self.standing = Standing(**state["standing"])
        for bettor, former in zip((self._worse, self._fine), state["bettors"], strict=True):
            bettor.resume(former)
        self._recent, self._n_new = list(state["recent"]), state["n_new"]
        self._threshold_s = state["threshold_s"]

    def _thresholds_s(self, is_canary: Bools, latency_s: Floats) -> Floats:
        """Return the threshold that was known before each request; infinite before the first estimate."""
        found = np.full(len(latency_s), np.inf)
        champions = np.flatnonzero(~is_canary)
        begin = 0
        for place in range(REFRESH_EVERY - self._n_new, len(champions) + 1, REFRESH_EVERY):
            end = int(champions[place - 1]) + 1
            self._remember(found, begin, end, is_canary, latency_s)
            self._threshold_s, self._n_new = float(np.quantile(self._recent, self._rule.quantile)), 0
            begin = end
        self._remember(found, begin, len(found), is_canary, latency_s)
        return found

    def _remember(self, found: Floats, begin: int, end: int, is_canary: Bools, latency_s: Floats) -> None:
        """Fill in the present threshold from `begin` to `end`, and keep the champion's latencies there."""
        if self._threshold_s is not None:
            found[begin:end] = self._threshold_s
        new = latency_s[begin:end][~is_canary[begin:end]]
        self._recent = [*self._recent, *new.tolist()][-KEPT:]
        self._n_new += len(new)
