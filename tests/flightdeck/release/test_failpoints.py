"""kill -9 at every failpoint of promote, rollback, supersede, quarantine and intake, on the real databases.

Each act runs in a process of its own, which is killed there. Then what runs normally runs once: orders are entered,
the controller looks, the reconciler runs; the pipeline repeats its draft. After that nothing is lost or doubled, the
champion is readable, MLflow's aliases and tags are those of the ledger.

An act is killed where it passes a place first and last. `FLIGHTDECK_FAILPOINT_REPEATS=20` kills it that many times at
each place, at the passages between too. How long it took to converge is printed (`-s`). The two failpoints of the
service are in tests/serving/test_watch_killed.py.
"""

import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import pytest

from flightdeck.core.clock import VirtualClock
from flightdeck.core.errors import LedgerUnusable
from flightdeck.core.identifiers import canonical_json
from flightdeck.core.layout import PROJECT
from flightdeck.gates.verdict import Check, judge
from flightdeck.inference.bundle import EVIDENCE, REQUIRED, content_digest, open_bundle
from flightdeck.release import rollout_commands
from flightdeck.release.audit import audit
from flightdeck.release.checkpoints import CheckpointLog
from flightdeck.release.intake import enter_candidate
from flightdeck.release.lease import Lease
from flightdeck.release.ledger import open_ledger
from flightdeck.release.order_entry import enter_orders, roll_back
from flightdeck.release.orders import obey, read_orders
from flightdeck.release.reconciler import ALIASES, HEAD_TAG, expected_aliases, reconcile
from flightdeck.release.record import INERT, Record
from flightdeck.release.registry import Registry
from flightdeck.release.rollout.controller import Controller, Desk
from flightdeck.release.rollout.observer import LogObserver, Logs
from flightdeck.release.routing import routing_table
from flightdeck.release.session import Session
from flightdeck.release.signing import read_public_key
from flightdeck.release.sqlite_ledger import SqliteLedger
from flightdeck.release.state import fold
from pipelines.features.views import VIEWS
from tests import release_desk as desk
from tests.control_plane import MEMORY
from tests.flightdeck.release.conftest import NOON
from tests.flightdeck.release.rollout.traffic import Traffic, healthy
from tests.graphs import feature_list, joined, model_numeric, weighted_sum
from tests.release_crashes import KILLED, places_passed, run_and_kill

Acknowledge = Callable[[], None]
MODEL = "flight-delay"
N_REPEATS = int(os.environ.get("FLIGHTDECK_FAILPOINT_REPEATS", "1"))


class House:
    """Everything of one release desk below a folder; opened anew by each process."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.bundles, self.orders = folder, folder / "bundles", folder / "orders"
        at = folder / "now"
        self.clock = VirtualClock(NOON + timedelta(seconds=float(at.read_text()) if at.exists() else 0))
        self.checkpoints = CheckpointLog(folder / "audit", folder / "private" / "key")
        self.ledger = open_ledger(folder / "ledger.sqlite", self.clock, checkpoints=self.checkpoints)
        self.registry = Registry(f"sqlite:///{folder / 'mlflow.db'}", MODEL)
        self.logs = Logs(folder / "predictions", folder / "shadow")

    def reconcile(self) -> tuple[str, ...]:
        return reconcile(self.ledger, self.registry, self.bundles).surprises

    def look(self) -> list[str]:
        """Let a controller of this process look once."""
        lease = Lease.take(self.ledger, "controller", 600, self.clock)
        by = Desk(lease.ledger, self.bundles, desk.POLICIES, desk.PEOPLE, desk.CONTROLLER)
        return Controller(by, LogObserver(self.logs, self.folder / "rollout")).step()

    def enter(self, version: int, run_id: str | None = None) -> None:
        """Bring a version from the pipeline, from the draft that is there or a new one; the model of a run is real."""
        draft = self.folder / f"draft-{version}"
        for name in (*REQUIRED, *EVIDENCE):
            (draft / name).parent.mkdir(parents=True, exist_ok=True)
            (draft / name).write_text(f"{version} {name}", encoding="utf-8")
        if run_id is not None:
            numeric = model_numeric()
            (draft / "model.onnx").write_bytes(joined(weighted_sum([0.001] * len(numeric)), numeric, VIEWS))
            (draft / "features.json").write_bytes(canonical_json(feature_list()))
        check = Check("auc_15", 0.8, 0.77, passed=True, blocking=True, detail="")
        verdict = judge(content_digest(draft), "low", [check], NOON.isoformat())
        enter_candidate(
            draft,
            verdict,
            bundles=self.bundles,
            ledger=self.ledger,
            registry=self.registry,
            by=desk.PIPELINE,
            facts={"made": version},
            run_id=run_id,
        )

    def begin_run(self) -> None:
        """Begin the MLflow run that a version is trained in; its artifacts lie below this house."""
        with self.registry._client("beginning a run") as client:
            place = (self.folder / "artifacts").as_uri()
            run = client.create_run(client.create_experiment("training", artifact_location=place))
        (self.folder / "run").write_text(run.info.run_id)

    @property
    def run_id(self) -> str:
        """The run that was begun."""
        return (self.folder / "run").read_text()

    def approve(self, version: int) -> None:
        desk.approve(self.ledger, version, by="Ada", bundles=self.bundles)

    def decisions(self) -> list[tuple[str, str, object]]:
        """Return what was decided: action, version and where to."""
        return [(r.action, r.subject, r.detail.get("to")) for r in self.ledger.records() if r.action not in INERT]

    def close(self) -> None:
        (self.folder / "now").write_text(str((self.clock.now() - NOON).total_seconds()))


class FullDisk(SqliteLedger):
    """A ledger whose disk takes nothing more."""

    @contextmanager
    def _writing(self) -> Iterator[Session]:
        raise LedgerUnusable("writing the ledger: the disk is full; nothing was recorded")
        yield


def promote(house: House, acknowledge: Acknowledge) -> None:
    """The judge lets the canary pass, the controller moves it to prod."""
    house.look()
    acknowledge()
    house.reconcile()


def roll_back_by_hand(house: House, acknowledge: Acknowledge) -> None:
    desk.rollback(house.ledger, by="Ada")
    acknowledge()
    house.reconcile()


def roll_back_by_order(house: House, acknowledge: Acknowledge) -> None:
    full = FullDisk(house.folder / "ledger.sqlite", house.clock, house.checkpoints)
    roll_back(full, house.orders, by=desk.person("Ada"), reason="bad")
    acknowledge()
    enter_orders(house.ledger, house.orders)
    house.reconcile()


def supersede(house: House, acknowledge: Acknowledge) -> None:
    desk.promote(house.ledger, 4, by="Ada", bundles=house.bundles, to="canary", supersede=True)
    acknowledge()
    house.reconcile()


def quarantine(house: House, acknowledge: Acknowledge) -> None:
    rollout_commands.freeze(house.ledger, 3, by=desk.person("Ada"), reason="odd")
    acknowledge()
    desk.reject(house.ledger, 4, by="Ada", reason="odd")
    acknowledge()
    house.reconcile()


def freeze_silent(house: House, acknowledge: Acknowledge) -> None:
    """The controller freezes a canary that nobody has asked."""
    house.look()
    acknowledge()
    house.reconcile()


def put_back(house: House, acknowledge: Acknowledge) -> None:
    """Somebody has moved an alias in MLflow; the reconciler puts it back and tells it once."""
    with house.registry._client("moving an alias") as client:
        client.set_registered_model_alias(MODEL, "champion", "1")
    house.reconcile()


def enter_fifth(house: House, acknowledge: Acknowledge) -> None:
    house.enter(5)
    acknowledge()


def enter_first(house: House, acknowledge: Acknowledge) -> None:
    house.enter(1)
    acknowledge()


def enter_from_run(house: House, acknowledge: Acknowledge) -> None:
    """The version's files become artifacts of its MLflow run too."""
    house.enter(1, house.run_id)
    acknowledge()


ACTS = {
    "promote": (promote, "healthy", ("promoted", "3", "prod")),
    "roll back by the judge": (promote, "failing", ("rolled_back", "3", 2)),
    "roll back by hand": (roll_back_by_hand, "healthy", ("rolled_back", "3", 2)),
    "roll back by order": (roll_back_by_order, "healthy", ("rolled_back", "3", 2)),
    "supersede": (supersede, "healthy", ("promoted", "4", "canary")),
    "quarantine": (quarantine, "healthy", ("rejected", "4", None)),
    "freeze by the judge": (freeze_silent, "silent", ("frozen", "3", None)),
    "put back": (put_back, "healthy", ("promoted", "4", "staging")),
    "enter": (enter_fifth, "healthy", ("verdict", "5", None)),
    "enter the first": (enter_first, "empty", ("verdict", "1", None)),
    "enter from a run": (enter_from_run, "training", ("verdict", "1", None)),
}
REPEATED = (promote, enter_fifth, enter_first, enter_from_run)
killed_at: dict[str, int] = {}
converged_s: list[float] = []
acts_done: set[str] = set()


@pytest.fixture(scope="module")
def houses(empty_mlflow: Path) -> Iterator[Path]:
    """Return a folder with empty houses, and others with champion 2, canary 3 and candidate 4 in staging.

    It is in memory where it can be: a process that is killed loses nothing that it has written, synced or not.
    """
    with tempfile.TemporaryDirectory(prefix="flightdeck-houses-", dir=MEMORY) as folder:
        yield _build(Path(folder), empty_mlflow)


def _build(root: Path, empty_mlflow: Path) -> Path:
    for name in ("empty", "training", "healthy", "failing", "silent"):
        (root / name).mkdir()
        shutil.copy(empty_mlflow, root / name / "mlflow.db")
        house = House(root / name)
        if name in ("empty", "training"):
            continue
        for version in (1, 2, 3, 4):
            house.enter(version)
            house.approve(version)
        desk.bring(house.ledger, 1, "prod", bundles=house.bundles)
        desk.bring(house.ledger, 2, "prod", bundles=house.bundles)
        traffic = Traffic(house.ledger, house.clock, house.logs.predictions, house.logs.shadows)
        traffic.send(400)
        desk.bring(house.ledger, 3, "canary", bundles=house.bundles)
        desk.bring(house.ledger, 4, "staging", bundles=house.bundles)
        if name == "failing":
            traffic.behaviours[3] = lambda rng: {**healthy(rng), "fails": True}
        if name == "silent":
            house.clock.advance_to(house.clock.now() + timedelta(minutes=10))
        else:
            traffic.send(4000 if name == "healthy" else 400)
        house.reconcile()
        house.close()
    return root


@pytest.mark.parametrize("what", ACTS)
def test_nothing_is_lost_or_doubled_wherever_it_is_killed(what: str, houses: Path) -> None:
    act, kind, last = ACTS[what]
    folder = houses / what.replace(" ", "-")

    def new(name: str) -> House:
        shutil.copytree(houses / kind, folder / name)
        house = House(folder / name)
        if act is enter_from_run:
            house.begin_run()
        return house

    def run(house: House) -> Callable[[Acknowledge], None]:
        return lambda acknowledge: act(House(house.folder), acknowledge)

    before = new("before").decisions()
    whole = new("whole")
    passed = places_passed(run(whole), folder / "whole-notes")
    after = whole.decisions()
    assert after[-1] == last
    assert after[: len(before)] == before
    champions = {fold(new_house.ledger.records()).champion for new_house in (House(folder / "before"), whole)}
    for name in dict.fromkeys(passed):
        for repeat, n_th in enumerate(_passages(passed.count(name))):
            house, notes = new(f"{name}-{repeat}"), folder / f"{name}-{repeat}-notes"
            assert run_and_kill(run(house), name, n_th, notes) == KILLED, (name, n_th)
            n_acknowledged = len(notes.read_text().splitlines()) if notes.exists() else 0
            where = f"{what}: {name}, passage {n_th}"
            assert _readable_champion(house) in champions, where
            _recovered(house, act, before, after, n_acknowledged, where)
            killed_at[name] = killed_at.get(name, 0) + 1
            shutil.rmtree(house.folder)
    acts_done.add(what)


def test_enough_places_were_killed_at() -> None:
    """Every failpoint of the engine was met and survived."""
    if acts_done != ACTS.keys():
        pytest.skip("not all acts of this file were done in this run")
    files = [path for path in (PROJECT / "src").rglob("*.py") if path.name != "failpoints.py"]
    source = "".join(path.read_text(encoding="utf-8") for path in files)
    named = set(re.findall(r'failpoint\("([a-z_.]+)"\)', source))
    assert len(named) >= 30
    assert named == killed_at.keys(), sorted(named ^ killed_at.keys())
    middle, late, last = np.percentile(converged_s, (50, 99, 100))
    print(
        f"{sum(killed_at.values())} kills at {len(killed_at)} places in {len(acts_done)} acts; converged in "
        f"{middle:.2f} s (median), {late:.2f} s (p99), {last:.2f} s (longest)"
    )


def _passages(n_passed: int) -> list[int]:
    """Return at which passages of a place to kill: first, last, then those between, round after round."""
    order = dict.fromkeys((1, n_passed, *range(2, n_passed)))
    return list(islice(cycle(order), max(N_REPEATS, min(n_passed, 2))))


def _readable_champion(house: House) -> int | None:
    """Return the champion before anything was mended, its bundle compared with the ledger's digest."""
    records = house.ledger.records()
    state = obey(fold(records), read_orders(house.orders))
    table = routing_table(state)
    if table.champion is not None:
        digest = table.digests[table.champion]
        open_bundle(house.bundles / digest[:16], expected_digest=digest)
    return table.champion


def _recovered(
    house: House,
    act: Callable[[House, Acknowledge], None],
    before: list[tuple[str, str, object]],
    after: list[tuple[str, str, object]],
    n_acknowledged: int,
    where: str,
) -> None:
    """Let everything that runs normally run once, and compare."""
    is_ordered, begun_s = bool(read_orders(house.orders)), time.perf_counter()
    if house.ledger.exists():
        enter_orders(house.ledger, house.orders)
    house.reconcile()
    converged_s.append(time.perf_counter() - begun_s)
    _require_converged(house, where)
    alerts = [record.detail["what"] for record in house.ledger.records() if record.action == "alert"]
    assert len(alerts) == (act is put_back), f"{where}: {alerts}"
    found = house.decisions()
    assert found == after[: len(found)] and len(found) >= len(before), where
    assert len(found) - len(before) >= n_acknowledged, f"{where}: what was acknowledged is lost"
    assert not is_ordered or found == after, f"{where}: the order was not counted"
    if act in REPEATED:
        act(house, lambda: None)
        assert house.decisions() == after, f"{where}: repeated, it comes to something else"
        _require_converged(house, where)
    if act is enter_from_run:
        _require_copy(house, where)
    house.ledger.verify()
    house.ledger.checkpoint()
    with house.ledger.snapshot() as session:
        seen = audit(session.rows(1), house.checkpoints.lines(), read_public_key(house.checkpoints.public_key))
    assert (seen.problems, seen.n_uncovered) == ((), 0), where


def _require_copy(house: House, where: str) -> None:
    """Compare the run's copy of the bundle with the sealed one, and the version's source with the run's model."""
    sealed = house.bundles / fold(house.ledger.records()).versions[1].digest[:16]
    copied = house.folder / "artifacts" / house.run_id / "artifacts"
    files = {path.relative_to(sealed) for path in sealed.rglob("*") if path.is_file()}
    assert {path: (copied / "bundle" / path).read_bytes() for path in files} == {
        path: (sealed / path).read_bytes() for path in files
    }, where
    with house.registry._client("reading a version") as client:
        assert client.get_model_version(MODEL, "1").source == (copied / "model").as_uri(), where
    assert (copied / "model" / "MLmodel").is_file(), where


def _require_converged(house: House, where: str) -> None:
    """Compare MLflow with the ledger."""
    records: list[Record] = house.ledger.records()
    state = fold(records)
    if not state.versions:
        return
    aliases = {alias: version for alias, version in house.registry.aliases().items() if alias in ALIASES}
    assert aliases == expected_aliases(state), where
    assert house.registry.tag(HEAD_TAG) == f"{records[-1].seq}:{records[-1].digest}", where
    with house.registry._client("reading stages") as client:
        found = client.search_model_versions(f"name = '{MODEL}'")
    stages = {int(version.version): version.tags.get("stage") for version in found}
    assert {v.version: v.stage for v in state.versions.values()}.items() <= stages.items(), where
