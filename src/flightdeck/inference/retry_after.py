"""When a refused client should come back: the later, the more work was refused lately, and no two at once."""

import math

LEAST_S, MOST_S = 1.0, 30.0
MEMORY_S = 10.0
GOLDEN = 0.6180339887498949


class RetryAfter:
    """Times to come back.

    The work refused within about ten seconds, in seconds of computing, is how long the server would need for it if it
    did nothing else. Spreading those clients over that time, and over half of it on either side, is what keeps their
    return from being the next overload. The place within it steps by the golden ratio, which spreads any number of
    consecutive refusals evenly without a random number.

    Examples
    --------
    >>> calm, storm = RetryAfter(), RetryAfter()
    >>> given = [storm.next_s(0.05, 0.1, 10.0) for _ in range(240)]
    >>> round(calm.next_s(0.005, 0.05, 10.0), 2), 5 < max(given) < 20
    (1.18, True)
    """

    def __init__(self) -> None:
        self._refused_s = 0.0
        self._at_s = -math.inf
        self._n = 0

    def next_s(self, work_s: float, backlog_s: float, now_s: float) -> float:
        """Return seconds in [`LEAST_S`, `MOST_S`] for a refusal of `work_s` while `backlog_s` waits."""
        elapsed_s = max(now_s - self._at_s, 0.0)
        self._refused_s = self._refused_s * math.exp(-elapsed_s / MEMORY_S) + work_s
        self._at_s = now_s
        self._n += 1
        place = 0.5 + (self._n * GOLDEN) % 1.0
        return min(max((LEAST_S + backlog_s + self._refused_s) * place, LEAST_S), MOST_S)
