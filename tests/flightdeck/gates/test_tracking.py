"""Evidence goes to the run that is active, and nowhere without one."""

from pathlib import Path

import mlflow
import pytest

from flightdeck.gates.tracking import active_run_id, log_evidence


def test_without_a_run_nothing_is_logged(tmp_path: Path) -> None:
    assert active_run_id() is None
    log_evidence(tmp_path)
    assert mlflow.active_run() is None


@pytest.mark.parametrize(
    ("verdict", "tag"), [('{"passed": true}', "passed"), ('{"passed": "true"}', "failed"), (None, "failed")]
)
def test_the_run_keeps_the_evidence_and_says_how_it_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verdict: str | None, tag: str
) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    mlflow.set_tracking_uri((tmp_path / "runs").as_uri())
    folder = tmp_path / "evaluation"
    folder.mkdir()
    (folder / "evaluation.ipynb").write_text("{}")
    if verdict is not None:
        (folder / "verdict.json").write_text(verdict)
    with mlflow.start_run() as run:
        assert active_run_id() == run.info.run_id
        log_evidence(folder)
    client = mlflow.MlflowClient()
    assert client.get_run(run.info.run_id).data.tags["gate"] == tag
    assert "evaluation/evaluation.ipynb" in [item.path for item in client.list_artifacts(run.info.run_id, "evaluation")]
