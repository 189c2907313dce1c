"""Who is let in: for each surface how much work may wait before a newcomer, and which classes are closed.

A limit is a share of the surface's latency budget, in predicted seconds. The limit of a class lies below that of every
more critical one, and counts what waits of those too: a class therefore closes before any above it refuses.
"""

import math
from collections.abc import Mapping, Sequence

from flightdeck.inference.modes import RUNGS, Mode
from flightdeck.inference.pressure import Pressure
from flightdeck.inference.rung_cost import RungCost
from flightdeck.inference.surface_policy import Criticality, SurfacePolicy
from flightdeck.inference.waiting import BUSY_RATE, Waiting, WaitingClass

SHARES = (0.6, 0.4, 0.3)
NESTING = 0.9
WORTH = 0.5
HOLD_S = 1.0
MIN_LEFT = 0.1
MOST_OUTSIDE_S = 5e-4  # more than that is no request's doing
LAG_TURNS = 2


class Room:
    """The room of one surface.

    Parameters
    ----------
    level
        Of its class; 0 is critical.
    waiting
        Its class.
    limit_s
        Predicted work that may wait before a newcomer when nothing presses.

    Attributes
    ----------
    free_s
        Work that may wait, of all classes together, without anything to weigh; negative while the class is closed.
    """

    __slots__ = ("free_s", "level", "limit_s", "waiting")

    def __init__(self, level: int, waiting: WaitingClass, limit_s: float) -> None:
        self.level = level
        self.waiting = waiting
        self.limit_s = limit_s
        self.free_s = limit_s


class Rooms:
    """The rooms of all surfaces.

    Parameters
    ----------
    policies
        Operation of each surface by name.
    costs
        Learnt costs by mode.
    turn_s
        How long a turn may take.

    Attributes
    ----------
    classes
        What waits, by level.
    by_surface
        Rooms by surface.
    pressure
        What the lag leaves of each class's room.
    outside_s
        What a request costs outside turns.
    least_free_s
        Work that may wait, of all classes together, before there is anything to weigh for any surface.
    closed_until_s
        Until when at least one class is closed.
    """

    def __init__(self, policies: Mapping[str, SurfacePolicy], costs: Sequence[RungCost], turn_s: float) -> None:
        self.classes = [WaitingClass() for _ in Criticality]
        self.pressure = Pressure(LAG_TURNS * turn_s)
        self.closed_until_s = -math.inf
        self._costs = costs
        self.outside_s = 0.0
        by_level = sorted(policies.items(), key=lambda item: item[1].criticality.level)
        self.by_surface = {name: self._build(policy) for name, policy in by_level}
        self.least_free_s = min(room.free_s for room in self.by_surface.values())

    def one_s(self, n_items: int, mode: Mode) -> float:
        """Return what one more request adds to the work that waits, with what it costs outside turns."""
        return self._costs[mode].one_s(n_items) + self.outside_s

    def admits(
        self, room: Room, n_items: int, highest: Mode, now_s: float, above_s: float = 0.0, same_s: float = 0.0
    ) -> bool:
        """Weigh a newcomer against what waits before it, its own class relieved as much as a cheaper rung can.

        `above_s` and `same_s` are work of the classes above it, and of its own, that is on its way to the scheduler.
        """
        if now_s < room.waiting.closed_until_s:
            return False
        limit_s = room.free_s = self._limit_s(room.limit_s, room.level)
        room_s = limit_s - self._above_s(room.level) - above_s
        waiting_s = room.waiting.work_s + same_s
        if waiting_s <= room_s:
            return True
        share = min((share for _, share in self._cheaper(n_items, highest)), default=1.0)
        return waiting_s * share <= room_s

    def relieve(self, request: Waiting) -> Mode:
        """Return the rung from which on to answer the head of a class, so that what is left keeps within the limit."""
        waiting = self.classes[request.level]
        room_s = self._limit_s(waiting.share_s, request.level) - self._above_s(request.level)
        if waiting.work_s - request.work_s <= room_s:
            return request.mode
        cheaper = self._cheaper(request.n_items, request.mode)
        enough = [rung for rung, share in cheaper if waiting.work_s * share <= room_s]
        return enough[0] if enough else (cheaper[-1][0] if cheaper else request.mode)

    def close_below(self, level: int, now_s: float) -> None:
        """Admit nobody less critical for a while: a request of `level` is being refused for want of room."""
        if now_s < self.classes[level].closed_until_s:
            return
        for waiting in self.classes[level + 1 :]:
            waiting.closed_until_s = self.closed_until_s = now_s + HOLD_S
        self._refresh(now_s)

    def observe_lag(self, lag_s: float, now_s: float) -> None:
        """Take in by how much the event loop is late for other reasons than its turn."""
        if self.pressure.observe(lag_s, now_s):
            self._refresh(now_s)

    def measure(self, elapsed_s: float, now_s: float) -> None:
        """Take in that `elapsed_s` seconds have passed."""
        for waiting in self.classes:
            waiting.measure_busy(elapsed_s)
        self._refresh(now_s)

    def learn_outside(self, request_s: float) -> None:
        """Take in what a request cost lately outside turns: reading, parsing, writing, and whatever ran beside."""
        self.outside_s += BUSY_RATE * (min(request_s, MOST_OUTSIDE_S) - self.outside_s)

    def _build(self, policy: SurfacePolicy) -> Room:
        """Return the room of a surface; those of more critical ones exist already."""
        level = policy.criticality.level
        above_s = min((waiting.share_s for waiting in self.classes[:level]), default=math.inf)
        limit_s = min(SHARES[level] * policy.latency_budget_ms.default / 1e3, NESTING * above_s)
        self.classes[level].share_s = min(self.classes[level].share_s, limit_s)
        return Room(level, self.classes[level], limit_s)

    def _refresh(self, now_s: float) -> None:
        for room in self.by_surface.values():
            is_closed = now_s < room.waiting.closed_until_s
            room.free_s = -1.0 if is_closed else self._limit_s(room.limit_s, room.level)
        self.least_free_s = min(room.free_s for room in self.by_surface.values())

    def _limit_s(self, share_s: float, level: int) -> float:
        """Return what may wait now: less while the loop lags, and by the time that more critical classes take."""
        busy = sum(waiting.busy for waiting in self.classes[:level])
        return share_s * self.pressure.rooms[level] * max(1.0 - busy, MIN_LEFT)

    def _above_s(self, level: int) -> float:
        return sum(waiting.work_s for waiting in self.classes[:level])

    def _cheaper(self, n_items: int, highest: Mode) -> list[tuple[Mode, float]]:
        """Return the rungs with which an answer costs at most half of one by `highest`, each with that share.

        What an answer costs outside turns, no rung makes cheaper.
        """
        full_s = self.one_s(n_items, highest)
        shares = [(rung, self.one_s(n_items, rung) / full_s) for rung in RUNGS if rung > highest]
        return [(rung, share) for rung, share in shares if share <= WORTH]
