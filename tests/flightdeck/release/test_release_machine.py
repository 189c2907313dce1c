"""Whatever people do in whatever order: the ledger stays whole and the state stays legal."""

import tempfile
from datetime import UTC, datetime
from pathlib import Path

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from flightdeck.core.clock import VirtualClock
from flightdeck.core.errors import FlightdeckError, ReleaseRefused
from flightdeck.core.layout import PROJECT
from flightdeck.gates.policy import read_policies
from flightdeck.gates.verdict import Check, judge
from flightdeck.inference.bundle import Bundle
from flightdeck.release import commands
from flightdeck.release.ledger import Ledger
from flightdeck.release.state import CANARY, PROD, ReleaseState, fold
from tests.candidates import seal_tiny

POLICIES = read_policies(PROJECT / "conf")
FOLDER = tempfile.TemporaryDirectory(prefix="flightdeck-machine-")  # gone when the process ends
ROOT = Path(FOLDER.name)
BUNDLES = {n: seal_tiny(ROOT / f"draft-{n}", ROOT / "bundles", mark=str(n)) for n in range(1, 6)}
VERSIONS = st.integers(1, 6)
PEOPLE = st.sampled_from(["Ada", "Grace", "ada", ""])
STAGES = st.sampled_from([None, "candidate", "staging", "canary", "prod"])
SHARES = st.sampled_from([None, 0.01, 0.1, 0.5, 0.7])


class Release(RuleBasedStateMachine):
    """People at a release desk."""

    @initialize()
    def open_ledger(self) -> None:
        folder = Path(tempfile.mkdtemp(dir=ROOT))
        self.ledger = Ledger(folder / "ledger.sqlite", VirtualClock(datetime(2013, 9, 12, tzinfo=UTC)))
        self.before = ReleaseState()

    @rule(version=st.integers(1, 5), passed=st.booleans(), tier=st.sampled_from(["low", "medium", "high"]))
    def enter(self, version: int, passed: bool, tier: str) -> None:
        bundle: Bundle = BUNDLES[version]
        commands.register(self.ledger, version, bundle=bundle, model_name="m", tier=tier, by="pipeline")
        check = Check("auc", 0.5, 0.7, passed, blocking=True, detail="")
        verdict = judge(bundle.manifest.metadata["content_digest"], tier, [check], "")
        commands.record_verdict(self.ledger, version, verdict, bundle=bundle, by="pipeline")

    @rule(version=VERSIONS, by=PEOPLE)
    def approve(self, version: int, by: str) -> None:
        self.attempt(lambda: commands.approve(self.ledger, version, by=by, bundles=ROOT / "bundles"))

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
        self.promote(version, None, None)

    @rule()
    def rollback(self) -> None:
        self.attempt(lambda: commands.rollback(self.ledger, by="Ada", bundles=ROOT / "bundles"))

    @rule()
    def alert(self) -> None:
        self.ledger.append("alert", actor="monitoring", subject="-", detail={"name": "drift"})

    def attempt(self, act: object) -> None:
        """Do it; a refusal leaves the ledger as it was and says why."""
        head = self.ledger.head()
        try:
            assert callable(act)
            act()
        except FlightdeckError as error:
            assert isinstance(error, ReleaseRefused) or not self.ledger.exists()
            assert error.message
            assert self.ledger.head() == head
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
        assert stages.count(CANARY) <= 1
        assert all(state.versions[v].stage == "archived" for v in state.previous_champions)
        assert len(set(state.previous_champions)) == len(state.previous_champions)
        for version in state.versions.values():
            assert (version.canary_share > 0) == (version.stage == CANARY)
            if version.stage == CANARY:
                assert version.approved_by
                assert version.canary_share in POLICIES.tier(version.tier).canary_shares
        if self.before.champion is not None:
            assert state.champion is not None, "there is always a champion once there was one"
        self.before = state


Release.TestCase.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestRelease = Release.TestCase
