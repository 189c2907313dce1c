"""The control plane in one process, on fakes that can fail: people, pipeline, two controllers, reconciler, orders.

An action is what somebody does: a command, a look of a controller, a run of the reconciler, or something that befalls
the house: a disk that is full, an alias moved by hand, a crash between two steps. After each of them `audit` compares
what the ledger took in with the rules (`release_auditor`), and the routing table with the state.
"""

import tempfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from flightdeck.core.clock import VirtualClock
from flightdeck.core.errors import ConfigError, FlightdeckError, LedgerUnusable, ReleaseRefused
from flightdeck.core.failpoints import arm
from flightdeck.core.layout import PROJECT
from flightdeck.gates.policy import Policies, read_policies
from flightdeck.gates.verdict import Check, judge
from flightdeck.release import commands, rollout_commands
from flightdeck.release.lease import Lease
from flightdeck.release.order_entry import enter_orders, roll_back
from flightdeck.release.orders import obey, read_orders
from flightdeck.release.people import Listed, People, Person, read_people
from flightdeck.release.reconciler import ALIASES, HEAD_TAG, expected_aliases, reconcile, restore_lost_versions
from flightdeck.release.registry import RegistryUnavailable
from flightdeck.release.rollout.controller import Controller, Desk
from flightdeck.release.route_commands import change_routes
from flightdeck.release.route_edits import Edit
from flightdeck.release.routing import routing_table
from flightdeck.release.stages import ReleaseState
from tests.release_auditor import Auditor
from tests.release_fakes import Disk, MemoryLedger, MemoryRegistry, MemoryShelf, MemoryTraffic

BEGIN = datetime(2013, 9, 12, tzinfo=UTC)
FIRST = read_policies(PROJECT / "conf")
SECOND = msgspec.structs.replace(
    FIRST,
    **{
        name: msgspec.structs.replace(FIRST.tier(name), approvals=msgspec.structs.replace(
            FIRST.tier(name).approvals, valid_for_h=48))
        for name in ("low", "medium", "high")
    },
)  # fmt: skip
STAFF = {
    "Ada": ("reviewer", "risk-owner"),
    "Grace": ("risk-owner",),
    "Eve": ("reviewer",),
    "Max": ("release-manager",),
    "Olga": ("operator",),
    "pipeline": ("pipeline",),
    "controller": ("controller",),
}
LEASE_S = 600.0
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - the orders are files: no disk is waited for


class Crash(BaseException):
    """The process ended here."""


class ControlPlane:
    """One house."""

    def __init__(self) -> None:
        self.clock = VirtualClock(BEGIN)
        self.disk, self.shelf, self.traffic = Disk(), MemoryShelf(), MemoryTraffic()
        self.ledger = MemoryLedger(self.disk, self.clock)
        self.registry = MemoryRegistry("flight-delay")
        self.policies, self.people = FIRST, _register(())
        self.auditor = Auditor(self.people)
        self.controllers: dict[str, tuple[Lease, Controller]] = {}
        self.given_orders: list[str] = []
        self.touched: set[str] = set()
        self._folder = tempfile.TemporaryDirectory(prefix="flightdeck-orders-", dir=MEMORY)
        self.orders = Path(self._folder.name) / "orders"
        self.ledger.orders = self.orders
        self.n_refused = self.n_crashed = 0

    def close(self) -> None:
        """Take the folder of the orders away."""
        arm("")
        self._folder.cleanup()

    @property
    def state(self) -> ReleaseState:
        """What the ledger amounted to when it was last looked at."""
        return self.auditor.state

    def who(self, name: str) -> Person:
        """Return a person whose name is established."""
        return self.people.identify(name, proof=f"key:{name}")

    def attempt(self, act: Callable[[], object]) -> None:
        """Do it; a refusal says why and leaves at most a record of itself, a crash leaves what it leaves."""
        head = self._head()
        self.clock.advance_to(self.clock.now() + timedelta(seconds=1))  # no two orders are of one moment
        try:
            act()
        except FlightdeckError as error:
            self.n_refused += 1
            assert error.message
            assert isinstance(error, ReleaseRefused | ConfigError | RegistryUnavailable) or not self.ledger.exists()
            assert not isinstance(error, LedgerUnusable) or self.disk.is_full or self.disk.is_away
            assert self.disk.is_away or self._head() - head <= 5 or isinstance(error, RegistryUnavailable)
        except Crash:
            self.n_crashed += 1
        finally:
            arm("")
            self.disk.intruder = None
        self.audit()

    def audit(self) -> None:
        """Compare everything that is new with the rules."""
        if self.disk.is_away:
            return
        self.auditor.look(self.ledger.records(self.state.seq, after_digest=self.state.digest), self.policies)
        state = obey(self.state, read_orders(self.orders))
        table = routing_table(state)
        assert (table.champion, table.canary.version if table.canary else None) == (state.champion, state.canary)
        assert (state.champion is None) == (self.state.champion is None), "no order leaves the house without a champion"
        if table.champion is not None:
            assert self.shelf.bundles[table.digests[table.champion]].digest == table.digests[table.champion]

    def enter(self, *, tier: str = "low", passed: bool = True, author: str = "") -> int:
        """Bring a new version from the pipeline, as `intake.enter_candidate` does, and return its number."""
        bundle, by = self.shelf.seal(f"v{len(self.shelf.bundles) + 1}"), self.who("pipeline")
        restore_lost_versions(self.state, self.registry, Path("bundles"))
        version = self.registry.register(bundle)
        name = self.registry.model_name
        commands.register(self.ledger, version, bundle=bundle, model_name=name, tier=tier, by=by, author=author)
        check = Check("auc", 0.5, 0.7, passed, blocking=True, detail="")
        verdict = judge(bundle.manifest.metadata["content_digest"], tier, [check], "")
        commands.record_verdict(self.ledger, version, verdict, bundle=bundle, by=by)
        return version

    def approve(self, version: int, by: str) -> None:
        """Approve a version."""
        commands.approve(self.ledger, version, by=self.who(by), policies=self.policies, bundles=self.shelf)

    def promote(
        self,
        version: int,
        by: str,
        to: str | None = None,
        share: float | None = None,
        *,
        is_emergency: bool = False,
        is_override: bool = False,
        supersede: bool = False,
    ) -> None:
        """Move a version on."""
        commands.promote(
            self.ledger,
            version,
            by=self.who(by),
            policies=self.policies,
            people=self.people,
            bundles=self.shelf,
            to=to,
            share=share,
            is_emergency=is_emergency,
            is_override=is_override,
            supersede=supersede,
            reason="it was asked for",
        )

    def roll_back(self, by: str) -> None:
        """Roll back, by an order where the ledger does not take it."""
        order = roll_back(self.ledger, self.orders, by=self.who(by), reason="it is bad", bundles=self.shelf)[2]
        if order is not None:
            self.given_orders.append(order.name)

    def enter_orders(self) -> None:
        """Make the orders that wait records: afterwards each was counted, and none waits."""
        enter_orders(self.ledger, self.orders)
        counted = [r.detail["order"] for r in self.ledger.records() if "order" in r.detail]
        assert set(self.given_orders) <= set(counted) and len(counted) == len(set(counted))
        assert read_orders(self.orders) == []

    def rehearse(self, version: int) -> None:
        """Enter that the rollback of a version was performed."""
        by = self.who("Olga")
        rollout_commands.record_rehearsal(self.ledger, version, by=by, to=self.state.champion, duration_s=0.4)

    def reroute(self, edit: Callable[[ReleaseState], Edit]) -> None:
        """Change the routes."""
        by = self.who("Max")
        change_routes(self.ledger, edit, by=by, policies=self.policies, people=self.people, bundles=self.shelf)

    def look(self, name: str, says: str) -> None:
        """Let a controller look at traffic that shows `says`; one without a lease takes it first."""
        self.traffic.says = says
        kept = self.controllers.pop(name, None)
        if kept is None or kept[0].expires_at <= self.clock.now():
            lease = Lease.take(self.ledger, name, LEASE_S, self.clock)
            desk = Desk(lease.ledger, self.shelf, self.policies, self.people, self.who("controller"), self.orders)
            kept = lease, Controller(desk, self.traffic)
        kept[1].step()
        self.controllers[name] = kept  # a refusal or a crash ends the process

    def touch_alias(self, alias: str, version: int | None) -> None:
        """Move an alias behind the ledger's back."""
        if self.registry.is_away or (version is not None and version not in self.registry.versions):
            return
        self.registry.set_alias(alias, version)
        self.touched.add(alias)

    def reconcile(self) -> None:
        """Run the reconciler: what was touched is named, nothing else is; the registry says what the ledger says."""
        found = dict(self.registry.pointers)
        is_first, lost = not self.registry.tag(HEAD_TAG), self.state.versions.keys() - self.registry.versions.keys()
        said = reconcile(self.ledger, self.registry, Path("bundles"))
        self.audit()
        if not self.state.versions:
            return
        wanted = expected_aliases(self.state)
        moved = {surprise.split()[1] for surprise in said.surprises if surprise.startswith("alias ")}
        odd = {a for a in self.touched if (a, found.get(a)) not in self.auditor.right}
        assert is_first or lost or odd <= moved, f"{odd} was moved by hand, {moved} was reported"
        assert lost or moved <= self.touched, f"{moved} was reported, {self.touched} was moved by hand"
        alerts = [r.detail["what"] for r in self.ledger.records() if r.action == "alert"]
        assert set(said.surprises) <= set(alerts)
        assert {a: v for a, v in self.registry.pointers.items() if a in ALIASES} == wanted
        assert {v.version: v.stage for v in self.state.versions.values()} == {
            v: stage for v, stage in self.registry.stages.items() if v in self.state.versions
        }
        assert self.registry.model_tags[HEAD_TAG] == f"{self.state.seq}:{self.state.digest}"
        self.touched, self.auditor.right = set(), {(alias, wanted.get(alias)) for alias in ALIASES}

    def crash_at(self, name: str, n_th: int) -> None:
        """Let the next action end where it passes a failpoint."""

        def crash() -> None:
            raise Crash(name)

        arm(name, n_th, crash)

    def change_policies(self, policies: Policies) -> None:
        """Put other tiers in force; controllers start anew with them."""
        self.policies = policies
        self.controllers.clear()

    def revoke(self, *names: str) -> None:
        """Let people be out, and all others in; controllers start anew with the register."""
        self.people = self.auditor.people = _register(names)
        self.controllers.clear()

    def mend(self) -> None:
        """Let every disk, registry and bundle be whole again."""
        self.disk.is_full = self.disk.is_away = self.registry.is_away = False
        self.shelf.altered.clear()

    def _head(self) -> int:
        return len(self.disk.rows or [])


def _register(revoked: tuple[str, ...]) -> People:
    plain = read_people(PROJECT / "conf")
    listed = {name: Listed(roles, revoked=name in revoked) for name, roles in STAFF.items()}
    return People("proven", plain.roles, listed)
