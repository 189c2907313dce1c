"""A circuit breaker for a dependency, such as the online store: when to stop asking, and when to ask again.

Closed: everything asks. Open: nobody does. After a while one probe at a time may ask; two good ones in a row close the
breaker, a bad one opens it for twice as long. A call is bad if it failed or took longer than its time. Nothing here
waits: whoever is not allowed goes on without the dependency.
"""

import math
from enum import StrEnum

MAX_SCORE = 3.0
GOOD_CALL = 0.5
MAX_RUN_S = 0.5
N_GOOD_PROBES = 2


class BreakerState(StrEnum):
    """What a breaker lets through: everything, nothing, or probes."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Breaker:
    """One dependency's breaker. It opens when the first of these holds.

    - Three bad calls in a row, or more bad ones than one in three for a while: a bad call adds 1 to a score, a good one
      takes half away, and 3 opens.
    - Bad calls only, over half a second from the beginning of the first; one call that took so long is enough.

    Parameters
    ----------
    slow_s
        Time from which on a call is bad although it succeeded.
    first_pause_s, max_pause_s
        How long it stays open the first time, and at most; each bad probe doubles it.

    Attributes
    ----------
    n_opened
        How often it has opened; for metrics.

    Examples
    --------
    >>> breaker = Breaker(slow_s=0.02)
    >>> for at_s in (0.0, 0.1, 0.2):
    ...     breaker.record(took_s=0.001, is_ok=False, now_s=at_s)
    >>> breaker.allows(0.3), breaker.state(0.3).value, breaker.allows(0.8), breaker.allows(0.8)
    (False, 'open', True, False)
    """

    def __init__(self, slow_s: float, *, first_pause_s: float = 0.5, max_pause_s: float = 8.0) -> None:
        self.n_opened = 0
        self._slow_s = slow_s
        self._first_pause_s = first_pause_s
        self._max_pause_s = max_pause_s
        self._pause_s = first_pause_s
        self._score = 0.0
        self._run_began_s = math.inf
        self._probe_at_s = math.inf
        self._n_good_probes = 0

    def state(self, now_s: float) -> BreakerState:
        """Return its state."""
        if self._probe_at_s == math.inf:
            return BreakerState.CLOSED
        return BreakerState.HALF_OPEN if now_s >= self._probe_at_s or self._n_good_probes else BreakerState.OPEN

    def allows(self, now_s: float) -> bool:
        """Tell whether a call may be made now. While it is half open, True is a probe: its result must be recorded.

        A probe that is never recorded is given up after the pause, and the next one may go.
        """
        if self._probe_at_s == math.inf:
            return True
        if now_s < self._probe_at_s:
            return False
        self._probe_at_s = now_s + self._pause_s
        return True

    def record(self, *, took_s: float, is_ok: bool, now_s: float) -> None:
        """Take in the result of a call that ended at `now_s` after `took_s` seconds."""
        is_good = is_ok and took_s <= self._slow_s
        if self._probe_at_s < math.inf:
            self._record_probe(now_s, is_good=is_good)
        elif is_good:
            self._score = max(self._score - GOOD_CALL, 0.0)
            self._run_began_s = math.inf
        else:
            self._score += 1.0
            self._run_began_s = min(self._run_began_s, now_s - took_s)
            if self._score >= MAX_SCORE or now_s - self._run_began_s >= MAX_RUN_S:
                self._open(now_s, self._first_pause_s)

    def _record_probe(self, now_s: float, *, is_good: bool) -> None:
        if not is_good:
            self._open(now_s, min(2 * self._pause_s, self._max_pause_s))
            return
        self._n_good_probes += 1
        self._probe_at_s = now_s
        if self._n_good_probes >= N_GOOD_PROBES:
            self._score, self._run_began_s, self._probe_at_s = 0.0, math.inf, math.inf
            self._n_good_probes = 0

    def _open(self, now_s: float, pause_s: float) -> None:
        self.n_opened += self._probe_at_s == math.inf
        self._pause_s = pause_s
        self._probe_at_s = now_s + pause_s
        self._n_good_probes = 0
