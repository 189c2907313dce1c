"""How much of its room each class keeps while the event loop is late: the less critical gives way first.

One number, the pressure, rises while the lag is above its target and falls while it is below, at most by 1 a second.
From 0 to 1 it takes the room of the least critical class, from 1 to 2 that of the middle one, and from 2 on all but a
quarter of the critical one's. It comes back the other way round.
"""

import math

MOST = 2.75
FALL_PER_S = 1.0
RISE_PER_S = 4.0
MAX_STEP_S = 0.1


class Pressure:
    """Room of each class, in [0, 1].

    Parameters
    ----------
    target_s
        Lag that is no concern.

    Attributes
    ----------
    value
        The pressure, in [0, `MOST`].
    rooms
        Share of the room that is left, by level; level 0 is critical.

    Examples
    --------
    >>> pressure = Pressure(0.01)
    >>> for tick in range(60):
    ...     _ = pressure.observe(0.2, tick * 0.01)
    >>> [round(room, 2) for room in pressure.rooms]
    [0.64, 0.0, 0.0]
    """

    def __init__(self, target_s: float) -> None:
        self.value = 0.0
        self.rooms = (1.0, 1.0, 1.0)
        self._target_s = target_s
        self._at_s = math.inf

    def observe(self, lag_s: float, now_s: float) -> bool:
        """Take in a measured lag; tell whether any room changed. Lags while nothing presses cost next to nothing."""
        if self.value == 0.0 and lag_s <= self._target_s:
            self._at_s = now_s
            return False
        elapsed_s = min(max(now_s - self._at_s, 0.0), MAX_STEP_S)
        self._at_s = now_s
        rate = min(max(lag_s / self._target_s - 1.0, -FALL_PER_S), RISE_PER_S)
        self.value = min(max(self.value + rate * elapsed_s, 0.0), MOST)
        self.rooms = (_clip(3.0 - self.value), _clip(2.0 - self.value), _clip(1.0 - self.value))
        return True


def _clip(share: float) -> float:
    return min(max(share, 0.0), 1.0)
