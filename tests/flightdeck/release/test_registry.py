"""MLflow's registry, real, in an SQLite database of the test's own."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import mlflow
import numpy as np
import onnx
import pandas as pd
import pytest
from onnx import numpy_helper

from flightdeck.inference.bundle import Bundle
from flightdeck.inference.external_data import external_locations
from flightdeck.inference.release_bundle import load_release
from flightdeck.release.registry import Registry, RegistryUnavailable
from pipelines.features.views import VIEW_COLUMNS, VIEWS
from serving.use_case import running_code
from tests.graphs import joined, model_numeric, request_rows, view_rows, weighted_sum
from tests.serving.world import World

PREDICT = """
import sys, mlflow, pandas
uri, model, folder = sys.argv[1:]
mlflow.set_tracking_uri(uri)
found = mlflow.pyfunc.load_model(model).predict(pandas.read_parquet(f"{folder}/rows.parquet"))
found.to_parquet(f"{folder}/found.parquet")
print([name for name in sys.modules if name.partition(".")[0] in ("flightdeck", "pipelines", "serving")])
"""


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


@pytest.fixture
def run_id(registry: Registry, tmp_path: Path) -> str:
    client = mlflow.MlflowClient(registry.uri, registry.uri)
    experiment = client.create_experiment("e", artifact_location=(tmp_path / "artifacts").as_uri())
    return str(client.create_run(experiment).info.run_id)


def test_a_run_keeps_a_second_copy_of_the_bundle(registry: Registry, run_id: str, tmp_path: Path) -> None:
    bundle = World(tmp_path / "world").seal()
    registry.register(bundle, run_id=run_id)
    client = mlflow.MlflowClient(registry.uri, registry.uri)
    assert "bundle/model.onnx" in [item.path for item in client.list_artifacts(run_id, "bundle")]
    assert client.get_model_version("flight-delay", "1").run_id == run_id


@pytest.mark.parametrize("location", ["", "model.onnx.data", "model", "features"])
def test_the_registered_version_answers_as_the_bundle_does_without_code_of_ours(
    registry: Registry, run_id: str, tmp_path: Path, location: str
) -> None:
    """Also where tensors lie in a file beside the graph, whatever its name."""
    bundle = seal_with_tensors_in(World(tmp_path / "world"), location)
    assert external_locations(bundle.path / "model.onnx") == ((location,) if location else ())
    registry.register(bundle, run_id=run_id)
    shutil.rmtree(tmp_path / "world" / "06_models" / "draft", ignore_errors=True)
    request, views = request_rows(50), view_rows(50)
    release = load_release(bundle.path, digest=bundle.digest, version=1, code=running_code())
    expected = release.score_model(request, views)
    rows = pd.DataFrame(request).join(pd.DataFrame(views, columns=list(VIEW_COLUMNS)))
    rows.to_parquet(tmp_path / "rows.parquet")
    done = subprocess.run(
        [sys.executable, "-c", PREDICT, registry.uri, "models:/flight-delay/1", str(tmp_path)],
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"
    found = pd.read_parquet(tmp_path / "found.parquet")["probability"].to_numpy()
    np.testing.assert_allclose(found, expected.probability, rtol=0, atol=1e-6)


def seal_with_tensors_in(world: World, location: str) -> Bundle:
    """Seal a bundle whose model has its tensors in a file beside it, inside for an empty name."""
    content = joined(weighted_sum([0.001] * len(model_numeric())), model_numeric(), VIEWS)
    bundle = world.seal(model=content)
    if not location:
        return bundle
    model = onnx.load_from_string(content)
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor), tensor.name))
    graph = world.layout.draft_bundle / "model.onnx"
    onnx.save_model(model, str(graph), save_as_external_data=True, location=location, size_threshold=64)
    return world.seal_draft()


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
