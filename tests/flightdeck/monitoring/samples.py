"""Rows for the tests of monitoring: predictions, and a champion in a real ledger with a sealed bundle."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from flightdeck.core.clock import VirtualClock
from flightdeck.core.files import write_atomically
from flightdeck.core.identifiers import canonical_json
from flightdeck.inference.bundle import EVIDENCE, REQUIRED, seal
from flightdeck.monitoring.prediction_log import COLUMNS
from flightdeck.monitoring.settings import MonitoringSettings
from flightdeck.release.ledger import open_ledger
from tests.event_streams import NOON_US

CLOCK = VirtualClock(datetime(2013, 9, 13, tzinfo=UTC))
SETTINGS: dict[str, Any] = {
    "history_days": 7,
    "window_min": 60,
    "current_h": 24,
    "scored_leads_min": [120, 15],
    "lead_tolerance_min": 15,
    "day_offset_h": 9,
    "minimum_rows": 50,
    "minimum_mature_share": 0.5,
    "false_alarm_rate": 0.05,
    "minimum_psi": 0.1,
    "drift_ignores": ["horizon_min"],
    "drift_rows": 5000,
    "report_columns": 5,
    "audit_rows": 1000,
    "degraded_share": 0.01,
    "n_resamples": 2000,
    "seed": 7,
}


def monitoring_settings(**changes: Any) -> MonitoringSettings:
    values = {**SETTINGS, **changes}
    return MonitoringSettings(
        **{
            **values,
            "scored_leads_min": tuple(values["scored_leads_min"]),
            "drift_ignores": tuple(values["drift_ignores"]),
        }
    )


def prediction_rows(n: int, **columns: object) -> pd.DataFrame:
    """Return `n` predictions with the columns of the log; what is not given has a plain value."""
    defaults: dict[str, object] = {
        **{name: {"object": "x", "int64": 0, "float64": 0.5}[kind] for name, kind in COLUMNS.items()},
        "request_id": [f"r{i}" for i in range(n)],
        "flight_id": [f"2013-09-12:UA:{i}:EWR" for i in range(n)],
        "request_us": NOON_US + np.arange(n),
        "feature_us": NOON_US + np.arange(n),
        "watermark_us": NOON_US,
        "mode": "model",
        "arm": "champion",
        "model_version": "1",
        "features": None,
        "weight": 1.0,
    }
    values = {**defaults, **columns}
    return pd.DataFrame({name: pd.Series(values[name], index=range(n), dtype=kind) for name, kind in COLUMNS.items()})


def seal_champion(
    root: Path,
    features: Mapping[str, object],
    rows: pd.DataFrame,
    days: pd.DataFrame,
    *,
    version: int = 1,
    model: bytes = b"{}",
) -> str:
    """Seal a bundle below `root/06_models/bundles`, make it the champion of `root/06_models/ledger.sqlite`."""
    draft = root / "draft"
    for name in (*REQUIRED, *EVIDENCE):
        write_atomically(draft / name, b"{}")
    write_atomically(draft / "features.json", canonical_json(features))
    write_atomically(draft / "model.onnx", model)
    rows.to_parquet(draft / "reference" / "features.parquet")
    days.to_parquet(draft / "reference" / "days.parquet")
    bundle = seal(draft, root / "06_models" / "bundles", name="test", metadata={})
    ledger = open_ledger(root / "06_models" / "ledger.sqlite", CLOCK)
    registered = {"digest": bundle.digest, "tier": "low", "model_name": "test"}
    ledger.append("registered", actor="test", subject=str(version), detail=registered)
    for stage in ("staging", "canary", "prod"):
        ledger.append(
            "promoted", actor="test", subject=str(version), detail={"digest": bundle.digest, "to": stage, "share": 0.1}
        )
    return bundle.digest
