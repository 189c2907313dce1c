"""What a rung costs, learnt from the batches that it answered: a fixed part, a part a request and a part an item.

The three parts are fitted by gradient steps on the squared error of the logarithm of the time, normalised as in NLMS
(Haykin, Adaptive Filter Theory, ch. 6): they stay positive, need no unit, and a batch moves each by its share in the
prediction. One batch off by a factor of a hundred counts as off by four, and a second one in the same direction, which
is a change and no accident, is followed five times as fast. A batch longer than `HANG_S` is believed at once: a second
one would cost more than a while on the rung below.
"""

import math

CLAMP = math.log(4.0)
RATE = 0.2
RATE_OF_A_CHANGE = 1.0
SURPRISE = math.log(2.0)
STALE_S = 1.0
FIRST_PATIENCE_S = 1.0
MAX_PATIENCE_S = 300.0
HANG_S = 0.2
PATIENCE_OF_A_HANG = 20.0


class RungCost:
    """Cost of one rung, in seconds.

    A batch is predicted from its parts. What one more request means to those who wait is `request_s` and its items: its
    share of the fixed part, by the size of the batches seen lately, is in `request_s`.

    Parameters
    ----------
    fixed_s, per_request_s, per_item_s
        Where to begin; the first batch scales all three to what it took.

    Attributes
    ----------
    request_s
        What a request without items adds to the work that waits.
    observed_s
        When it was last observed; minus infinity before that.

    Examples
    --------
    >>> cost = RungCost(1e-4, 1e-5, 1e-5)
    >>> for _ in range(50):
    ...     cost.learn(1, 1, 0.005, now_s=0.0)
    >>> round(cost.predict_s(1, 1), 4)
    0.005
    """

    __slots__ = (
        "_bias",
        "_is_trial",
        "_n_requests",
        "_patience_s",
        "_tried_s",
        "fixed_s",
        "observed_s",
        "per_item_s",
        "per_request_s",
        "request_s",
    )

    def __init__(self, fixed_s: float, per_request_s: float, per_item_s: float) -> None:
        self.fixed_s = fixed_s
        self.per_request_s = per_request_s
        self.per_item_s = per_item_s
        self.request_s = per_request_s + fixed_s
        self._n_requests = 1.0
        self.observed_s = -math.inf
        self._patience_s = FIRST_PATIENCE_S
        self._tried_s = -math.inf
        self._is_trial = False
        self._bias = 0.0

    @property
    def is_known(self) -> bool:
        """Whether it was ever observed."""
        return self.observed_s > -math.inf

    def predict_s(self, n_requests: int, n_items: int) -> float:
        """Return the expected time of a batch."""
        return self.fixed_s + n_requests * self.per_request_s + n_items * self.per_item_s

    def one_s(self, n_items: int) -> float:
        """Return what one more request adds to the work that waits."""
        return self.request_s + n_items * self.per_item_s

    def learn(self, n_requests: int, n_items: int, took_s: float, now_s: float) -> None:
        """Take in that a batch took `took_s`; cost: one logarithm and three powers."""
        self._learn_parts(n_requests, n_items, took_s, now_s)
        self._n_requests += RATE * (n_requests - self._n_requests)
        self.request_s = self.per_request_s + self.fixed_s / self._n_requests

    def is_due(self, now_s: float, level: int) -> bool:
        """Tell whether to try it although it seems too slow: nobody has for a while, so nobody knows.

        Without this, one bad estimate would end a rung for good: what is never used is never observed. The patience
        doubles with each trial that finds it as slow as before, up to `MAX_PATIENCE_S`, because a rung that hangs
        delays everybody; the less critical a class (`level` 0 is the most critical), the sooner it serves for a trial.
        """
        seen_s = max(self.observed_s, self._tried_s)
        return self.is_known and now_s - seen_s > self._patience_s * (4, 2, 1)[level]

    def begin_trial(self, now_s: float) -> None:
        """Note that the next batch is the trial for which `is_due` asked."""
        self._tried_s = now_s
        self._is_trial = True

    def _learn_parts(self, n_requests: int, n_items: int, took_s: float, now_s: float) -> None:
        requests_s, items_s = n_requests * self.per_request_s, n_items * self.per_item_s
        predicted_s = self.fixed_s + requests_s + items_s
        error = math.log(max(took_s, 1e-9) / predicted_s)
        if self._is_trial:
            self._is_trial = False
            self._patience_s = FIRST_PATIENCE_S if error < -SURPRISE else min(2 * self._patience_s, MAX_PATIENCE_S)
        if self.is_known and took_s > HANG_S and error > SURPRISE:
            self._patience_s = min(max(self._patience_s, took_s * PATIENCE_OF_A_HANG), MAX_PATIENCE_S)
            self._begin_again(error, now_s)
            return
        if now_s - self.observed_s > STALE_S:
            self._begin_again(min(error, CLAMP) if self.is_known else error, now_s)
            return
        self.observed_s = now_s
        self._patience_s = FIRST_PATIENCE_S
        error = min(max(error, -CLAMP), CLAMP)
        is_change = abs(error) > SURPRISE and error * self._bias > 0.0
        self._bias = error if abs(error) > SURPRISE else 0.0
        step = (RATE_OF_A_CHANGE if is_change else RATE) * error
        step *= predicted_s / (self.fixed_s * self.fixed_s + requests_s * requests_s + items_s * items_s)
        self.fixed_s *= math.exp(step * self.fixed_s)
        self.per_request_s *= math.exp(step * requests_s)
        self.per_item_s *= math.exp(step * items_s)

    def _begin_again(self, error: float, now_s: float) -> None:
        """Believe one batch at once: the first, the first after a pause, one that hung."""
        factor = math.exp(error)
        self.observed_s = now_s
        self._bias = 0.0
        self.fixed_s *= factor
        self.per_request_s *= factor
        self.per_item_s *= factor
