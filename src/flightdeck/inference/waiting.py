"""What waits between arrival and computation: requests, the class that each belongs to, and refusals."""

import math
from enum import IntEnum
from heapq import heapify, heappop, heappush
from typing import Any, NamedTuple

from flightdeck.inference.modes import Mode

OVERLOAD, DEADLINE = "overload", "deadline"
MIN_GONE = 32
BUSY_RATE = 0.3


class State(IntEnum):
    """Where a request is; it leaves `WAITING` exactly once."""

    WAITING = 0
    TAKEN = 1
    REFUSED = 2
    FORGOTTEN = 3


class Refusal(NamedTuple):
    """A request that is not computed.

    Parameters
    ----------
    why
        `overload`: more waits than can be answered in time. `deadline`: no rung can be in time.
    retry_after_s
        When to come back, in seconds.
    """

    why: str
    retry_after_s: float


class Waiting:
    """A request that was taken in.

    Attributes
    ----------
    surface, n_items, arrived_s, deadline_s, payload
        As added; the payload is dropped when the request is forgotten.
    mode
        The rung to answer with, valid once the request is in a turn; `REFUSED` if it was refused there.
    why
        Why it is not the rung that was allowed at best: `overload` or `deadline`; empty if it is.
    retry_after_s
        Of a refused one, when to come back.
    """

    __slots__ = (
        "arrived_s",
        "deadline_s",
        "level",
        "mode",
        "n_items",
        "payload",
        "retry_after_s",
        "state",
        "surface",
        "why",
        "work_s",
    )

    def __init__(
        self,
        surface: str,
        level: int,
        n_items: int,
        arrived_s: float,
        deadline_s: float,
        payload: Any,
        mode: Mode,
        work_s: float,
    ) -> None:
        self.surface = surface
        self.level = level
        self.n_items = n_items
        self.arrived_s = arrived_s
        self.deadline_s = deadline_s
        self.payload = payload
        self.mode = mode
        self.work_s = work_s
        self.state = State.WAITING
        self.why = ""
        self.retry_after_s = 0.0


class WaitingClass:
    """The requests of one criticality, oldest deadline first, equal ones in order of arrival.

    Attributes
    ----------
    work_s
        Predicted work of those that wait, each on the rung that it is allowed at best.
    n_waiting
        How many wait.
    share_s
        Predicted work that may wait before a newcomer when nothing presses, of its strictest surface.
    closed_until_s
        Until when nobody is admitted, because a more critical class was refused.
    busy
        Share of the time that its answers take, a running mean.
    """

    __slots__ = ("_heap", "_n_gone", "_taken_s", "busy", "closed_until_s", "n_waiting", "share_s", "work_s")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Waiting]] = []
        self._n_gone = 0
        self._taken_s = 0.0
        self.work_s = 0.0
        self.n_waiting = 0
        self.share_s = math.inf
        self.closed_until_s = -math.inf
        self.busy = 0.0

    def push(self, request: Waiting, place: int) -> None:
        """Add a request; `place` grows with each and decides between equal deadlines."""
        heappush(self._heap, (request.deadline_s, place, request))
        self.n_waiting += 1
        self.work_s += request.work_s

    def head(self) -> Waiting | None:
        """Return the waiting request with the oldest deadline, None if nothing waits."""
        heap = self._heap
        while heap and heap[0][2].state is not State.WAITING:
            heappop(heap)
            self._n_gone -= 1
        return heap[0][2] if heap else None

    def take_head(self, state: State, planned_s: float) -> None:
        """Remove the head that `head` returned, into `state`; `planned_s` is the predicted time of its answer."""
        request = heappop(self._heap)[2]
        request.state = state
        self.n_waiting -= 1
        self.work_s -= request.work_s
        self._taken_s += planned_s
        if not self.n_waiting:
            self.work_s = 0.0

    def take_all(self, into: list[Waiting]) -> None:
        """Move everything that waits to a turn, in no particular order."""
        for _, _, request in self._heap:
            if request.state is State.WAITING:
                request.state = State.TAKEN
                into.append(request)
        self._taken_s += self.work_s
        self._heap.clear()
        self._n_gone = self.n_waiting = 0
        self.work_s = 0.0

    def drop(self, request: Waiting) -> None:
        """Count out a request that no longer waits, wherever it stands."""
        self.n_waiting -= 1
        self.work_s = self.work_s - request.work_s if self.n_waiting else 0.0
        self._n_gone += 1
        if self._n_gone > MIN_GONE and self._n_gone > self.n_waiting:
            self._heap = [entry for entry in self._heap if entry[2].state is State.WAITING]
            heapify(self._heap)
            self._n_gone = 0

    def measure_busy(self, elapsed_s: float) -> None:
        """Take in what share of the last `elapsed_s` seconds its answers took."""
        self.busy += BUSY_RATE * (min(self._taken_s / elapsed_s, 1.0) - self.busy)
        self._taken_s = 0.0
