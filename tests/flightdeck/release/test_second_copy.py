"""Fault 30: the bundle to return to is gone or altered; the copy that its MLflow run keeps takes its place."""

import shutil
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest

from flightdeck.core.errors import ReleaseRefused
from flightdeck.inference.bundle import Bundle, open_bundle
from flightdeck.release import commands as real
from flightdeck.release.decisions import current_state
from flightdeck.release.ledger import Ledger
from flightdeck.release.registry import Registry, RegistryUnavailable
from flightdeck.release.second_copy import BackedShelf
from tests import release_desk as commands

Enter = Callable[..., Bundle]


@pytest.fixture
def shelf(ledger: Ledger, bundles: Path, enter: Enter, registry: Registry, tmp_path: Path) -> BackedShelf:
    """Return the shelf of a house whose champion 1 has a second copy, beside canary 2 at its last step."""
    client = mlflow.MlflowClient(registry.uri, registry.uri)
    experiment = client.create_experiment("e", artifact_location=(tmp_path / "artifacts").as_uri())
    for version in (1, 2):
        bundle = enter(version, tier="low")
        run_id = str(client.create_run(experiment).info.run_id)
        client.log_artifacts(run_id, str(bundle.path), "bundle")
        tags = {"bundle_digest": bundle.digest}
        registry._create(client, bundle.digest, bundle.path.as_uri(), run_id, tags)
        commands.approve(ledger, version, by="Ada", bundles=bundles)
    commands.bring(ledger, 1, "prod", bundles=bundles)
    commands.bring(ledger, 2, "canary", bundles=bundles)
    return BackedShelf(bundles, registry.second_copy)


def of(ledger: Ledger, bundles: Path, version: int) -> tuple[Path, str]:
    digest = current_state(ledger).versions[version].digest
    return bundles / digest[:16], digest


def spoil(path: Path, how: str) -> None:
    if how == "deleted":
        shutil.rmtree(path)
        return
    (path / "model.onnx").chmod(0o644)
    (path / "model.onnx").write_bytes(b"altered")


@pytest.mark.parametrize("how", ["deleted", "altered"])
def test_a_promotion_brings_back_the_bundle_of_the_champion_that_it_replaces(
    ledger: Ledger, bundles: Path, shelf: BackedShelf, how: str
) -> None:
    path, digest = of(ledger, bundles, 1)
    spoil(path, how)
    commands.promote(ledger, 2, by="Ada", bundles=shelf)  # type: ignore[arg-type]
    assert current_state(ledger).champion == 2
    assert open_bundle(path, expected_digest=digest).digest == digest


@pytest.mark.parametrize("how", ["deleted", "altered"])
def test_a_rollback_brings_back_the_bundle_that_it_returns_to(
    ledger: Ledger, bundles: Path, shelf: BackedShelf, how: str
) -> None:
    commands.promote(ledger, 2, by="Ada", bundles=bundles)
    path, digest = of(ledger, bundles, 1)
    spoil(path, how)
    assert real.rollback(ledger, by=commands.person("Ada"), bundles=shelf) == (2, 1)
    assert open_bundle(path, expected_digest=digest).digest == digest


def test_where_both_are_gone_nothing_is_promoted_and_a_rollback_says_what_is_left(
    ledger: Ledger, bundles: Path, shelf: BackedShelf, registry: Registry, tmp_path: Path
) -> None:
    path, digest = of(ledger, bundles, 1)
    for copied in (tmp_path / "artifacts").rglob("model.onnx"):
        copied.write_bytes(b"altered too")
    spoil(path, "deleted")
    with pytest.raises(
        ReleaseRefused, match=r"no way back: version 1: .*; its second copy: .*altered: model.onnx"
    ) as no:
        commands.promote(ledger, 2, by="Ada", bundles=shelf)  # type: ignore[arg-type]
    assert "kedro release fetch" in no.value.next_step
    away = BackedShelf(bundles, Registry("http://127.0.0.1:9", "flight-delay").second_copy)
    with pytest.raises(ReleaseRefused, match=r"its second copy: finding the second copy of a bundle"):
        commands.promote(ledger, 2, by="Ada", bundles=away)  # type: ignore[arg-type]
    with pytest.raises(RegistryUnavailable):
        Registry("http://127.0.0.1:9", "flight-delay").second_copy(digest, tmp_path)
    assert current_state(ledger).champion == 1
    commands.promote(ledger, 2, by="Ada", bundles=bundles, is_emergency=True, reason="it burns")
    with pytest.raises(ReleaseRefused, match="version 1: its bundle does not verify") as no:
        real.rollback(ledger, by=commands.person("Ada"), bundles=shelf)
    assert "kedro release rollback --as-loaded" in no.value.next_step
    assert real.rollback(ledger, by=commands.person("Ada"), bundles=None) == (2, 1)
