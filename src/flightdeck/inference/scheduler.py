"""Who is answered, when, and by how much work: requests wait here between arrival and computation.

A worker calls `add` once a request, and once a tick of its event loop `next`, then `observe` for each batch of the
turn. Times are seconds of one monotonic clock. Nothing here reads a clock, waits or does I/O.

More critical classes come first, and within a class the oldest deadline. How much may wait before a newcomer is
bounded in predicted seconds, by a share of its surface's latency budget; the bound of a class lies below that of every
more critical one, so a class closes before any above it refuses. What exceeds the bound is answered by a cheaper rung,
where one costs at most half, else refused at arrival. ADR 0016 has the reasons and what was simulated.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from flightdeck.inference.modes import RUNGS, Mode
from flightdeck.inference.retry_after import RetryAfter
from flightdeck.inference.rooms import Rooms
from flightdeck.inference.rung_cost import RungCost
from flightdeck.inference.surface_policy import AdmissionSettings, SurfacePolicy
from flightdeck.inference.turn import MARGIN, Turn, TurnPlan
from flightdeck.inference.waiting import DEADLINE, OVERLOAD, Refusal, State, Waiting, WaitingClass

BUSY_EVERY_S = 0.1
MIN_OUTSIDE = 16.0  # requests in that time, to learn from it what reading and writing cost
UNREAD_SHARE = 0.2  # of that, what refusing costs before a request is read
PRIOR_COSTS = ((5e-5, 4e-5, 2e-5), (5e-5, 4e-5, 1e-5), (2e-5, 3e-5, 5e-6), (1e-6, 2e-5, 1e-9))


class Scheduler:
    """The waiting room of one worker.

    Parameters
    ----------
    policies
        Operation of each surface by name.
    settings
        How much may be done at once.

    Attributes
    ----------
    costs
        Learnt costs by mode, the refusal last.
    rooms
        What waits by class, who is let in, and how much the lag presses.

    Examples
    --------
    >>> from flightdeck.inference.surface_policy import read_admission, read_surface_policies
    >>> scheduler = Scheduler(read_surface_policies(environment={}), read_admission(environment={}))
    >>> asked = scheduler.add("alerts", 1, 10.0, 10.15, "payload")
    >>> turn = scheduler.next(10.0)
    >>> turn.compute == [asked], asked.mode.label, turn.refuse
    (True, 'model', [])
    """

    def __init__(self, policies: Mapping[str, SurfacePolicy], settings: AdmissionSettings) -> None:
        self.costs = [RungCost(*prior) for prior in PRIOR_COSTS]
        self.rooms = Rooms(policies, self.costs, settings.turn_ms / 1e3)
        self._retry_after = RetryAfter()
        self._turn_s = settings.turn_ms / 1e3
        self._alone_s = settings.alone_ms / 1e3
        self._n_added = 0
        self._now_s = self._measured_s = self._turn_took_s = 0.0
        self._outside_s = self._n_outside = 0.0
        self._earliest_s: float = math.inf
        self._empty()

    @property
    def n_waiting(self) -> int:
        """How many requests wait."""
        return sum(waiting.n_waiting for waiting in self.rooms.classes)

    def add(
        self,
        surface: str,
        n_items: int,
        arrived_s: float,
        deadline_s: float,
        payload: Any,
        highest: Mode = Mode.MODEL,
    ) -> Waiting | Refusal:
        """Take a request in, or refuse it at once.

        Parameters
        ----------
        surface
            Name of its surface.
        n_items
            How many items it asks about.
        arrived_s, deadline_s
            When it arrived, and until when it must be answered.
        payload
            Whatever the caller needs to answer it.
        highest
            The best rung that it may have: lower than the model during a drill, over budget, with the store down.

        Raises
        ------
        KeyError
            If there is no such surface: the caller has validated it.
        """
        room = self.rooms.by_surface[surface]
        cost = self.costs[highest]
        self._n_outside += 1.0
        work_s = self.rooms.outside_s + cost.request_s + n_items * cost.per_item_s
        plan_by_s = deadline_s
        if work_s > self._alone_s:
            work_s, plan_by_s = self._shorter_s(n_items, highest, work_s), -math.inf
        if self._work_s > room.free_s and not self.rooms.admits(room, n_items, highest, arrived_s):
            self.rooms.close_below(room.level, arrived_s)
            return Refusal(OVERLOAD, self._retry_after.next_s(work_s, self._work_s, arrived_s))
        request = Waiting(surface, room.level, n_items, arrived_s, deadline_s, payload, highest, work_s)
        self._n_added += 1
        room.waiting.push(request, self._n_added)
        self._work_s += work_s
        if plan_by_s < self._earliest_s:
            self._earliest_s = plan_by_s
        return request

    def has_room_for_all(self, n_ahead: int) -> bool:
        """Tell whether any surface has room, without weighing, after `n_ahead` more requests about one item each."""
        return self._work_s + n_ahead * self.rooms.one_s(1, Mode.MODEL) <= self.rooms.least_free_s

    def has_room_for(self, surface: str, n_ahead: Sequence[int], now_s: float) -> bool:
        """Tell whether `add` would take in a request about one item, which has not been read yet.

        Parameters
        ----------
        surface
            Name of its surface.
        n_ahead
            By level, how many requests were let in and have not been added yet; each counts as one about one item.
        now_s
            The time.

        Raises
        ------
        KeyError
            If there is no such surface.
        """
        room = self.rooms.by_surface[surface]
        one_s = self.rooms.one_s(1, Mode.MODEL)
        if self._work_s + one_s * sum(n_ahead) <= room.free_s:
            return True
        above_s = one_s * sum(n_ahead[: room.level])
        if self.rooms.admits(room, 1, Mode.MODEL, now_s, above_s, one_s * n_ahead[room.level]):
            return True
        self.rooms.close_below(room.level, now_s)
        return False

    def retry_after_s(self, now_s: float) -> float:
        """Return when to come back for a request about one item that was refused before it was read."""
        self._n_outside += UNREAD_SHARE
        return self._retry_after.next_s(self.rooms.one_s(1, Mode.MODEL), self._work_s, now_s)

    def next(self, now_s: float) -> Turn:
        """Return the next turn, empty if nothing waits. Every request in it is out of the scheduler's hands."""
        self._now_s = now_s
        self._turn_took_s = 0.0
        if now_s - self._measured_s > BUSY_EVERY_S:
            self._measure(now_s)
        work_s = self._work_s + self._fixed_s
        if (
            work_s > self._turn_s
            or now_s + work_s * MARGIN > self._earliest_s
            or now_s < self.rooms.closed_until_s
            or not self.costs[Mode.MODEL].is_known
        ):
            return self._plan(now_s)
        compute: list[Waiting] = []
        for waiting in self.rooms.classes:
            if waiting.n_waiting:
                waiting.take_all(compute)
        self._empty()
        return Turn(compute, [], work_s if compute else 0.0)

    def observe(self, mode: Mode, n_items: int, took_s: float, n_requests: int = 1) -> None:
        """Take in what a batch took, after each of a turn; also of the refusals, whose `n_items` do not count.

        The seconds of all batches of a turn should add up to the turn, with what they share (decoding, log, answers)
        given to the biggest: what is not observed is not planned for.
        """
        self.costs[mode].learn(n_requests, 0 if mode is Mode.REFUSED else n_items, took_s, self._now_s)
        self._turn_took_s += took_s

    def observe_lag(self, lag_s: float) -> None:
        """Take in by how much the event loop is late, once a tick before `next`; the turn before explains its part."""
        self.rooms.observe_lag(lag_s - self._turn_took_s, self._now_s)

    def observe_outside(self, outside_s: float) -> None:
        """Take in what the event loop did between turns: reading, parsing, writing and refusing, in seconds of CPU.

        An answer costs its part of that beside its part of a batch, while it waits and in its turn.
        """
        self._outside_s += outside_s

    def forget(self, request: Waiting) -> bool:
        """Drop a request whose client has gone; tell whether it was still waiting."""
        if request.state is not State.WAITING:
            return False
        self._work_s -= request.work_s
        request.state = State.FORGOTTEN
        request.payload = None
        self.rooms.classes[request.level].drop(request)
        return True

    def _empty(self) -> None:
        self._work_s = 0.0
        self._earliest_s = math.inf
        self._fixed_s = sum(self.costs[rung].fixed_s for rung in RUNGS)

    def _measure(self, now_s: float) -> None:
        """Tell the rooms how the time since the last call was used, and begin to count anew."""
        self.rooms.measure(now_s - self._measured_s, now_s)
        self._measured_s = now_s
        if self._n_outside >= MIN_OUTSIDE:
            self.rooms.learn_outside(self._outside_s / self._n_outside)
        self._outside_s = self._n_outside = 0.0

    def _shorter_s(self, n_items: int, highest: Mode, work_s: float) -> float:
        """Return the work of a request that is too long for its highest rung: that of the first that is not."""
        found = [self.rooms.one_s(n_items, mode) for mode in RUNGS if mode > highest]
        return next((one_s for one_s in found if one_s <= self._alone_s), min(found, default=work_s))

    def _plan(self, now_s: float) -> Turn:
        """Fill a turn request by request: more waits than fits, or something is short of time."""
        plan = TurnPlan(self.costs, now_s, self._turn_s, self._alone_s, self.rooms.outside_s)
        for waiting in self.rooms.classes:
            if now_s < waiting.closed_until_s:
                self._evict(plan, waiting)
            elif not self._fill(plan, waiting):
                break
        self._expire(plan)
        if not self.n_waiting:
            self._empty()
        return plan.finish()

    def _fill(self, plan: TurnPlan, waiting: WaitingClass) -> bool:
        """Take requests of a class until none waits; False if the turn is full before."""
        while (request := waiting.head()) is not None:
            if not plan.has_room_to_refuse():
                return False
            added_s = plan.take(request, self.rooms.relieve(request))
            if added_s is None:
                return False
            if request.mode is Mode.REFUSED:
                self._refuse_head(plan, waiting, request, request.why)
            else:
                waiting.take_head(State.TAKEN, added_s)
                self._work_s -= request.work_s
        return True

    def _refuse_head(self, plan: TurnPlan, waiting: WaitingClass, request: Waiting, why: str) -> None:
        waiting.take_head(State.REFUSED, 0.0)
        self._work_s -= request.work_s
        plan.add_refusal(request, why, self._retry_after.next_s(request.work_s, self._work_s, plan.now_s))
        allowed_s = request.deadline_s - request.arrived_s
        if allowed_s > 2 * self._turn_s + request.work_s * MARGIN:
            self.rooms.close_below(request.level, plan.now_s)

    def _evict(self, plan: TurnPlan, waiting: WaitingClass) -> None:
        """Refuse all of a closed class: it will not be its turn before a more critical class is well."""
        while (request := waiting.head()) is not None and plan.has_room_to_refuse():
            self._refuse_head(plan, waiting, request, OVERLOAD)

    def _expire(self, plan: TurnPlan) -> None:
        """Refuse whom even the cheapest rung cannot answer in time after this turn."""
        least_s = plan.work_s + self.costs[Mode.RULES].predict_s(1, 1)
        for waiting in self.rooms.classes:
            while (request := waiting.head()) is not None and plan.has_room_to_refuse():
                if plan.now_s + least_s <= request.deadline_s:
                    break
                self._refuse_head(plan, waiting, request, DEADLINE)
