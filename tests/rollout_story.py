"""A release with a history: shadow, a freeze, canary steps, a rollback, routes and refusals, by the real commands."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from flightdeck.core.clock import VirtualClock
from flightdeck.core.errors import ReleaseRefused
from flightdeck.core.layout import Layout
from flightdeck.release import commands, rollout_commands, route_edits
from flightdeck.release.decisions import current_state
from flightdeck.release.ledger import Ledger
from flightdeck.release.route_commands import change_routes
from flightdeck.release.stages import ReleaseState
from tests import release_desk as desk
from tests.dashboards.data_root import DAY, enter

SHADOW_METRICS: dict[str, Any] = {
    "n_matched": 5000,
    "n_failed": 3,
    "n_unscored": 0,
    "groups": {
        "all": {"n": 5000, "mean_difference": 0.004, "mean_absolute_difference": 0.011},
        "origin=EWR": {"n": 1800, "mean_difference": 0.006, "mean_absolute_difference": 0.012},
        "origin=JFK": {"n": 1700, "mean_difference": -0.002, "mean_absolute_difference": 0.010},
        "origin=LGA": {"n": 1500, "mean_difference": 0.008, "mean_absolute_difference": 0.013},
    },
    "champion_p95_ms": 6.1,
    "shadow_p95_ms": 6.6,
}
CANARY_METRICS: dict[str, Any] = {
    name: {
        "outcome": "pass",
        "log_e_worse": 0.3,
        "log_e_fine": fine,
        "n_canary": 400,
        "n_champion": 3600,
        "worse_at_s": None,
        "reason": f"{name}: shown to be within the margin",
    }
    for name, fine in (("errors", 7.2), ("latency", 9.1), ("predictions", 7.9))
}


class Story:
    """Moves versions on, an hour between any two steps.

    Parameters
    ----------
    where
        Data root with champion 1 and candidate 2 that `write_data_root` made.
    """

    def __init__(self, where: Layout, ledger: Ledger) -> None:
        self.where, self.ledger = where, ledger
        self.clock = VirtualClock(DAY)
        ledger.clock = self.clock
        self.controller = desk.CONTROLLER
        self.ada = desk.person("Ada Lovelace")

    def later(self, hours: float = 1.0) -> None:
        self.clock.advance_to(self.clock.now() + timedelta(hours=hours))

    def judge(self, version: int, verdict: str, metrics: dict[str, Any], n_requests: int = 5003) -> None:
        current = current_state(self.ledger).versions[version]
        self.later()
        rollout_commands.record_evidence(
            self.ledger,
            version,
            by=self.controller,
            entered_seq=current.entered_seq,
            verdict=verdict,
            n_requests=n_requests,
            metrics=metrics,
        )

    def promote(self, version: int, **more: Any) -> None:
        self.later()
        commands.promote(
            self.ledger,
            version,
            by=self.controller if not more else self.ada,
            policies=desk.POLICIES,
            people=desk.PEOPLE,
            bundles=self.where.bundles,
            **more,
        )

    def route(self, edit: Callable[[ReleaseState], route_edits.Edit]) -> None:
        self.later()
        change_routes(
            self.ledger,
            edit,
            by=self.ada,
            policies=desk.POLICIES,
            people=desk.PEOPLE,
            bundles=self.where.bundles,
            reason="to compare",
        )

    def tell(self, drafts: Path) -> None:
        """Roll candidate 3 back, bring candidate 2 to a canary of 50% by way of a freeze, and add routes."""
        enter(self.where, self.ledger, 3, drafts)
        for version in (2, 3):
            desk.approve(self.ledger, version, by="Mary Jackson", bundles=self.where.bundles, reason="better in winter")
        try:
            desk.approve(self.ledger, 3, by="Mary Jackson", bundles=self.where.bundles)
        except ReleaseRefused:
            pass
        else:
            raise AssertionError("approving twice is refused")
        self.to_canary(3)
        self.later(2)
        failed = CANARY_METRICS | {"errors": CANARY_METRICS["errors"] | {"outcome": "fail", "reason": "14 failed"}}
        commands.rollback(
            self.ledger,
            by=self.controller,
            reason="errors: 14 of 120 failed",
            only=3,
            evidence={"n_requests": 120, "metrics": failed},
        )
        self.to_canary(2)
        self.judge(2, "inconclusive", CANARY_METRICS, 200)
        self.later()
        rollout_commands.freeze(self.ledger, 2, by=self.controller, reason="no data for 10 minutes")
        self.later(3)
        rollout_commands.thaw(self.ledger, 2, by=self.ada, reason="the feed was down, not the model")
        self.judge(2, "pass", CANARY_METRICS, 4000)
        self.promote(2)
        self.route(lambda state: route_edits.add_segment(state, "newark", {"origin": ["EWR"]}, champion=2))
        self.route(lambda state: route_edits.add_experiment(state, "colour", [("old", 1, 0.1), ("new", 2, 0.1)]))

    def to_canary(self, version: int) -> None:
        self.promote(version)
        self.promote(version)
        if current_state(self.ledger).versions[version].stage == "shadow":
            self.judge(version, "pass", SHADOW_METRICS)
            self.promote(version)
