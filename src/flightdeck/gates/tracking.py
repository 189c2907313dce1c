"""The gate's door to MLflow's tracking: evidence goes to the run that is active, if there is one."""

import json
import logging
from pathlib import Path

logger = logging.getLogger(__name__)


def active_run_id() -> str | None:
    """Return the id of the MLflow run that is active in this process, or None."""
    import mlflow  # 1 s that only pipelines pay

    run = mlflow.active_run()
    return str(run.info.run_id) if run is not None else None


def log_evidence(folder: Path) -> None:
    """Copy executed notebook, page and verdict to the active MLflow run, as `evaluation/` and a tag `gate`.

    Without an active run nothing happens: the evidence is in the bundle anyway.
    """
    import mlflow  # 1 s that only a gate pays

    if mlflow.active_run() is None:
        logger.info("no MLflow run is active: the gate's evidence stays in %s", folder)
        return
    mlflow.log_artifacts(str(folder), "evaluation")
    verdict = folder / "verdict.json"
    passed = verdict.is_file() and json.loads(verdict.read_text(encoding="utf-8")).get("passed") is True
    mlflow.set_tag("gate", "passed" if passed else "failed")
