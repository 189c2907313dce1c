"""MLflow's registry, real, in an SQLite database of the test's own."""

from collections.abc import Callable

import mlflow
import pytest

from flightdeck.inference.bundle import Bundle
from flightdeck.release.registry import Registry, RegistryUnavailable


def test_an_empty_registry_has_no_versions_aliases_or_tags(registry: Registry) -> None:
    assert (registry.digests(), registry.aliases(), registry.tag("ledger_head")) == ({}, {}, "")


def test_a_bundle_is_registered_once_under_its_digest(registry: Registry, enter: Callable[..., Bundle]) -> None:
    first, second = enter(1), enter(2)
    assert registry.register(first, tags={"tier": "medium"}) == 1
    assert registry.register(second) == 2
    assert registry.register(first) == 1
    assert registry.digests() == {1: first.digest, 2: second.digest}
    version = mlflow.MlflowClient(registry.uri, registry.uri).get_model_version("flight-delay", "1")
    assert version.tags == {"tier": "medium", "bundle_digest": first.digest}
    assert version.source == first.path.as_uri()


def test_a_run_keeps_a_second_copy_of_the_bundle(
    registry: Registry, enter: Callable[..., Bundle], tmp_path_factory: pytest.TempPathFactory
) -> None:
    bundle = enter(1)
    client = mlflow.MlflowClient(registry.uri, registry.uri)
    experiment = client.create_experiment("e", artifact_location=tmp_path_factory.mktemp("artifacts").as_uri())
    run_id = client.create_run(experiment).info.run_id
    registry.register(bundle, run_id=run_id)
    assert "bundle/model.onnx" in [item.path for item in client.list_artifacts(run_id, "bundle")]
    assert client.get_model_version("flight-delay", "1").run_id == run_id


def test_aliases_and_tags_are_set_moved_and_taken_away(registry: Registry, enter: Callable[..., Bundle]) -> None:
    registry.register(enter(1))
    registry.register(enter(2))
    registry.set_alias("champion", 1)
    registry.set_alias("canary", 2)
    assert registry.aliases() == {"champion": 1, "canary": 2}
    registry.set_alias("champion", 2)
    registry.set_alias("canary", None)
    assert registry.aliases() == {"champion": 2}
    registry.set_tag("ledger_head", "3:abc")
    assert registry.tag("ledger_head") == "3:abc"


def test_a_lost_version_gets_its_old_number_back(registry: Registry) -> None:
    registry.restore(3, "d" * 64, "file:///bundle")
    assert registry.digests() == {1: "", 2: "", 3: "d" * 64}
    with pytest.raises(RegistryUnavailable, match=r"has lost version 2 .* gives it the number 4"):
        registry.restore(2, "e" * 64, "file:///bundle")


@pytest.mark.parametrize("uri", ["sqlite:////proc/no/such/folder/mlflow.db", "http://127.0.0.1:9"])
def test_an_mlflow_that_is_away_is_a_clear_error(uri: str) -> None:
    with pytest.raises(RegistryUnavailable, match="'flight-delay' in MLflow at") as error:
        Registry(uri, "flight-delay").digests()
    assert "kedro release reconcile" in error.value.next_step
