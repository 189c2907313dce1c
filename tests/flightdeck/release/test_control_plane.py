"""Whatever people, pipeline, controllers, crashes and broken parts do in whatever order: the release stays legal.

Each run has a seed of its own, which is printed. The run of a seed again, with the shortest way to its failure::

    FLIGHTDECK_MACHINE_SEED=123 pytest tests/flightdeck/release/test_control_plane.py

`FLIGHTDECK_MACHINE_STEPS` asks for another number of steps than 100,000.
"""

import logging
import os
import secrets
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from flightdeck.core.errors import FlightdeckError
from flightdeck.release import commands, rollout_commands, route_edits
from flightdeck.release.reconciler import ALIASES
from flightdeck.release.route_edits import Edit
from flightdeck.release.stages import ReleaseState
from tests.control_plane import FIRST, SECOND, ControlPlane

N_STEPS = int(os.environ.get("FLIGHTDECK_MACHINE_STEPS", "100000"))
N_STEPS_A_RUN = 100
SEED = int(os.environ.get("FLIGHTDECK_MACHINE_SEED", "0")) or secrets.randbits(32)
APPENDED = ("ledger.inserted", "ledger.committed")
SPOTS = {
    "promote": APPENDED,
    "rollback": (*APPENDED, "order.decided", "file.written", "file.renamed", "order.written"),
    "look": (
        *APPENDED,
        "lease.recorded",
        "controller.seen",
        "controller.judged",
        "controller.promoted",
        "controller.rolled_back",
        "controller.frozen",
    ),
    "reconcile": (
        "reconcile.restored",
        "reconcile.reported",
        "reconcile.alias_set",
        "reconcile.stage_tagged",
        "reconcile.signed",
        "reconcile.head_left",
    ),
    "enter orders": (*APPENDED, "order.recorded", "order.removed"),
}
AT = st.integers(0, 7)
SAYS = st.sampled_from(["pass", "pass", "fail", "fail", "inconclusive", "freeze", "nothing"])
DECIDERS = st.sampled_from(["Max"] * 7 + ["Ada", "Olga", "controller"])
APPROVERS = st.sampled_from(["Ada", "Ada", "Grace", "Eve", "Max"])
TIERS = st.sampled_from(["low", "low", "medium", "high"])
SEGMENTS = st.sampled_from(["x", "y"])
done: Counter[str] = Counter()


class House(RuleBasedStateMachine):
    """One release desk and everything around it."""

    def __init__(self) -> None:
        super().__init__()
        self.plane = ControlPlane()
        self.n_broken = 0

    @initialize(n_ready=st.sampled_from([0, 1, 2, 2, 2, 3, 3]))
    def begin(self, n_ready: int) -> None:
        """Begin with a champion, with two, or with nothing."""
        for _ in range(n_ready):
            version = self.plane.enter()
            self.plane.approve(version, "Ada")
            self.plane.audit()
            while self.plane.state.champion != version:
                self.plane.promote(version, "Max", is_override=True)
                self.plane.audit()

    @rule(tier=TIERS, passed=st.sampled_from([True, True, True, False]), author=st.sampled_from(["", "Eve", "eve"]))
    def enter(self, tier: str, passed: bool, author: str) -> None:
        self.act("enter", lambda: self.plane.enter(tier=tier, passed=passed, author=author))

    @rule(at=AT, by=APPROVERS)
    def approve(self, at: int, by: str) -> None:
        self.act("approve", lambda: self.plane.approve(self.at(at), by))

    @rule(at=AT, by=DECIDERS, to=st.sampled_from([None, None, "shadow", "canary", "prod"]), supersede=st.booleans())
    def promote(self, at: int, by: str, to: str | None, supersede: bool) -> None:
        self.act("promote", lambda: self.plane.promote(self.at(at), by, to, supersede=supersede))

    @rule(at=AT, by=DECIDERS, is_emergency=st.booleans(), supersede=st.booleans())
    def force(self, at: int, by: str, is_emergency: bool, supersede: bool) -> None:
        self.act(
            "force",
            lambda: self.plane.promote(
                self.at(at), by, is_emergency=is_emergency, is_override=not is_emergency, supersede=supersede
            ),
        )

    @rule(at=AT)
    def push_on(self, at: int) -> None:
        """Do what leads on, so that the deep states are met often."""
        version = self.at(at)
        for by in ("Ada", "Grace"):
            self.act("approve", lambda by=by: self.plane.approve(version, by))  # type: ignore[misc]
        self.act("rehearse", lambda: self.plane.rehearse(version))
        self.act("look", lambda: self.plane.look("one", "pass"))
        self.act("promote", lambda: self.plane.promote(version, "Max"))

    @rule()
    def bring_canary(self) -> None:
        """Bring a new version as far as canary."""
        self.act("enter", lambda: self.plane.enter(tier="low"))
        version = max(self.plane.state.versions, default=1)
        self.act("approve", lambda: self.plane.approve(version, "Ada"))
        for _ in range(2):
            self.act("promote", lambda: self.plane.promote(version, "Max", supersede=True))

    @precondition(lambda self: self.has_way_back())
    @rule(by=st.sampled_from(["Max", "Max", "Olga", "Ada"]))
    def roll_back(self, by: str) -> None:
        self.act("rollback", lambda: self.plane.roll_back(by))

    @rule()
    def enter_orders(self) -> None:
        self.act("enter orders", self.plane.enter_orders)

    @rule(name=st.sampled_from(["one", "one", "one", "one", "two"]), says=SAYS)
    def look(self, name: str, says: str) -> None:
        self.act("look", lambda: self.plane.look(name, says))

    @rule(name=st.sampled_from(["one", "one", "one", "two"]), says=SAYS, at=AT, n=st.integers(0, 5))
    def race(self, name: str, says: str, at: int, n: int) -> None:
        """Let somebody be faster than the controller."""
        plane = self.plane
        max_, version = plane.who("Max"), self.at(at)
        live = plane.state.canary or plane.state.shadow or version
        others: list[Callable[[], object]] = [
            lambda: plane.roll_back("Max"),
            lambda: rollout_commands.freeze(plane.ledger, live, by=max_, reason="odd"),
            lambda: plane.promote(live, "Max", is_override=True),
            lambda: plane.promote(version, "Max", supersede=True),
            lambda: plane.look("two" if name == "one" else "one", says),
            lambda: commands.reject(plane.ledger, live, by=max_, reason="no"),
        ]
        if name not in plane.controllers:  # else the intruder would be faster than the lease
            self.act("look", lambda: plane.look(name, "inconclusive"))
        plane.disk.intruder = lambda: _unless_refused(others[n])
        self.act("race", lambda: plane.look(name, says))

    @rule(at=AT, n=st.integers(0, 7), by=st.sampled_from(["Max", "Ada", "controller"]))
    def decide(self, at: int, n: int, by: str) -> None:
        plane, version = self.plane, self.at(at)
        ledger, who = plane.ledger, plane.who(by)
        acts: list[Callable[[], object]] = [
            lambda: rollout_commands.freeze(ledger, version, by=who, reason="odd"),
            lambda: rollout_commands.thaw(ledger, version, by=who, reason="mended"),
            lambda: rollout_commands.supersede(ledger, version, by=who, newer=version + 1),
            lambda: commands.reject(ledger, version, by=who, reason="no"),
            lambda: rollout_commands.review(ledger, version, by=who, reason="looked at"),
            lambda: rollout_commands.revoke_approval(ledger, version, by=who, name="Grace", reason="no"),
            lambda: rollout_commands.change_tier(
                ledger, version, by=who, to="low", policies=plane.policies, reason="risk"
            ),
            lambda: plane.rehearse(version),
        ]
        self.act("decide", acts[n])

    @rule(name=SEGMENTS, at=AT, n=st.integers(0, 6))
    def route(self, name: str, at: int, n: int) -> None:
        policies, version = self.plane.policies, self.at(at)
        edits: list[Callable[[ReleaseState], Edit]] = [
            lambda state: route_edits.add_segment(state, name, {"origin": ["EWR"]}),
            lambda state: route_edits.set_segment_canary(state, name, version, policies),
            lambda state: route_edits.promote_segment_canary(state, name),
            lambda state: route_edits.roll_back_segment(state, name),
            lambda state: route_edits.remove_segment(state, name),
            lambda state: route_edits.set_shadow(state, version, 0.5),
            lambda state: route_edits.add_experiment(state, name, [("a", version, 0.2)]),
        ]
        self.act("route", lambda: self.plane.reroute(edits[n]))

    @rule()
    def reconcile(self) -> None:
        self.act("reconcile", self.plane.reconcile)

    @rule(alias=st.sampled_from(ALIASES), at=st.none() | AT)
    def touch_alias(self, alias: str, at: int | None) -> None:
        self.act("touch alias", lambda: self.plane.touch_alias(alias, None if at is None else self.at(at)))

    @rule(n_kept=st.integers(0, 3))
    def lose_versions(self, n_kept: int) -> None:
        """Bring the registry's database back from a backup."""
        if len(self.plane.registry.versions) > n_kept:
            self.plane.touched |= set(ALIASES)
        self.act("lose versions", lambda: self.plane.registry.lose(n_kept))

    @rule(
        spot=st.sampled_from([(w, s) for w, spots in SPOTS.items() for s in spots]), n_th=st.integers(1, 2), says=SAYS
    )
    def crash(self, spot: tuple[str, str], n_th: int, says: str) -> None:
        """End the process in the middle of something."""
        plane, version = self.plane, self.at(0)
        what, name = spot
        if what == "promote":
            self.act("approve", lambda: plane.approve(version, "Ada"))
        if what == "enter orders":
            self.order()
        plane.disk.is_full |= name.startswith(("order.d", "order.w", "file."))
        acts: dict[str, Callable[[], object]] = {
            "promote": lambda: plane.promote(version, "Max", is_override=True, supersede=True),
            "rollback": lambda: plane.roll_back("Max"),
            "look": lambda: plane.look("one", says),
            "reconcile": plane.reconcile,
            "enter orders": plane.enter_orders,
        }
        plane.crash_at(name, n_th)
        self.act("crash", acts[what])
        plane.disk.is_full = False

    @precondition(lambda self: self.has_way_back())
    @rule()
    def order(self) -> None:
        """Roll back while the ledger's disk is full."""
        self.plane.disk.is_full = True
        self.act("rollback", lambda: self.plane.roll_back("Max"))
        self.plane.disk.is_full = False

    @rule(n=st.integers(0, 4), at=AT)
    def break_down(self, n: int, at: int) -> None:
        plane = self.plane
        if n == 0:
            plane.disk.is_full = True
        elif n == 1:
            plane.disk.is_away = True
        elif n == 2:
            plane.registry.is_away = True
        elif n == 3 and self.at(at) in plane.state.versions:
            plane.shelf.altered.add(plane.state.versions[self.at(at)].digest)
        elif n == 4:
            plane.revoke("Grace")
        self.act("break down", lambda: None)
        self.n_broken = 5

    @rule()
    def mend(self) -> None:
        self.plane.mend()
        self.act("mend", lambda: None)

    @rule(policies=st.sampled_from([FIRST, FIRST, SECOND]))
    def rule_anew(self, policies: Any) -> None:
        self.plane.change_policies(policies)
        self.plane.revoke()
        self.act("rule anew", lambda: None)

    @rule(hours=st.sampled_from([0.02, 0.5, 5.0, 60.0]))
    def wait(self, hours: float) -> None:
        self.plane.clock.advance_to(self.plane.clock.now() + timedelta(hours=hours))
        self.act("wait", lambda: None)

    def teardown(self) -> None:
        """Mend everything: one run of what runs normally brings all of it together."""
        plane = self.plane
        plane.mend()
        try:
            if plane.ledger.exists():
                plane.enter_orders()
            plane.audit()
            plane.ledger.verify()
            if {v.version: v.digest for v in plane.state.versions.values()}.items() <= plane.registry.versions.items():
                plane.reconcile()
            done["promotions and rollbacks"] += plane.auditor.n_moves
            done["crashes"] += plane.n_crashed
            done["refusals"] += plane.n_refused
        finally:
            plane.close()

    def act(self, what: str, act: Callable[[], object]) -> None:
        self.n_broken -= 1
        if self.n_broken == 0:
            self.plane.mend()
        done["steps"] += 1
        done[what] += 1
        self.plane.attempt(act)

    def has_way_back(self) -> bool:
        """Tell whether there is something to roll back; that nothing is refused is known after a few times."""
        state = self.plane.state
        return bool(state.previous_champions) or state.canary is not None

    def at(self, place: int) -> int:
        """Return a version: first what is under way, then the newest ones."""
        state = self.plane.state
        live = [version for version in (state.canary, state.shadow) if version is not None]
        if place < 3 and live:
            return live[place % len(live)]
        versions = sorted(state.versions)
        return versions[-1 - place % len(versions)] if versions else 1


def _unless_refused(act: Callable[[], object]) -> None:
    try:
        act()
        done["races won"] += 1
    except FlightdeckError:
        done["races lost"] += 1


def test_whatever_happens_the_release_stays_legal(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "flightdeck")  # tens of thousands of warnings would be kept
    print(f"FLIGHTDECK_MACHINE_SEED={SEED}")
    run_settings = settings(
        max_examples=max(1, N_STEPS // N_STEPS_A_RUN),
        stateful_step_count=N_STEPS_A_RUN,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    done.clear()
    run_state_machine_as_test(seed(SEED)(House), settings=run_settings)
    print(dict(done))
    assert done["steps"] >= N_STEPS, f"{done['steps']:,} steps were made, {N_STEPS:,} are asked for"
    assert min(done[what] for what in ("promotions and rollbacks", "crashes", "refusals", "reconcile")) > N_STEPS // 200
