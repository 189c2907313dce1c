"""A ledger, a model registry, a shelf of bundles and traffic in memory, with the interfaces of the real ones.

They can fail as the real ones do: a disk that is full or away, another process that writes first, a registry that does
not answer or was changed by hand, a bundle that was altered. `test_release_fakes` and the conformance suite of the
ledgers compare them with the real ones.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from flightdeck.core.clock import Clock
from flightdeck.core.errors import BundleRefused, LedgerUnusable
from flightdeck.gates.judge_policy import JudgePolicy
from flightdeck.inference.bundle import Bundle, Manifest
from flightdeck.release.checkpoints import CheckpointLog
from flightdeck.release.judge.verdict import CanaryVerdict, MetricVerdict, Outcome
from flightdeck.release.ledger import Ledger, State
from flightdeck.release.record import GENESIS, Record, Row
from flightdeck.release.registry import Registry, RegistryUnavailable
from flightdeck.release.rollout.segments import SegmentCanary
from flightdeck.release.rollout.shadow_report import ShadowReport
from flightdeck.release.session import Session
from flightdeck.release.stages import ReleaseState, VersionState


@dataclass
class Disk:
    """Rows of a ledger, and what is wrong with the disk that they are on.

    Parameters
    ----------
    rows
        Committed rows; None before the ledger was made.
    is_full, is_away
        Whether it takes no more rows, and whether it cannot even be read.
    intruder
        What another process does just before the next write begins; it does it once.
    """

    rows: list[Row] | None = None
    is_full: bool = False
    is_away: bool = False
    intruder: Callable[[], object] | None = None
    folded: tuple[int, Any] = (0, None)


class MemoryLedger(Ledger):
    """Records in memory.

    Parameters
    ----------
    disk
        Where they are; shared by everybody who opens the same ledger.
    clock, checkpoints
        As of every ledger.
    """

    def __init__(self, disk: Disk, clock: Clock, checkpoints: CheckpointLog | None = None) -> None:
        super().__init__("memory", clock, checkpoints)
        self.disk = disk

    def exists(self) -> bool:
        """Tell whether anything was ever appended here."""
        return self.disk.rows is not None

    def folded(self, fold: Callable[[Iterable[Record], State | None], State]) -> State:
        """Return what `fold` makes of all records: nobody changes these rows, so it goes on from where it was."""
        seq, known = self.disk.folded
        news = self.records(seq)
        state = fold(news, known)
        self.disk.folded = (seq + len(news), state)
        return state

    def _create(self) -> None:
        if self.disk.is_full or self.disk.is_away:
            raise LedgerUnusable("making the ledger memory: the disk does not take it; nothing was recorded")
        self.disk.rows = self.disk.rows if self.disk.rows is not None else []

    @contextmanager
    def _reading(self, doing: str) -> Iterator[Session]:
        if self.disk.is_away:
            raise LedgerUnusable(f"{doing} the ledger memory: the disk is away; nothing was recorded")
        yield _MemorySession(self.disk.rows or [])

    @contextmanager
    def _writing(self) -> Iterator[Session]:
        intruder, self.disk.intruder = self.disk.intruder, None
        if intruder is not None:
            intruder()
        if self.disk.is_full or self.disk.is_away:
            raise LedgerUnusable("writing the ledger memory: the disk does not take it; nothing was recorded")
        session = _MemorySession(list(self.disk.rows or []))
        yield session
        self.disk.rows = session.table


class _MemorySession(Session):
    def __init__(self, table: list[Row]) -> None:
        self.table = table

    def execute(self, statement: str, *values: object) -> Any:
        """Refuse: there is no database behind it."""
        raise NotImplementedError(f"a ledger in memory has no statements, got {statement!r} with {values!r}")

    def rows(self, from_seq: int) -> Iterator[Row]:
        return iter(self.table[max(from_seq - 1, 0) :])

    def problems(self) -> list[str]:
        return []

    def last(self) -> tuple[int, str]:
        return (self.table[-1][0], self.table[-1][7]) if self.table else (0, GENESIS)

    def digest_at(self, seq: int) -> str:
        return str(self.table[seq - 1][7]) if 0 < seq <= len(self.table) else ""

    def newest(self, action: str) -> int:
        return next((row[0] for row in reversed(self.table) if row[2] == action), 0)

    def insert(self, row: Row) -> None:
        self.table.append(row)


class MemoryRegistry(Registry):
    """MLflow's model registry in memory: numbers are given once, an alias goes with its version.

    Parameters
    ----------
    model_name
        Name of the registered model.
    """

    def __init__(self, model_name: str) -> None:
        super().__init__("memory:", model_name)
        self.is_away = False
        self.versions: dict[int, str] = {}
        self.stages: dict[int, str] = {}
        self.pointers: dict[str, int] = {}
        self.model_tags: dict[str, str] = {}

    def register(self, bundle: Bundle, *, run_id: str | None = None, tags: Mapping[str, str] | None = None) -> int:
        """Register a bundle as a new version; one that is there keeps its number."""
        known = {digest: version for version, digest in self.digests().items()}
        return known[bundle.digest] if bundle.digest in known else self._made(bundle.digest)

    def digests(self) -> dict[int, str]:
        """Return the digest of every version, oldest first."""
        self._answer()
        return dict(sorted(self.versions.items()))

    def restore(self, version: int, digest: str, source: str) -> None:
        """Register a lost version under its old number, with placeholders for numbers before it."""
        self._answer()
        made = 0
        while made < version:
            made = self._made(digest if max(self.versions, default=0) + 1 >= version else "")
        if made != version:
            raise RegistryUnavailable(f"the registry has lost version {version} and gives it the number {made} now")

    def aliases(self) -> dict[str, int]:
        """Return the version that each alias points to."""
        self._answer()
        return dict(self.pointers)

    def set_alias(self, alias: str, version: int | None) -> None:
        """Point an alias to a version, or take it away."""
        self._answer()
        if version is None:
            self.pointers.pop(alias, None)
        elif version in self.versions:
            self.pointers[alias] = version
        else:
            raise RegistryUnavailable(f"the registry has no version {version}")

    def tag(self, name: str) -> str:
        """Return a tag of the model, or the empty string."""
        self._answer()
        return self.model_tags.get(name, "")

    def set_tag(self, name: str, value: str) -> None:
        """Set a tag of the model."""
        self._answer()
        self.model_tags[name] = value

    def set_stage_tag(self, version: int, stage: str) -> None:
        """Show the stage of a version."""
        self._answer()
        self.stages[version] = stage

    def lose(self, n_kept: int) -> None:
        """Come back from a backup that knows the first `n_kept` versions and no alias of the others."""
        self.versions = {version: digest for version, digest in self.versions.items() if version <= n_kept}
        self.pointers = {alias: version for alias, version in self.pointers.items() if version in self.versions}

    def _made(self, digest: str) -> int:
        version = max(self.versions, default=0) + 1
        self.versions[version] = digest
        return version

    def _answer(self) -> None:
        if self.is_away:
            raise RegistryUnavailable("the registry does not answer")


@dataclass
class MemoryShelf:
    """Sealed bundles that are names only; an altered one is refused."""

    altered: set[str] = field(default_factory=set)
    bundles: dict[str, Bundle] = field(default_factory=dict)

    def seal(self, mark: str) -> Bundle:
        """Return a bundle of its own digest."""
        digest = f"{len(self.bundles) + 1:064x}"
        metadata = {"content_digest": f"{mark}-content"}
        self.bundles[digest] = Bundle(Path(digest[:16]), digest, Manifest(mark, {}, metadata))
        return self.bundles[digest]

    def open(self, digest: str) -> Bundle:
        """Return a bundle that is whole."""
        if digest in self.altered:
            raise BundleRefused(f"opening bundle {digest[:16]}: altered: model.onnx")
        return self.bundles[digest]


@dataclass
class MemoryTraffic:
    """What canary and shadow show, as somebody says.

    Parameters
    ----------
    says
        What they show: pass, fail, inconclusive, freeze or nothing.
    n_requests
        Requests that it rests on.
    """

    says: str = "inconclusive"
    n_requests: int = 20_000
    seen: list[int] = field(default_factory=list)

    def canary(self, state: ReleaseState, current: VersionState, policy: JudgePolicy, now: datetime) -> CanaryVerdict:
        """Return the verdict that is to be given."""
        self.seen.append(current.version)
        outcome = Outcome(self.says if self.says in ("pass", "fail") else "inconclusive")
        metric = MetricVerdict("errors", outcome, 0.0, 0.0, self.n_requests, self.n_requests, None, self.says)
        return CanaryVerdict(outcome, self.says == "freeze", (f"it shows {self.says}",), (metric,), 0.0)

    def shadow(self, state: ReleaseState, current: VersionState, now: datetime) -> ShadowReport:
        """Return a report of as many requests, all of which failed where it is to fail."""
        self.seen.append(current.version)
        report = ShadowReport()
        if self.says == "fail":
            report.n_failed = self.n_requests
        elif self.says == "pass":
            report.n_matched = self.n_requests
        elif self.says == "inconclusive":
            report.n_matched = 1
        return report

    def segment(self, state: ReleaseState, canary: SegmentCanary, policy: JudgePolicy, now: datetime) -> CanaryVerdict:
        """Return a verdict that nothing is decided by."""
        metric = MetricVerdict("errors", Outcome.INCONCLUSIVE, 0.0, 0.0, 1, 1, None, "too little")
        return CanaryVerdict(Outcome.INCONCLUSIVE, False, ("too little",), (metric,), 0.0)

    def forget(self, state: ReleaseState, canaries: Sequence[SegmentCanary]) -> None:
        """Keep nothing."""
        self.seen.clear()
