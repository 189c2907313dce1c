"""Gate and release as Kedro runs them: a pass is sealed and registered, a no stops before."""

from pathlib import Path
from typing import Any

import mlflow
import pytest
import yaml
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner

from flightdeck.core.clock import SystemClock
from flightdeck.core.errors import GateFailed
from flightdeck.core.layout import PROJECT, Layout, layout
from flightdeck.inference.bundle import open_bundle
from flightdeck.inference.datasets import DraftBundleDataset
from flightdeck.release.decisions import current_state
from flightdeck.release.ledger import open_ledger
from pipelines.evaluation.pipeline import create_pipeline as evaluation
from pipelines.release.pipeline import create_pipeline as release
from tests.candidates import DATA_VERSIONS, write_draft


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    monkeypatch.setenv("FLIGHTDECK_DATA", str(tmp_path))
    monkeypatch.setenv("KEDRO_ENV", "test")  # its tiers ask for nothing that a draft made by hand has not
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "06_models").mkdir()
    mlflow.set_tracking_uri(layout().mlflow_uri)
    mlflow.create_experiment("test", artifact_location=layout().mlflow_artifacts.as_uri())
    mlflow.set_experiment("test")
    return layout()


def parameters(name: str) -> Any:
    return yaml.safe_load((PROJECT / "conf" / "base" / f"parameters_{name}.yml").read_text())[name]


def run(place: Layout) -> dict[str, Any]:
    catalog = DataCatalog(
        {
            "draft_bundle": DraftBundleDataset(filepath=str(place.draft_bundle)),
            "data_versions": MemoryDataset(DATA_VERSIONS),
            "params:evaluation": MemoryDataset(parameters("evaluation")),
            "params:release": MemoryDataset(parameters("release")),
        }
    )
    with mlflow.start_run():
        outputs = SequentialRunner().run(evaluation() + release(), catalog)
    candidate: dict[str, Any] = outputs["release_candidate"].load()
    return candidate


def test_a_pass_is_sealed_registered_and_recorded(place: Layout) -> None:
    write_draft(place.draft_bundle)
    candidate = run(place)
    assert candidate["version"] == 1
    bundle = open_bundle(place.bundles / candidate["digest"][:16], expected_digest=candidate["digest"])
    assert bundle.manifest.metadata["model_digest"] == candidate["model_digest"]
    state = current_state(open_ledger(place.ledger, SystemClock()))
    assert state.versions[1].verdict_passed is True
    last = mlflow.last_active_run()
    assert last is not None
    assert last.data.tags["gate"] == "passed"
    logged = {item.path for item in mlflow.MlflowClient().list_artifacts(last.info.run_id, "evaluation")}
    assert logged == {"evaluation/evaluation.html", "evaluation/evaluation.ipynb", "evaluation/verdict.json"}
    assert mlflow.MlflowClient().get_model_version_by_alias("flight-delay", "candidate").version == 1


def test_a_no_stops_before_sealing_with_exit_code_3(place: Layout) -> None:
    write_draft(place.draft_bundle, strength={15: 0.5, 120: 0.5})
    with pytest.raises(GateFailed, match="auc_15") as error:
        run(place)
    assert error.value.exit_code == 3
    assert not place.bundles.exists()
    assert not place.ledger.exists()
    last = mlflow.last_active_run()
    assert last is not None
    assert last.data.tags["gate"] == "failed"
