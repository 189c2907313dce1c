"""A ledger, sealed bundles and a real MLflow database, all in a folder of the test's own."""

import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from flightdeck.core.clock import VirtualClock
from flightdeck.gates.verdict import Check, judge
from flightdeck.inference.bundle import Bundle
from flightdeck.release.ledger import Ledger, open_ledger
from flightdeck.release.registry import Registry
from tests.candidates import seal_tiny
from tests.release_desk import record_verdict, register

NOON = datetime(2013, 9, 12, 12, tzinfo=UTC)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return open_ledger(tmp_path / "models" / "ledger.sqlite", VirtualClock(NOON))


@pytest.fixture
def bundles(tmp_path: Path) -> Path:
    return tmp_path / "bundles"


@pytest.fixture
def enter(ledger: Ledger, bundles: Path, tmp_path: Path) -> Callable[..., Bundle]:
    """Return a function that enters a version with a verdict, as the pipeline does."""

    def enter(version: int, *, passed: bool | None = True, tier: str = "medium") -> Bundle:
        bundle = seal_tiny(tmp_path / f"draft-{version}", bundles, mark=f"version {version}")
        register(ledger, version, bundle=bundle, model_name="flight-delay", tier=tier)
        if passed is not None:
            check = Check("auc_15", 0.8 if passed else 0.6, 0.77, passed, blocking=True, detail="")
            verdict = judge(bundle.manifest.metadata["content_digest"], tier, [check], NOON.isoformat())
            record_verdict(ledger, version, verdict, bundle=bundle)
        return bundle

    return enter


@pytest.fixture(scope="session")
def empty_mlflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a database with MLflow's tables: making one takes seconds, copying it none."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    Registry(f"sqlite:///{path}", "flight-delay").digests()
    return path


@pytest.fixture
def registry(empty_mlflow: Path, tmp_path: Path) -> Registry:
    shutil.copy(empty_mlflow, tmp_path / "mlflow.db")
    return Registry(f"sqlite:///{tmp_path / 'mlflow.db'}", "flight-delay")
