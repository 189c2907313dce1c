"""Whatever people do in whatever order: the ledger stays whole and the state stays legal."""

import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from flightdeck.core.clock import VirtualClock
from flightdeck.core.errors import ConfigError, FlightdeckError, ReleaseRefused
from flightdeck.core.layout import PROJECT
from flightdeck.gates.policy import read_policies
from flightdeck.gates.verdict import Check, judge
from flightdeck.inference.bundle import Bundle
from flightdeck.inference.routing import route
from flightdeck.release import rollout_commands, route_edits
from flightdeck.release.ledger import open_ledger
from flightdeck.release.moves import legal_moves, require_promotable, rollback_target
from flightdeck.release.route_commands import change_routes
from flightdeck.release.route_edits import Edit
from flightdeck.release.routing import routing_table
from flightdeck.release.stages import CANARY, FROZEN, PROD, ROUTABLE, SHADOW, ReleaseState
from flightdeck.release.state import fold
from tests import release_desk as commands
from tests.candidates import seal_tiny

POLICIES = read_policies(PROJECT / "conf")
FOLDER = tempfile.TemporaryDirectory(prefix="flightdeck-machine-")  # gone when the process ends
ROOT = Path(FOLDER.name)
BUNDLES = {n: seal_tiny(ROOT / f"draft-{n}", ROOT / "bundles", mark=str(n)) for n in range(1, 6)}
VERSIONS = st.integers(1, 6)
PEOPLE = st.sampled_from(["Ada", "Grace", "ada", ""])
STAGES = st.sampled_from([None, "candidate", "staging", "shadow", "canary", "prod"])
SHARES = st.sampled_from([None, 0.01, 0.1, 0.5, 0.7])
ROUTED_SHARES = st.sampled_from([0.1, 0.2, 0.3, 0.1, 0.2, 0.3, 1.0, -1.0, float("nan")])
NAMES = st.sampled_from(["x", "x", "y", "x", "y", "no name"])
ORIGINS = st.sampled_from([{"origin": ["EWR"]}, {"origin": ["EWR", "JFK"]}, {"origin": ["LGA"], "hour": ["6"]}, {}])


class Release(RuleBasedStateMachine):
    """People at a release desk."""

    @initialize(n_ready=st.integers(0, 5))
    def open_ledger(self, n_ready: int) -> None:
        """Begin with none or some versions in staging, approved: routes are for those."""
        folder = Path(tempfile.mkdtemp(dir=ROOT))
        self.clock = VirtualClock(datetime(2013, 9, 12, tzinfo=UTC))
        self.ledger = open_ledger(folder / "ledger.sqlite", self.clock)
        self.before = ReleaseState()
        for version in range(1, n_ready + 1):
            self.enter(version, passed=True, tier="medium")
            self.push_on(version)

    @rule(version=st.integers(1, 5), passed=st.booleans(), tier=st.sampled_from(["low", "medium", "high"]))
    def enter(self, version: int, passed: bool, tier: str) -> None:
        bundle: Bundle = BUNDLES[version]
        commands.register(self.ledger, version, bundle=bundle, model_name="m", tier=tier)
        check = Check("auc", 0.5, 0.7, passed, blocking=True, detail="")
        verdict = judge(bundle.manifest.metadata["content_digest"], tier, [check], "")
        commands.record_verdict(self.ledger, version, verdict, bundle=bundle)

    @rule(version=VERSIONS, by=PEOPLE)
    def approve(self, version: int, by: str) -> None:
        self.attempt(lambda: commands.approve(self.ledger, version, by=by, bundles=ROOT / "bundles"))

    @rule(version=VERSIONS, name=PEOPLE)
    def revoke(self, version: int, name: str) -> None:
        self.attempt(
            lambda: rollout_commands.revoke_approval(
                self.ledger, version, by=commands.person("Ada"), name=name, reason="no"
            )
        )

    @rule(version=VERSIONS, tier=st.sampled_from(["low", "medium", "high"]))
    def change_tier(self, version: int, tier: str) -> None:
        self.attempt(
            lambda: rollout_commands.change_tier(
                self.ledger, version, by=commands.person("Ada"), to=tier, policies=POLICIES, reason="risk"
            ),
        )

    @rule(version=VERSIONS, verdict=st.sampled_from(["pass", "pass", "fail", "inconclusive"]))
    def judge(self, version: int, verdict: str) -> None:
        self.attempt(lambda: commands.show_evidence(self.ledger, version, verdict))

    @rule(version=VERSIONS)
    def freeze(self, version: int) -> None:
        self.attempt(lambda: rollout_commands.freeze(self.ledger, version, by=commands.CONTROLLER, reason="no data"))

    @rule(version=VERSIONS)
    def thaw(self, version: int) -> None:
        self.attempt(lambda: rollout_commands.thaw(self.ledger, version, by=commands.person("Ada"), reason="mended"))

    @rule(version=VERSIONS, newer=VERSIONS)
    def supersede(self, version: int, newer: int) -> None:
        self.attempt(lambda: rollout_commands.supersede(self.ledger, version, by=commands.CONTROLLER, newer=newer))

    @rule(version=VERSIONS, to=st.none() | VERSIONS)
    def rehearse(self, version: int, to: int | None) -> None:
        self.attempt(
            lambda: rollout_commands.record_rehearsal(
                self.ledger, version, by=commands.CONTROLLER, to=to, duration_s=0.4
            )
        )

    @rule(hours=st.sampled_from([1.0, 30.0, 200.0]))
    def wait(self, hours: float) -> None:
        self.clock.advance_to(self.clock.now() + timedelta(hours=hours))

    @rule(version=VERSIONS)
    def reject(self, version: int) -> None:
        self.attempt(lambda: commands.reject(self.ledger, version, by="Ada", reason="no"))

    @rule(version=VERSIONS, to=STAGES, share=SHARES)
    def promote(self, version: int, to: str | None, share: float | None) -> None:
        self.attempt(
            lambda: commands.promote(
                self.ledger, version, by="Ada", policies=POLICIES, bundles=ROOT / "bundles", to=to, share=share
            )
        )

    @rule(version=st.integers(1, 5))
    def push_on(self, version: int) -> None:
        """Do what leads to prod, so that the deep states are met often."""
        for by in ("Ada", "Grace"):
            self.approve(version, by)
        state = fold(self.ledger.records())
        if version in state.versions and state.versions[version].stage in (SHADOW, CANARY):
            self.judge(version, "pass")
        self.rehearse(version, state.champion)
        self.promote(version, None, None)

    @rule()
    def rollback(self) -> None:
        self.attempt(lambda: commands.rollback(self.ledger, by="Ada", bundles=ROOT / "bundles"))

    @rule(version=VERSIONS, share=ROUTED_SHARES)
    def shadow(self, version: int, share: float) -> None:
        self.reroute(lambda state: route_edits.set_shadow(state, version, share))

    @rule(version=VERSIONS)
    def remove_shadow(self, version: int) -> None:
        self.reroute(lambda state: route_edits.remove_shadow(state, version))

    @rule(
        name=NAMES,
        arms=st.lists(
            st.tuples(st.sampled_from("abc"), st.integers(1, 5), ROUTED_SHARES),
            min_size=1,
            max_size=3,
            unique_by=lambda arm: arm[0],
        ),
        segment=st.sampled_from(["", "", "x", "y"]),
    )
    def experiment(self, name: str, arms: list[tuple[str, int, float]], segment: str) -> None:
        self.reroute(lambda state: route_edits.add_experiment(state, name, arms, segment))

    @rule(name=NAMES, arm=st.sampled_from("abc"), share=ROUTED_SHARES)
    def arm_share(self, name: str, arm: str, share: float) -> None:
        self.reroute(lambda state: route_edits.set_arm_share(state, name, arm, share))

    @rule(name=NAMES, where=ORIGINS, champion=st.none() | VERSIONS, before=st.none() | NAMES)
    def segment(self, name: str, where: dict[str, list[str]], champion: int | None, before: str | None) -> None:
        self.reroute(lambda state: route_edits.add_segment(state, name, where, champion=champion, before=before))

    @rule(name=NAMES, version=VERSIONS, share=SHARES)
    def segment_canary(self, name: str, version: int, share: float | None) -> None:
        self.reroute(lambda state: route_edits.set_segment_canary(state, name, version, POLICIES, share))

    @rule(
        name=NAMES,
        edit=st.sampled_from(
            [
                route_edits.promote_segment_canary,
                route_edits.roll_back_segment,
                route_edits.remove_segment,
                route_edits.remove_experiment,
            ]
        ),
    )
    def change_named(self, name: str, edit: Callable[[ReleaseState, str], Edit]) -> None:
        self.reroute(lambda state: edit(state, name))

    @rule(version=st.integers(1, 5), other=st.integers(1, 5))
    def route_on(self, version: int, other: int) -> None:
        """Do what leads to a full table, so that the deep states are met often."""
        self.segment("x", {"origin": ["EWR"]}, None, None)
        self.segment_canary("x", version, None)
        self.experiment("y", [("a", version, 0.2), ("b", other, 0.3)], "")
        self.shadow(other, 0.5)

    def reroute(self, edit: Callable[[ReleaseState], Edit]) -> None:
        self.attempt(
            lambda: change_routes(
                self.ledger,
                edit,
                by=commands.person("Ada"),
                policies=POLICIES,
                people=commands.PEOPLE,
                bundles=ROOT / "bundles",
            ),
        )

    @rule()
    def alert(self) -> None:
        self.ledger.append("alert", actor="monitoring", subject="-", detail={"name": "drift"})

    def attempt(self, act: object) -> None:
        """Do it; a refusal says why and leaves the ledger as it was, or with a record of the refusal alone."""
        head = self.ledger.head()
        try:
            assert callable(act)
            act()
        except FlightdeckError as error:
            assert isinstance(error, ReleaseRefused | ConfigError) or not self.ledger.exists()
            assert error.message
            said = self.ledger.records(after_seq=head) if self.ledger.exists() else []
            assert {record.action for record in said} <= {"refused"}
        else:
            assert self.ledger.head() == head + 1

    @invariant()
    def the_chain_holds(self) -> None:
        self.ledger.verify()

    @invariant()
    def the_state_is_legal(self) -> None:
        state = fold(self.ledger.records())
        stages = [version.stage for version in state.versions.values()]
        assert stages.count(PROD) <= 1
        live = [version.live_stage for version in state.versions.values()]
        assert live.count(CANARY) <= 1
        assert live.count(SHADOW) <= 1
        assert all(state.versions[v].stage == "archived" for v in state.previous_champions)
        assert len(set(state.previous_champions)) == len(state.previous_champions)
        for version in state.versions.values():
            assert (version.canary_share > 0) == (version.live_stage == CANARY)
            assert (version.stage == FROZEN) == bool(version.frozen_from)
        if self.before.champion is not None:
            assert state.champion is not None, "there is always a champion once there was one"
        self.before = state

    @invariant()
    def the_table_compiles_and_names_only_who_may_be_there(self) -> None:
        state = fold(self.ledger.records())
        table = routing_table(state)
        assert (table.champion, table.canary.version if table.canary else None) == (state.champion, state.canary)
        assert {state.versions[version].stage for version in table.versions} <= set(ROUTABLE)
        assert table.rules.deciders() == state.rules.deciders(), "a shadow decides nothing"
        origins = np.array(["EWR", "JFK", "LGA"] * 4, dtype=object)
        found = route(table, [f"unit-{n}" for n in range(12)], {"origin": origins, "hour": np.full(12, 6)})
        assert {found.routes[at].version for at in found.choice} <= {*table.versions, None}
        assert table.without(table.versions).versions == frozenset()

    @invariant()
    def what_is_called_legal_is_not_refused_for_its_stage(self) -> None:
        state = fold(self.ledger.records())
        for version in state.versions:
            stages = [
                to
                for to in ("staging", "shadow", "canary", "prod")
                if is_legal(partial(require_promotable, state, version, to))
            ]
            is_out = is_legal(partial(rollback_target, state)) and rollback_target(state)[0] == version
            moves = [
                move for move in legal_moves(state, version) if move not in ("approve", "reject", "freeze", "thaw")
            ]
            assert moves == [*(f"promote to {to}" for to in stages), *(["rollback"] if is_out else [])]


def is_legal(act: Callable[[], object]) -> bool:
    try:
        act()
    except ReleaseRefused:
        return False
    return True


Release.TestCase.settings = settings(
    max_examples=50, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestRelease = Release.TestCase
