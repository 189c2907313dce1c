"""What a request may cost: its deadline, and the best rung that drill and budget leave it."""

import logging
from collections.abc import Mapping
from pathlib import Path

from flightdeck.core.clock import Clock, to_us
from flightdeck.inference.budget import REASON as BUDGET
from flightdeck.inference.budget import DailyBudget
from flightdeck.inference.deadline import DeadlineRule
from flightdeck.inference.drill import REASON as DRILL
from flightdeck.inference.drill import Drill, DrillReader
from flightdeck.inference.modes import Mode
from flightdeck.inference.surface_policy import AdmissionSettings, SurfacePolicy
from serving.spent import SpentFile

_log = logging.getLogger(__name__)


class Limits:
    """Deadlines, drill and budgets of one worker.

    Parameters
    ----------
    policies, settings
        Operation of each surface, and of the worker.
    drill
        File of the drill.
    spent
        Where this worker keeps what it spent of its budgets.
    clock
        Tells the day, and when a drill ends.
    n_workers
        How many workers share the budgets.
    """

    def __init__(
        self,
        policies: Mapping[str, SurfacePolicy],
        settings: AdmissionSettings,
        *,
        drill: Path,
        spent: SpentFile,
        clock: Clock,
        n_workers: int,
    ) -> None:
        self._rules = {name: DeadlineRule(policy.latency_budget_ms) for name, policy in policies.items()}
        self._budget = DailyBudget(policies, total=settings.daily_budget, n_workers=n_workers)
        self._drills = DrillReader(drill)
        self._spent = spent
        self._clock = clock
        self._drill: Drill | None = None
        self._over: dict[str, str] = {}
        self._budget.restore(spent.read(), to_us(clock.now()))
        self.look()

    @property
    def drill(self) -> Drill | None:
        """The drill that is on."""
        return self._drill

    @property
    def over_budget(self) -> dict[str, bool]:
        """For each surface whether it is over budget."""
        return {surface: surface in self._over for surface in self._rules}

    def look(self) -> None:
        """Look at drill and budgets again; called a few times a second."""
        now_us = to_us(self._clock.now())
        self._budget.restore(self._spent.take_over(), now_us)
        drill, over = self._drills.current(now_us), self._budget.over_budget(now_us)
        if drill != self._drill:
            _log.warning(
                "drill: %s", "none" if drill is None else f"{drill.mode.label} until {drill.until.isoformat()}"
            )
        for surface, why in over.items():
            if surface not in self._over:
                _log.warning("surface %s moves to the fallback model: %s", surface, why)
        self._drill, self._over = drill, over

    def save(self) -> None:
        """Keep what was spent, for the process that takes this one's place."""
        self._spent.write(self._budget.saved)

    def close(self) -> None:
        """Save, and let another process go on from there."""
        self.save()
        self._spent.release()

    def deadline_s(self, surface: str, arrived_s: float, timeout: bytes | None) -> float:
        """Return until when a request must be answered, on the clock of `arrived_s`."""
        return self._rules[surface].deadline_s(arrived_s, timeout)

    def highest(self, surface: str) -> tuple[Mode, str]:
        """Return the best rung that a request may have, and why it is not the model (empty: it is)."""
        if self._drill is not None and self._drill.covers(surface):
            return self._drill.mode, DRILL
        if surface in self._over:
            return Mode.FALLBACK, BUDGET
        return Mode.MODEL, ""

    def charge(self, items_by_surface: Mapping[str, int], took_s: float) -> dict[str, float]:
        """Charge the time of a batch to its surfaces by their items; return the seconds of each."""
        n_items, now_us = sum(items_by_surface.values()), to_us(self._clock.now())
        shares = {surface: took_s * n / n_items for surface, n in items_by_surface.items()}
        for surface, seconds in shares.items():
            self._budget.charge(surface, seconds, now_us)
        return shares
