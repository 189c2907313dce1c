"""The reports and tables that the pages show, by name: where each lies, its form and the command that makes it."""

from typing import Any

import msgspec
import pandas as pd

from dashboards.sources import read_record, read_table
from flightdeck.core.layout import Layout
from flightdeck.monitoring import drift, freshness, serving_stats, skew
from flightdeck.monitoring.quality import WINDOW_COLUMNS

PIPELINE, MONITOR, REPLAY = "kedro run --config kedro.yml", "kedro monitor", "kedro replay"


class Alert(msgspec.Struct, frozen=True):
    """One breach, as monitoring writes it into its summary and into the ledger."""

    name: str
    about: str = ""
    day: str = ""
    value: float | None = None
    threshold: float | None = None
    runbook: str = ""
    key: str = ""
    as_of: str | None = None
    what: str = ""


class Summary(msgspec.Struct, frozen=True):
    """`summary.json` of monitoring: the newest figures."""

    as_of: str | None = None
    message: str = ""
    champion: int | None = None
    n_predictions: int = 0
    n_labelled: int = 0
    n_pending: int = 0
    auc: float | None = None
    log_loss: float | None = None
    drift_columns: tuple[str, ...] = ()
    drift_judged: int = 0
    drift_limit: float | None = None
    skew_mismatches: int = 0
    skew_compared: int = 0
    skew_not_auditable: int = 0
    freshness_breaches: tuple[str, ...] = ()
    alerts: tuple[Alert, ...] = ()
    p95_ms: float | None = None


class Replay(msgspec.Struct, frozen=True):
    """`replay.json`: what the last replay sent and received."""

    day: str
    n_requests: int
    n_failed: int
    n_items: int = 0
    p95_ms: float | None = None
    ended_at: str = ""


class SourceCounts(msgspec.Struct, frozen=True):
    """Rows of one source file: `n_rows` = `n_accepted` + `n_quarantined`."""

    n_rows: int
    n_accepted: int
    n_quarantined: int
    reasons: dict[str, int] = {}


class StreamNow(msgspec.Struct, frozen=True):
    """One stream of the event log at its newest version."""

    version: int
    digest: str = ""
    n_rows: int | None = None


class Ingestion(msgspec.Struct, frozen=True):
    """`ingestion.json`: row counts of the last ingestion."""

    sources: dict[str, SourceCounts] = {}
    streams: dict[str, StreamNow] = {}


class Training(msgspec.Struct, frozen=True):
    """`training.json` of a bundle: what is needed to make the model again."""

    seed: int | None = None
    git_commit: str = ""
    lock_digest: str = ""
    model_digest: str = ""
    mlflow_run_id: str = ""
    data_versions: dict[str, StreamNow] = {}
    views: dict[str, str] = {}
    nodes: dict[str, str] = {}
    splits: dict[str, Any] = {}
    metrics: dict[str, float | None] = {}
    onnx_max_difference: float | None = None


def read_summary(where: Layout) -> Summary:
    """Return the newest figures of monitoring."""
    return read_record(where.monitoring / "summary.json", Summary, made_by=MONITOR)


def read_replay(where: Layout) -> Replay:
    """Return the report of the last replay."""
    return read_record(where.replay_report, Replay, made_by=REPLAY)


def read_ingestion(where: Layout) -> Ingestion:
    """Return the row counts of the last ingestion."""
    return read_record(where.ingestion_report, Ingestion, made_by=PIPELINE)


def read_quality(where: Layout) -> pd.DataFrame:
    """Return the quality of each window of request time, oldest first."""
    kinds = dict.fromkeys(WINDOW_COLUMNS, "float64") | dict.fromkeys(("n_labelled", "n_pending"), "int64")
    kinds |= dict.fromkeys(("window_start", "window_end"), "datetime64[us, UTC]")
    return read_table(where.monitoring / "quality.parquet", kinds, made_by=MONITOR)


def read_drift(where: Layout) -> pd.DataFrame:
    """Return the drift of each column."""
    return read_table(where.monitoring / "drift.parquet", drift.TABLE_TYPES, made_by=MONITOR)


def read_skew(where: Layout) -> pd.DataFrame:
    """Return the training-serving skew of each feature."""
    return read_table(where.monitoring / "skew.parquet", skew.TABLE_TYPES, made_by=MONITOR)


def read_freshness(where: Layout) -> pd.DataFrame:
    """Return the age of each stream and view."""
    return read_table(where.monitoring / "freshness.parquet", freshness.TABLE_TYPES, made_by=MONITOR)


def read_serving(where: Layout) -> pd.DataFrame:
    """Return who answered, and how fast."""
    return read_table(where.monitoring / "serving.parquet", serving_stats.TABLE_TYPES, made_by=MONITOR)
