"""Which releases answer: what the ledger says, as far as the bundles can be trusted.

The watch polls the ledger, and the orders that stand in for it where it cannot be written. A bundle that becomes live
is verified and opened beside the one that serves, then both change places in one assignment. A bundle that is refused
changes nothing: what was there goes on, the refusal is logged, counted and shown by `/readyz`. Files of loaded bundles
are looked at again whenever they change on disk, and a bundle that did not fit into memory as soon as it would.

What it offers is the routing table of the ledger less the versions that are not loaded: an item whose arm is refused is
answered by the next best. The champion to roll back to is opened too and stays in memory.
"""

import logging
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from flightdeck.core.errors import BundleRefused, FlightdeckError, NotFoundError
from flightdeck.core.failpoints import failpoint
from flightdeck.core.memory import available_bytes
from flightdeck.inference.bundle import open_bundle
from flightdeck.inference.bundle_memory import BundleTooLarge
from flightdeck.inference.release_bundle import LoadedRelease, RunningCode, load_release
from flightdeck.inference.routes import CANARY, CHAMPION
from flightdeck.inference.routing import RoutingTable
from flightdeck.release.ledger import Ledger
from flightdeck.release.orders import obey, read_orders
from flightdeck.release.routing import routing_table
from flightdeck.release.stages import ReleaseState
from flightdeck.release.state import fold

POLL_S = 0.25
ROUTED, PREVIOUS, SHADOW = "routed", "previous", "shadow"
RELEASE_ONE = "release one: kedro run --config kedro.yml, then kedro release list; it is picked up without a restart"
MEND = "mend the folder (it is looked at again when it changes), or roll back: kedro release rollback"
_log = logging.getLogger(__name__)
Signature = tuple[tuple[str, int, int, int, int], ...]


@dataclass(frozen=True)
class Refusal:
    """A bundle that is not trusted: the champion's, the canary's, a routed one or the previous champion's."""

    arm: str
    version: int
    digest: str
    reason: str
    next_step: str
    needed_bytes: int = 0
    """Memory that it waits for; 0: it waits for other files."""


@dataclass(frozen=True)
class LiveReleases:
    """What answers at one moment. A request reads it once, so an answer never mixes two moments.

    Parameters
    ----------
    table
        Who decides for whom, among what is loaded.
    releases
        Loaded release of each version of the table.
    refusals
        Bundles that should be loaded and are refused.
    problem
        Why the ledger cannot be followed; empty if it can.
    """

    table: RoutingTable = field(default_factory=RoutingTable)
    releases: Mapping[int, LoadedRelease] = field(default_factory=dict)
    refusals: tuple[Refusal, ...] = ()
    problem: str = ""

    def release(self, version: int) -> LoadedRelease:
        """Return the loaded release of a version that the table names."""
        return self.releases[version]

    @property
    def champion(self) -> LoadedRelease | None:
        """Loaded champion, None where there is none that could be loaded."""
        return self.releases[self.table.champion] if self.table.champion is not None else None

    @property
    def canary(self) -> LoadedRelease | None:
        """Loaded canary, None where there is none that could be loaded."""
        return self.releases[self.table.canary.version] if self.table.canary is not None else None

    @property
    def canary_share(self) -> float:
        """Share of the units that the canary decides for; 0 without one."""
        return self.table.canary.share if self.table.canary is not None else 0.0

    @property
    def loaded(self) -> tuple[tuple[str, LoadedRelease], ...]:
        """(arm, release) of what is loaded; the arm of a segment is `<segment>/<arm>`."""
        arms = [
            (f"{route.segment}/{route.arm}" if route.segment else route.arm, route.version)
            for route in self.table.compiled.routes
        ]
        arms += [(SHADOW, shadow.version) for shadow in self.table.rules.shadows]
        return tuple((arm, self.releases[version]) for arm, version in arms if version is not None)

    def absence(self) -> tuple[str, str]:
        """Return why no champion can answer, and what to do."""
        for refusal in self.refusals:
            if refusal.arm == CHAMPION:
                return f"version {refusal.version} is live, but {refusal.reason}", refusal.next_step
        if self.problem:
            return "the release ledger cannot be followed", self.problem
        return "no version is in prod", RELEASE_ONE


class ReleaseWatch:
    """Follows the ledger. `poll` runs in one thread at a time; `live` may be read from anywhere.

    Parameters
    ----------
    ledger
        The ledger to follow; nothing is ever appended.
    bundles
        Folder of the sealed bundles.
    code
        What bundles are compared with.
    on_refusal
        Called with each new refusal.
    orders
        Folder of the rollbacks that the ledger did not take; they are obeyed as if it had.
    available
        Tells how many bytes of memory may still be taken; None: nobody knows.
    """

    def __init__(
        self,
        ledger: Ledger,
        bundles: Path,
        code: RunningCode,
        on_refusal: Callable[[Refusal], None],
        orders: Path,
        available: Callable[[], int | None] = available_bytes,
    ) -> None:
        self.live = LiveReleases()
        self._ledger = ledger
        self._bundles = bundles
        self._code = code
        self._on_refusal = on_refusal
        self._available = available
        self._orders = orders
        self._recorded = ReleaseState()
        self._state = ReleaseState()
        self._held: dict[str, LoadedRelease] = {}
        self._looked_at: dict[str, tuple[Signature, Refusal | None]] = {}

    def poll(self) -> None:
        """Read what is new in the ledger and in the orders, open what became live, swap."""
        problem, known = "", self._state
        try:
            news = self._ledger.records(self._recorded.seq, after_digest=self._recorded.digest)
            self._recorded = fold(news, self._recorded)
        except FlightdeckError as error:
            problem = str(error)
            if not self.live.problem:
                _log.error("following the ledger: %s; what is loaded goes on", error)
        self._state = obey(self._recorded, read_orders(self._orders))
        if problem and self._state == known:
            self.live = replace(self.live, problem=problem)
            return
        before, after = self.live, replace(self._look_around(), problem=problem)
        if after != before:
            failpoint("watch.opened")
            self.live = after
            failpoint("watch.swapped")
            _log.info("live: %s", [(arm, release.version, release.digest[:16]) for arm, release in after.loaded])
            self._warn_of_columns(after.table)
        self._forget()

    def _look_around(self) -> LiveReleases:
        """Return what may answer now: the table of the ledger, less what is not loaded."""
        wanted, releases, refusals = routing_table(self._state), dict[int, LoadedRelease](), list[Refusal]()
        for version, arm in self._wanted(wanted).items():
            release, refusal = self._trusted(arm, version)
            if release is not None and version in wanted.versions:
                releases[version] = release
            if refusal is not None:
                refusals.append(refusal)
        table = wanted.without(wanted.versions - releases.keys())
        if table.champion is None and wanted.champion is not None:
            stand_in = self.live.champion or self._last_good(self._state)
            if stand_in is not None:
                releases[stand_in.version] = stand_in
                digests = {**table.digests, stand_in.version: stand_in.digest}
                table = RoutingTable(stand_in.version, table.canary, table.rules, digests)
        return LiveReleases(table, releases, tuple(refusals))

    def _wanted(self, table: RoutingTable) -> dict[int, str]:
        """Return the versions that should be loaded, the most important first, each with its first arm."""
        arms = [(CHAMPION, table.champion), (CANARY, table.canary.version if table.canary is not None else None)]
        arms += [(ROUTED, version) for version in (*sorted(table.rules.deciders()), *sorted(table.rules.versions))]
        arms += [(PREVIOUS, version) for version in self._state.previous_champions[-1:]]
        wanted: dict[int, str] = {}
        for arm, version in arms:
            if version is not None:
                wanted.setdefault(version, arm)
        return wanted

    def _trusted(self, arm: str, version: int | None) -> tuple[LoadedRelease | None, Refusal | None]:
        """Return the opened release of `version` and what speaks against the files that it has now."""
        if version is None:
            return None, None
        digest = self._state.versions[version].digest
        path = self._bundles / digest[:16]
        signature = _signature(path)
        seen, refusal = self._looked_at.get(digest, (None, None))
        if seen != signature or (refusal is not None and self._has_room_now(refusal)):
            if arm in (ROUTED, PREVIOUS) and digest not in self._held and self._is_overtaken():
                return None, None
            refusal = self._look(arm, version, digest, path, signature)
            self._looked_at[digest] = signature, refusal
        return self._held.get(digest), refusal

    def _has_room_now(self, refusal: Refusal) -> bool:
        left = self._available()
        return refusal.needed_bytes > 0 and (left is None or left >= refusal.needed_bytes)

    def _last_good(self, state: ReleaseState) -> LoadedRelease | None:
        """Return the newest former champion that can be trusted: what a restarted service goes on with (ADR 0008)."""
        candidates = (self._trusted(CHAMPION, version)[0] for version in reversed(state.previous_champions))
        return next((release for release in candidates if release is not None), None)

    def _look(self, arm: str, version: int, digest: str, path: Path, signature: Signature) -> Refusal | None:
        """Open a bundle, or verify again the files of one that is open; return what speaks against it."""
        try:
            release = self._held.get(digest)
            if release is None:
                release = load_release(path, digest=digest, version=version, code=self._code, available=self._available)
            else:
                open_bundle(path, expected_digest=digest)
        except BundleTooLarge as error:
            return self._refuse(Refusal(arm, version, digest, error.message, error.next_step, error.needed_bytes))
        except (BundleRefused, NotFoundError) as error:
            return self._refuse(Refusal(arm, version, digest, error.message, error.next_step))
        except OSError as error:
            return self._refuse(Refusal(arm, version, digest, f"bundle {path} cannot be read: {error}", MEND))
        if _signature(path) != signature:
            return self._refuse(Refusal(arm, version, digest, f"bundle {path} changed while it was opened", MEND))
        self._held[digest] = release
        return None

    def _refuse(self, refusal: Refusal) -> Refusal:
        _log.error("refusing version %d as %s: %s", refusal.version, refusal.arm, refusal.reason)
        self._on_refusal(refusal)
        return refusal

    def _is_overtaken(self) -> bool:
        """Tell whether the ledger has moved on: what it says comes before opening one more bundle."""
        with suppress(FlightdeckError):
            return self._ledger.head() != self._recorded.seq
        return False

    def _warn_of_columns(self, table: RoutingTable) -> None:
        for segment in table.rules.segments:
            unknown = [column for column in segment.where if column not in self._code.request_columns]
            if unknown:
                _log.error("segment %s gets no item: requests have no column %s", segment.name, ", ".join(unknown))

    def _forget(self) -> None:
        """Keep what answers, what should answer and the champion to roll back to; let go of everything else."""
        kept = {self._state.versions[version].digest for version in self._wanted(routing_table(self._state))}
        kept |= {release.digest for release in self.live.releases.values()}
        self._held = {digest: release for digest, release in self._held.items() if digest in kept}
        self._looked_at = {digest: seen for digest, seen in self._looked_at.items() if digest in kept}


def _signature(path: Path) -> Signature:
    """Return name, size, inode and times of every file of a bundle: what changes when somebody touches one."""
    found = []
    for folder, _, names in os.walk(path):
        for name in names:
            file = f"{folder}/{name}"
            with suppress(FileNotFoundError):
                stat = os.lstat(file)
                found.append((file, stat.st_size, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns))
    return tuple(sorted(found))
