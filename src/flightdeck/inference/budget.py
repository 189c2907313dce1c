"""Daily budgets of computing: which surfaces move to the fallback because too much was spent.

A budget is spent in weighted seconds of computing (`cost_weight` of its surface a second) within a UTC day. The rule
when one is spent: the least critical surface that may pay for it moves first, the next one at 5% over it, and so on; of
equally critical ones the one that spent most moves first. All surfaces pay for the budget over all of them. For the
budget of one surface those pay that are less critical, and last the surface itself. A surface that has moved stays so
until the day ends, because nothing is ever unspent.

Each of N workers has an Nth of every budget and knows nothing of the others. That needs nothing shared and errs to the
careful side: where connections are spread unevenly, the busiest worker moves its surfaces before the total is spent.
A worker that starts again goes on from what it saved (`saved`, `restore`); what was spent since then is forgotten.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from flightdeck.inference.surface_policy import SurfacePolicy

REASON = "budget"
DAY_US = 86_400_000_000
STEP = 0.05


class Spent(NamedTuple):
    """A budget and what was spent of it, both of this worker and in weighted seconds.

    Parameters
    ----------
    owner
        A surface, or `all`.
    """

    owner: str
    spent: float
    budget: float


class DailyBudget:
    """What one worker may spend.

    Parameters
    ----------
    policies
        Operation of each surface by name.
    total
        Budget over all surfaces and workers, None without one.
    n_workers
        How many workers share the budgets.

    Examples
    --------
    >>> from flightdeck.inference.surface_policy import read_surface_policies
    >>> budget = DailyBudget(read_surface_policies(environment={}), total=100.0, n_workers=1)
    >>> budget.charge("alerts", 99.0, at_us=0)
    >>> budget.over_budget(at_us=0)
    {}
    >>> budget.charge("search", 2.0, at_us=0)
    >>> budget.over_budget(at_us=0)
    {'search': 'budget of all: 101 of 100 spent, its turn at 100'}
    """

    def __init__(self, policies: Mapping[str, SurfacePolicy], *, total: float | None, n_workers: int) -> None:
        self._policies = dict(policies)
        self._budgets = {name: p.daily_budget / n_workers for name, p in policies.items() if p.daily_budget is not None}
        self._total = None if total is None else total / n_workers
        self._day = 0
        self._spent = dict.fromkeys(policies, 0.0)
        self._moved: dict[str, str] = {}
        self._is_judged = True

    def charge(self, surface: str, cost_s: float, at_us: int) -> None:
        """Charge `cost_s` seconds of computing at `at_us`, microseconds since the epoch."""
        self._turn_to(at_us)
        self._spent[surface] += cost_s * self._policies[surface].cost_weight
        self._is_judged = False

    def over_budget(self, at_us: int) -> dict[str, str]:
        """Return the surfaces that have moved to the fallback, each with the budget that made it move.

        Cost: a comparison, if nothing was charged since the last call.
        """
        self._turn_to(at_us)
        if not self._is_judged:
            self._moved = self._judge()
            self._is_judged = True
        return self._moved

    def spending(self) -> list[Spent]:
        """Return every budget with what was spent of it, for metrics."""
        own = [Spent(name, self._spent[name], budget) for name, budget in sorted(self._budgets.items())]
        return own if self._total is None else [Spent("all", sum(self._spent.values()), self._total), *own]

    def saved(self) -> dict[str, Any]:
        """Return the state that `restore` takes, as JSON values."""
        return {"day": self._day, "spent": dict(self._spent)}

    def restore(self, saved: Mapping[str, Any], at_us: int) -> bool:
        """Add a saved state to what was spent; tell whether it counts: of this day, and of the form of `saved`.

        Surfaces that are no longer there are left out.
        """
        spent = saved.get("spent")
        if saved.get("day") != at_us // DAY_US or not isinstance(spent, dict):
            return False
        known = {name: value for name, value in spent.items() if name in self._spent}
        if not all(type(value) in (int, float) and 0 <= value < float("inf") for value in known.values()):
            return False
        self._turn_to(at_us)
        for name, value in known.items():
            self._spent[name] += value
        self._is_judged = False
        return True

    def _turn_to(self, at_us: int) -> None:
        """Begin a new day if one has begun; a clock that was put back does not bring a day again."""
        day = at_us // DAY_US
        if day > self._day:
            self._day = day
            self._spent = dict.fromkeys(self._spent, 0.0)
            self._moved = {}
            self._is_judged = True

    def _judge(self) -> dict[str, str]:
        """Apply the rule to every budget; the first that moves a surface stays its reason."""
        moved = dict(self._moved)
        for owner, spent, budget in self.spending():
            for place, name in enumerate(self._payers(owner)):
                due = budget * (1 + STEP * place)
                if spent >= due:
                    text = f"{REASON} of {owner}: {spent:.6g} of {budget:.6g} spent, its turn at {due:.6g}"
                    moved.setdefault(name, text)
        return moved

    def _payers(self, owner: str) -> list[str]:
        """Return who pays for a budget, first who moves first."""
        level = {name: policy.criticality.level for name, policy in self._policies.items()}
        paying = [name for name in level if owner in ("all", name) or level[name] > level[owner]]
        return sorted(paying, key=lambda name: (-level[name], name not in self._moved, -self._spent[name], name))
