"""A server with one event loop, simulated on a virtual clock: it reads, asks the scheduler, computes, answers.

Clients see their own clock: a request is in time if its answer leaves within the latency budget after it was *sent*,
while the server stamps it when it is read, which is later by the lag of the loop.
"""

import heapq
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from flightdeck.inference.modes import Mode
from flightdeck.inference.scheduler import Scheduler
from flightdeck.inference.surface_policy import AdmissionSettings, Criticality, LatencyBudget, SurfacePolicy
from flightdeck.inference.waiting import Refusal, Waiting

POLICIES = {
    "alerts": SurfacePolicy(Criticality.CRITICAL, LatencyBudget(150, 20, 2000)),
    "itinerary": SurfacePolicy(Criticality.NORMAL, LatencyBudget(200, 20, 2000)),
    "search": SurfacePolicy(Criticality.SHEDDABLE, LatencyBudget(300, 20, 2000)),
}
SETTINGS = AdmissionSettings(turn_ms=5, alone_ms=40)
Took = Callable[[Mode, int, int, float], float]


@dataclass(frozen=True, order=True)
class Sent:
    """A request on its way."""

    at_s: float
    place: int
    surface: str
    n_items: int = 1
    n_tries_left: int = 0


@dataclass
class Outcome:
    """What became of one request."""

    sent: Sent
    read_s: float
    left_s: float
    mode: Mode
    why: str = ""
    deadline_s: float = 0.0
    turn_s: float = 0.0

    @property
    def is_in_time(self) -> bool:
        """Whether its client had the answer within the budget."""
        budget_s = POLICIES[self.sent.surface].latency_budget_ms.default / 1e3
        return self.mode is not Mode.REFUSED and self.left_s <= self.sent.at_s + budget_s


@dataclass
class Run:
    """What a simulated server did."""

    scheduler: Scheduler
    outcomes: list[Outcome] = field(default_factory=list)
    admitted: list[tuple[float, str]] = field(default_factory=list)

    def of(self, surface: str, from_s: float = 0.0, until_s: float = float("inf")) -> list[Outcome]:
        """Return the outcomes of a surface by the time of sending."""
        return [o for o in self.outcomes if o.sent.surface == surface and from_s <= o.sent.at_s < until_s]

    def in_time(self, surface: str, from_s: float = 0.0, until_s: float = float("inf")) -> float:
        """Return the share of a surface's requests that were answered in time."""
        found = self.of(surface, from_s, until_s)
        return sum(o.is_in_time for o in found) / len(found)

    def goodput_per_s(self, from_s: float, until_s: float, mode: Mode | None = None) -> float:
        """Return the answers in time a second, of one mode or all."""
        good = [o for o in self.outcomes if o.is_in_time and from_s <= o.left_s < until_s]
        return sum(mode is None or o.mode is mode for o in good) / (until_s - from_s)

    def modes(self, surface: str) -> Counter[str]:
        """Count the modes of a surface."""
        return Counter(o.mode.label for o in self.of(surface))


def poisson(surface: str, per_s: float, from_s: float, until_s: float, seed: int, n_items: int = 1) -> list[Sent]:
    """Return requests at random times."""
    chance = random.Random(seed)
    found: list[Sent] = []
    at_s = from_s + chance.expovariate(per_s)
    while at_s < until_s:
        found.append(Sent(at_s, seed * 10_000_000 + len(found), surface, n_items))
        at_s += chance.expovariate(per_s)
    return found


def costs(model_s: float, fallback_s: float, rules_s: float, request_s: float = 0.0) -> Took:
    """Return times of batches: a tenth of a millisecond and some for each item and request, with some noise."""
    chance = random.Random(0)
    per_item = (model_s, fallback_s, rules_s)

    def took_s(mode: Mode, n_requests: int, n_items: int, now_s: float) -> float:
        return (1e-4 + n_requests * request_s + n_items * per_item[mode]) * chance.lognormvariate(0.0, 0.1)

    return took_s


def serve(
    arrivals: Iterable[Sent],
    took: Took,
    *,
    read_s: float = 0.0,
    refuse_s: float = 0.0,
    retry_s: tuple[float, float] | None = None,
    warm_up: bool = True,
) -> Run:
    """Serve all arrivals; a refused client with tries left comes back after a random time between `retry_s`.

    Parameters
    ----------
    arrivals
        What is sent, in any order.
    took
        What a batch really takes: mode, requests, items and time to seconds.
    read_s, refuse_s
        What reading a request costs, and refusing one.
    retry_s
        Bounds of the clients' pause; None if they obey Retry-After.
    warm_up
        Whether each rung was tried before traffic came, as a server does while it loads a bundle.
    """
    run = Run(Scheduler(POLICIES, SETTINGS))
    queue, chance, now_s = sorted(arrivals), random.Random(1), 0.0
    if warm_up:
        for mode in (Mode.MODEL, Mode.FALLBACK, Mode.RULES):
            for n_items in (1, 8, 1, 8, 1, 8):
                run.scheduler.observe(mode, n_items, took(mode, 1, n_items, 0.0))

    def refuse(sent: Sent, read_at_s: float, why: str, retry_after_s: float) -> None:
        run.outcomes.append(Outcome(sent, read_at_s, now_s, Mode.REFUSED, why))
        if sent.n_tries_left:
            pause_s = chance.uniform(*retry_s) if retry_s else retry_after_s
            back = Sent(now_s + pause_s, sent.place, sent.surface, sent.n_items, sent.n_tries_left - 1)
            heapq.heappush(queue, back)

    while queue or run.scheduler.n_waiting:
        if not run.scheduler.n_waiting and queue[0].at_s > now_s:
            now_s = queue[0].at_s
        lag_s = max(now_s - queue[0].at_s, 0.0) if queue else 0.0
        due, read_from_s = list(_due(queue, now_s)), now_s
        for sent in due:
            now_s += read_s
            budget_s = POLICIES[sent.surface].latency_budget_ms.default / 1e3
            added = run.scheduler.add(sent.surface, sent.n_items, now_s, now_s + budget_s, sent)
            if isinstance(added, Refusal):
                now_s += refuse_s
                refuse(sent, now_s, added.why, added.retry_after_s)
            else:
                run.admitted.append((now_s, sent.surface))
        began_s, outside_s = now_s, now_s - read_from_s
        run.scheduler.observe_lag(lag_s)
        run.scheduler.observe_outside(outside_s)
        turn = run.scheduler.next(now_s)
        for mode in (Mode.MODEL, Mode.FALLBACK, Mode.RULES):
            batch = [request for request in turn.compute if request.mode is mode]
            if batch:
                n_items = sum(request.n_items for request in batch)
                took_s = took(mode, len(batch), n_items, now_s)
                run.scheduler.observe(mode, n_items, took_s, len(batch))
                now_s += took_s
        for request in turn.refuse:
            now_s += refuse_s
            refuse(request.payload, request.arrived_s, request.why, request.retry_after_s)
        for request in turn.compute:
            run.outcomes.append(_answered(request, now_s, now_s - began_s))
    return run


def _due(queue: list[Sent], now_s: float) -> Iterator[Sent]:
    while queue and queue[0].at_s <= now_s:
        yield heapq.heappop(queue)


def _answered(request: Waiting, now_s: float, turn_s: float) -> Outcome:
    sent: Sent = request.payload
    return Outcome(sent, request.arrived_s, now_s, request.mode, request.why, request.deadline_s, turn_s)
