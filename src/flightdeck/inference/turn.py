"""One turn of work: which requests are computed together, on which rung each, and which are refused.

All answers of a turn leave at its end. So a request fits if the whole turn ends before its own deadline, before the
earliest deadline among those already in it, and before the longest time that a turn may take.
"""

from collections.abc import Sequence
from typing import NamedTuple

from flightdeck.inference.modes import RUNGS, Mode
from flightdeck.inference.rung_cost import RungCost
from flightdeck.inference.waiting import DEADLINE, OVERLOAD, Waiting

MARGIN = 1.25
N_UNKNOWN = 8


class Turn(NamedTuple):
    """What to do now.

    Parameters
    ----------
    compute
        Requests to answer, each on the rung that its `mode` says; `why` says why it is not a higher one.
    refuse
        Requests to refuse, each with `why` and `retry_after_s`.
    work_s
        Predicted time of both.
    """

    compute: list[Waiting]
    refuse: list[Waiting]
    work_s: float


class TurnPlan:
    """A turn that is being filled.

    Parameters
    ----------
    costs
        By mode, the refusal last.
    now_s
        When it begins.
    turn_s
        How long it may take.
    alone_s
        How long it may take if it consists of one request, which no other arrangement would make shorter.
    outside_s
        What each request in it costs before and after it: reading and writing are part of a round of the event loop.
    """

    def __init__(
        self, costs: Sequence[RungCost], now_s: float, turn_s: float, alone_s: float, outside_s: float = 0.0
    ) -> None:
        self.compute: list[Waiting] = []
        self.refuse: list[Waiting] = []
        self.work_s = 0.0
        self.now_s = now_s
        self._costs = costs
        self._turn_s = turn_s
        self._alone_s = alone_s
        self._outside_s = outside_s
        self._refusal_s = costs[Mode.REFUSED].per_request_s + outside_s
        self._end_s = turn_s
        self._n_on = [0] * len(RUNGS)

    def has_room_to_refuse(self) -> bool:
        """Tell whether one more refusal fits."""
        return not (self.compute or self.refuse) or self.work_s + self._refusal_s < self._end_s

    def take(self, request: Waiting, relief: Mode) -> float | None:
        """Put a request into the turn, on the highest rung from `relief` on that is in time.

        Returns
        -------
        float | None
            Predicted seconds that it adds. None if there is no room for it in this turn. If no rung can be in time,
            its mode is `REFUSED` and it is not in the turn.
        """
        why = ""
        for mode in RUNGS[request.mode :]:
            cost = self._costs[mode]
            added_s = request.n_items * cost.per_item_s + cost.per_request_s + self._outside_s
            if not self._n_on[mode]:
                added_s += cost.fixed_s
            obstacle = OVERLOAD if mode < relief else self._obstacle(request, mode, added_s)
            if obstacle and self._is_trial(request, cost):
                cost.begin_trial(self.now_s)
                obstacle = ""
            if not obstacle:
                return self._place(request, mode, added_s, why) if self._has_room(cost, mode, added_s) else None
            why = why or obstacle
        request.mode, request.why = Mode.REFUSED, why
        return 0.0

    def add_refusal(self, request: Waiting, why: str, retry_after_s: float) -> None:
        """Put a request among the refused."""
        request.mode, request.why, request.retry_after_s = Mode.REFUSED, why, retry_after_s
        self.refuse.append(request)
        self.work_s += self._refusal_s

    def finish(self) -> Turn:
        """Return the turn."""
        return Turn(self.compute, self.refuse, self.work_s)

    def _obstacle(self, request: Waiting, mode: Mode, added_s: float) -> str:
        """Return why a rung is too slow for a request, empty if it is not."""
        if (self.work_s + added_s) * MARGIN > request.deadline_s - self.now_s:
            return DEADLINE
        return OVERLOAD if added_s > self._alone_s and mode is not Mode.RULES else ""

    def _is_trial(self, request: Waiting, cost: RungCost) -> bool:
        """Tell whether to try a rung that seems too slow on this request: the turn is empty, and it is not urgent."""
        is_urgent = request.deadline_s - self.now_s < 2 * self._turn_s
        return not self.compute and not is_urgent and cost.is_due(self.now_s, request.level)

    def _has_room(self, cost: RungCost, mode: Mode, added_s: float) -> bool:
        """Tell whether this turn holds it; an empty one holds everything, and few go to a rung of unknown cost."""
        if not self.compute:
            return True
        is_risky = not cost.is_known and self._n_on[mode] >= N_UNKNOWN
        return not is_risky and self.work_s + added_s <= self._end_s

    def _place(self, request: Waiting, mode: Mode, added_s: float, why: str) -> float:
        request.mode, request.why = mode, why
        self.compute.append(request)
        self._n_on[mode] += 1
        self.work_s += added_s
        self._end_s = min(self._end_s, (request.deadline_s - self.now_s) / MARGIN)
        return added_s
