"""Consent that becomes void while a promotion is under way: before it begins, between its steps, before its record."""

import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from flightdeck.core.clock import VirtualClock
from flightdeck.core.errors import ReleaseRefused
from flightdeck.gates.policy import Policies
from flightdeck.gates.verdict import Check, judge
from flightdeck.release import commands, rollout_commands
from flightdeck.release.decisions import current_state
from flightdeck.release.people import Listed, People
from flightdeck.release.record import Record
from flightdeck.release.requirements import valid_approvals
from flightdeck.release.sqlite_ledger import SqliteLedger
from flightdeck.release.stages import STAGING
from flightdeck.release.state import fold
from tests import release_desk
from tests.candidates import seal_tiny
from tests.release_desk import PEOPLE, POLICIES

NOON = datetime(2013, 9, 12, 12, tzinfo=UTC)
N_SEEDS, N_EACH = 20, 50
ADA, BOB, MARY = "Ada", "Bob", "Mary"
LISTED: People = msgspec.structs.replace(
    PEOPLE, people={**PEOPLE.people, ADA: Listed(("reviewer",)), BOB: Listed(("reviewer", "risk-owner"))}
)
POINTS = ("before", "read", "clock", "append")
IN_LEDGER = ("approval revoked", "tier changed", "rejected", "approved again")
OUTSIDE = ("bundle changed", "policy changed", "person revoked", "expired")


@dataclass
class World:
    """Everything that a promotion looks at; it changes when told to.

    Parameters
    ----------
    folder
        With the ledger and the bundles.
    planned
        What happens, by the point of the promotion at which it happens.
    """

    folder: Path
    planned: dict[str, list[str]]
    policies: Policies = POLICIES
    people: People = LISTED
    clock: VirtualClock = field(default_factory=lambda: VirtualClock(NOON))
    happened: list[str] = field(default_factory=list)

    def reach(self, point: str) -> None:
        """Let what is planned for a point happen, once."""
        for event in self.planned.pop(point, []):
            self.happened.append(event)
            self._happen(event)

    def _happen(self, event: str) -> None:
        ledger = SqliteLedger(self.folder / "ledger.sqlite", self.clock)
        by = release_desk.person
        try:
            if event == "approval revoked":
                rollout_commands.revoke_approval(ledger, 1, by=by(MARY), name=ADA, reason="w")
            elif event == "tier changed":
                rollout_commands.change_tier(ledger, 1, by=by(BOB), to="low", policies=self.policies, reason="w")
            elif event == "rejected":
                commands.reject(ledger, 1, by=by(BOB), reason="w")
            elif event == "approved again":
                self._approve(ledger)
            elif event == "bundle changed":
                path = next(self.folder.glob("bundles/*/rules.json"))
                path.chmod(0o644)
                path.write_bytes(path.read_bytes() + b" ")
            elif event == "policy changed":
                low, medium = self.policies.tier("low"), self.policies.tier("medium")
                stricter = msgspec.structs.replace(medium.approvals, valid_for_h=medium.approvals.valid_for_h - 1)
                changed = msgspec.structs.replace(medium, approvals=stricter)
                self.policies = msgspec.structs.replace(self.policies, low=low, medium=changed)
            elif event == "person revoked":
                self.people = msgspec.structs.replace(
                    self.people, people={**self.people.people, ADA: Listed(("reviewer",), revoked=True)}
                )
            else:
                self.clock.advance_to(self.clock.now() + timedelta(hours=169))
        except ReleaseRefused:
            self.happened[-1] = f"{event}: refused"

    def _approve(self, ledger: SqliteLedger) -> None:
        bob = self.people.identify(BOB)
        commands.approve(ledger, 1, by=bob, policies=self.policies, bundles=self.folder / "bundles")


class WatchedClock:
    """The clock of a promotion."""

    def __init__(self, world: World) -> None:
        self._world = world

    def now(self) -> datetime:
        self._world.reach("clock")
        return self._world.clock.now()


class WatchedLedger(SqliteLedger):
    """The ledger of a promotion."""

    def __init__(self, world: World) -> None:
        super().__init__(world.folder / "ledger.sqlite", WatchedClock(world))
        self._world = world

    def records(self, after_seq: int = 0, *, after_digest: str | None = None) -> list[Record]:
        found = super().records(after_seq, after_digest=after_digest)
        self._world.reach("read")
        return found

    def append(self, action: str, **given: object) -> Record:  # type: ignore[override]
        if action == "promoted":
            self._world.reach("append")
        return super().append(action, **given)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a version in staging that Ada has approved."""
    folder = tmp_path_factory.mktemp("world") / "prepared"
    ledger = SqliteLedger(folder / "ledger.sqlite", VirtualClock(NOON))
    bundle = seal_tiny(folder / "draft", folder / "bundles", mark="one")
    release_desk.register(ledger, 1, bundle=bundle, model_name="flight-delay", tier="medium")
    check = Check("auc_15", 0.8, 0.77, passed=True, blocking=True, detail="")
    verdict = judge(bundle.manifest.metadata["content_digest"], "medium", [check], NOON.isoformat())
    release_desk.record_verdict(ledger, 1, verdict, bundle=bundle)
    release_desk.promote(ledger, 1, by=MARY, bundles=folder / "bundles")
    commands.approve(ledger, 1, by=LISTED.identify(ADA), policies=POLICIES, bundles=folder / "bundles")
    return folder


@pytest.fixture
def new_world(prepared: Path, tmp_path: Path) -> Callable[[dict[str, list[str]]], World]:
    folders: Iterator[Path] = (tmp_path / str(number) for number in range(10_000))

    def new_world(planned: dict[str, list[str]]) -> World:
        folder = next(folders)
        shutil.copytree(prepared, folder)
        return World(folder, planned)

    return new_world


def promote(world: World) -> Record | None:
    """Promote as the command line does: what is asked of a version is read first."""
    world.reach("before")
    policies, people = world.policies, world.people
    try:
        return commands.promote(
            WatchedLedger(world),
            1,
            by=release_desk.person(MARY),
            policies=policies,
            people=people,
            bundles=world.folder / "bundles",
        )
    except ReleaseRefused:
        return None


@pytest.mark.parametrize("seed", range(N_SEEDS))
def test_no_promotion_rests_on_consent_that_was_void_when_it_was_recorded(
    seed: int, new_world: Callable[[dict[str, list[str]]], World]
) -> None:
    rng = random.Random(seed)
    for _ in range(N_EACH):
        planned: dict[str, list[str]] = {}
        for event in rng.sample(IN_LEDGER + OUTSIDE, rng.randint(0, 3)):
            planned.setdefault(rng.choice(POINTS), []).append(event)
        told = {point: list(events) for point, events in planned.items()}
        world = new_world(planned)
        first = told.get("before", [])
        record = promote(world)
        if record is None:
            assert world.happened, "nothing happened, and the promotion was refused"
            continue
        records = world_records(world)
        before = fold([known for known in records if known.seq < record.seq]).versions[1]
        policies = POLICIES if "policy changed" not in first else world.policies
        people = LISTED if "person revoked" not in first else world.people
        counting = valid_approvals(before, policies.tier(before.tier), people, record.recorded_at)
        assert before.stage == STAGING and counting, told
        assert record.detail["policy_digest"] == policies.tier(before.tier).digest
        assert "bundle changed" not in first, told


def world_records(world: World) -> list[Record]:
    return SqliteLedger(world.folder / "ledger.sqlite", world.clock).records()


@pytest.mark.parametrize("event", [*IN_LEDGER[:3], "expired"])
@pytest.mark.parametrize("point", POINTS)
def test_what_voids_consent_stops_a_promotion_at_every_point(
    event: str, point: str, new_world: Callable[[dict[str, list[str]]], World]
) -> None:
    world = new_world({point: [event]})
    assert promote(world) is None
    assert world.happened == [event]
    assert current_state(SqliteLedger(world.folder / "ledger.sqlite", world.clock)).canary is None


@pytest.mark.parametrize("event", OUTSIDE)
def test_what_voids_consent_outside_of_the_ledger_stops_a_promotion_and_is_recorded(
    event: str, new_world: Callable[[dict[str, list[str]]], World]
) -> None:
    world = new_world({"before": [event]})
    assert promote(world) is None
    last = world_records(world)[-1]
    if event == "bundle changed":
        assert last.action == "approved"
    else:
        assert (last.action, last.actor, last.detail["what"]) == ("refused", MARY, "promote")
        assert "does not count" in last.detail["reason"]


def test_nothing_happens_and_the_promotion_succeeds(new_world: Callable[[dict[str, list[str]]], World]) -> None:
    record = promote(new_world({}))
    assert record is not None and record.detail["to"] == "canary"
