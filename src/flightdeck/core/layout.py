"""Where everything that Flightdeck produces lies on disk: the one map that all processes share.

Kedro's catalog names the same places for the pipelines (a test compares the two). Everything lies below one root:
`data/` in the project, or the folder named by the environment variable `FLIGHTDECK_DATA`.
"""

import os
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Layout:
    """The folders and files below one data root.

    Parameters
    ----------
    root
        Absolute path of the data root.
    """

    root: Path

    @property
    def raw(self) -> Path:
        """Source files as they arrived."""
        return self.root / "01_raw"

    @property
    def event_log(self) -> Path:
        """Append-only, versioned event log: one table a stream."""
        return self.root / "02_intermediate" / "events"

    @property
    def quarantine(self) -> Path:
        """Rows that broke their contract, one Parquet file a source."""
        return self.root / "02_intermediate" / "quarantine"

    @property
    def dead_letters(self) -> Path:
        """Events that broke their stream's contract, one file a stream."""
        return self.root / "02_intermediate" / "dead_letters"

    @property
    def ingestion_report(self) -> Path:
        """Row counts of the last ingestion, a source each."""
        return self.root / "08_reporting" / "ingestion.json"

    @property
    def online_store(self) -> Path:
        """Memory-mapped online feature store."""
        return self.root / "04_feature" / "online"

    @property
    def draft_bundle(self) -> Path:
        """The candidate that training writes and the gate looks at, before it is sealed."""
        return self.root / "06_models" / "draft"

    @property
    def bundles(self) -> Path:
        """Sealed bundles, one folder each, named by digest."""
        return self.root / "06_models" / "bundles"

    @property
    def ledger(self) -> Path:
        """Append-only, hash-chained release ledger."""
        return self.root / "06_models" / "ledger.sqlite"

    @property
    def audit(self) -> Path:
        """Signed checkpoints of the ledger and the key that signs them, where `ledger.yml` names no other places."""
        return self.root / "09_audit"

    @property
    def mlflow_database(self) -> Path:
        """MLflow's tracking and registry database."""
        return self.root / "06_models" / "mlflow.db"

    @property
    def mlflow_artifacts(self) -> Path:
        """MLflow's artifact folder."""
        return self.root / "06_models" / "mlartifacts"

    @property
    def mlflow_uri(self) -> str:
        """Tracking URI: `MLFLOW_TRACKING_URI` where set, else the database above."""
        return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{self.mlflow_database}"

    @property
    def prediction_log(self) -> Path:
        """Prediction log: append-only segments of each server process, and the Parquet parts made of them."""
        return self.root / "07_model_output" / "predictions"

    @property
    def rollout(self) -> Path:
        """What the controller knows of each step of a rollout, a file each."""
        return self.root / "06_models" / "rollout"

    @property
    def orders(self) -> Path:
        """Rollbacks that the ledger did not take; where `FLIGHTDECK_ORDERS` says, best on another disk."""
        return Path(os.environ.get("FLIGHTDECK_ORDERS") or self.root / "orders").resolve()

    @property
    def drill(self) -> Path:
        """The serving drill that is on, written by `kedro serve drill`."""
        return self.root / "06_models" / "drill.json"

    @property
    def api_keys(self) -> Path:
        """Who may ask the service for what: digests of API keys, written by `kedro serve keys`."""
        return self.root / "keys.json"

    @property
    def people_keys(self) -> Path:
        """By which keys people show who they are: digests, written by `kedro release people`."""
        return self.root / "people_keys.json"

    @property
    def shadow_log(self) -> Path:
        """What shadows predicted and nobody was given, in segments like those of the prediction log."""
        return self.root / "07_model_output" / "shadow"

    @property
    def serving_state(self) -> Path:
        """What workers of the service keep over a restart."""
        return self.root / "07_model_output" / "serving"

    @property
    def replay_report(self) -> Path:
        """What the last replay sent and received."""
        return self.root / "08_reporting" / "replay.json"

    @property
    def monitoring(self) -> Path:
        """Monitoring tables and reports."""
        return self.root / "08_reporting" / "monitoring"

    @property
    def lineage(self) -> Path:
        """Lineage graph of all runs."""
        return self.root / "08_reporting" / "lineage.sqlite"


def layout() -> Layout:
    """Return the layout of this process: below `FLIGHTDECK_DATA` where set, else below the project's `data/`."""
    return Layout((PROJECT / os.environ.get("FLIGHTDECK_DATA", "data")).resolve())
