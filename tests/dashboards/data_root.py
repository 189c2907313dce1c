"""A data root as a replayed day leaves it, written through the real ledger, bundles and log."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from flightdeck.core.clock import VirtualClock, to_us
from flightdeck.core.files import write_json
from flightdeck.core.layout import PROJECT, Layout
from flightdeck.gates.policy import read_policies
from flightdeck.gates.verdict import Check, judge, write_verdict
from flightdeck.inference.bundle import Bundle, content_digest, seal
from flightdeck.inference.prediction_log import PredictionLogWriter
from flightdeck.monitoring import drift, freshness, serving_stats, skew
from flightdeck.monitoring.alerts import Alert, record_alerts
from flightdeck.monitoring.experiment_report import to_json
from flightdeck.monitoring.experiment_results import measure_experiments
from flightdeck.monitoring.quality import quality_by_window
from flightdeck.release.ledger import Ledger, open_ledger
from tests import release_desk as commands
from tests.candidates import write_draft
from tests.flightdeck.monitoring.experiment_answers import TWO
from tests.flightdeck.monitoring.experiment_answers import answers as experiment_answers
from tests.predictions import log_batch

DAY = datetime(2013, 9, 12, 9, tzinfo=UTC)
ANSWERED_UNTIL = DAY + timedelta(hours=18)
NOTEBOOK_TEXT = "Evaluation of a release candidate"
EVIDENTLY_TEXT = "Drift of the newest day"
CHAMPION, CANDIDATE = 1, 2
N_FEATURES = 40


@dataclass(frozen=True)
class Written:
    """What `write_data_root` wrote."""

    where: Layout
    ledger: Ledger
    bundles: dict[int, Bundle]


def write_data_root(root: Path, *, mismatched: Sequence[str] = (), alerts: bool = True) -> Written:
    """Write a champion, a candidate that waits, a day of answers, and what monitoring and ingestion report of it.

    Parameters
    ----------
    root
        Data root, made here.
    mismatched
        Features that are to differ between serving and the log.
    alerts
        Whether the day alarms.
    """
    where = Layout(root)
    ledger = open_ledger(where.ledger, VirtualClock(DAY - timedelta(days=1)))
    bundles = {version: enter(where, ledger, version, root / "drafts") for version in (CHAMPION, CANDIDATE)}
    _release(ledger, where)
    found = [Alert("input-drift", str(CHAMPION), "2013-09-12", 7.0, 5.0).as_json()] if alerts else []
    found += [Alert("freshness", "weather_observed", "2013-09-13", 9000.0, 7200.0).as_json()] if alerts else []
    record_alerts(ledger, [*found, Alert("log-loss", str(CHAMPION), "2013-09-11", 0.62, 0.55).as_json()])
    write_ingestion(where)
    write_predictions(where)
    write_monitoring(where, mismatched=mismatched, alerts=found)
    write_json(where.replay_report, replay_report())
    return Written(where, ledger, bundles)


def enter(where: Layout, ledger: Ledger, version: int, drafts: Path, *, passed: bool = True) -> Bundle:
    """Seal a candidate with executed evidence, and enter it with its verdict as the pipeline does."""
    draft = write_draft(drafts / str(version), n_rows=200, seed=version)
    (draft / "surfaces.json").write_text(
        json.dumps({"search": {"decisions": {"low": 0.0, "high": 0.5}}}), encoding="utf-8"
    )
    (draft / "evaluation").mkdir()
    (draft / "evaluation" / "evaluation.ipynb").write_text("{}", encoding="utf-8")
    page = f"<!DOCTYPE html><html lang='en'><title>Evaluation</title><h1>{NOTEBOOK_TEXT}</h1></html>"
    (draft / "evaluation" / "evaluation.html").write_text(page, encoding="utf-8")
    checks = [
        Check("auc_15", 0.788 if passed else 0.71, 0.77, passed, blocking=True, detail="ROC AUC, at least."),
        Check("auc_120", 0.7641, 0.74, passed=True, blocking=True, detail="ROC AUC at T-2 h, at least."),
        Check("ece_15", 0.0113, 0.02, passed=True, blocking=True, detail="Expected calibration error, at most."),
        Check("onnx_difference", 3e-7, 1e-5, passed=True, blocking=True, detail="Largest difference, at most."),
        Check("worst_month_auc", 0.61, 0.65, passed=False, blocking=False, detail="Lowest AUC of a month: *December*."),
    ]
    content = content_digest(draft)
    verdict = judge(content, "medium", checks, DAY.isoformat())
    write_verdict(draft / "evaluation" / "verdict.json", verdict)
    bundle = seal(draft, where.bundles, name="flight-delay", metadata={"content_digest": content})
    commands.register(ledger, version, bundle=bundle, model_name="flight-delay", tier="medium")
    commands.record_verdict(ledger, version, verdict, bundle=bundle)
    return bundle


def _release(ledger: Ledger, where: Layout) -> None:
    policies = read_policies(PROJECT / "conf")
    commands.approve(ledger, CHAMPION, by="Ada Lovelace", bundles=where.bundles, reason="calibrated in every month")
    for stage in ("staging", "canary", "prod"):
        commands.promote(
            ledger, CHAMPION, by="Grace Hopper", policies=policies, bundles=where.bundles, to=stage, share=None
        )


def replay_report() -> dict[str, object]:
    """Return the report of a replay that answered everything."""
    return {
        "day": "2013-09-12",
        "n_requests": 4000,
        "n_items": 9000,
        "n_failed": 0,
        "by_mode": {"model": 9000},
        "by_surface": {"search": 2000, "itinerary": 1500, "alerts": 500},
        "p50_ms": 8.1,
        "p95_ms": 24.2,
        "p99_ms": 41.0,
        "ended_at": DAY.isoformat(),
    }


def write_ingestion(where: Layout) -> None:
    """Write the ingestion report and the quarantine of one source."""
    reasons = {"wind_speed 1048.36 breaks the range 0..150": 1, "hhmm 2575 is no time": 3}
    counts = {"n_rows": 26115, "n_accepted": 26111, "n_quarantined": 4, "reasons": reasons}
    clean = {"n_rows": 336776, "n_accepted": 336776, "n_quarantined": 0, "reasons": {}}
    streams = {name: {"version": 3, "digest": "a1" * 32, "n_rows": 1000} for name in ("scheduled", "arrived")}
    write_json(where.ingestion_report, {"sources": {"weather": counts, "flights": clean}, "streams": streams})
    rows = [
        {"source": "weather", "source_offset": 1011 + i, "reason": reason, "row": json.dumps({"origin": "EWR", "n": i})}
        for i, reason in enumerate(reason for reason, n in reasons.items() for _ in range(n))
    ]
    where.quarantine.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_parquet(where.quarantine / "weather.parquet")


def write_predictions(where: Layout, *, n_requests: int = 600) -> None:
    """Write a day of answers, most by the model, through the real writer."""
    rng = np.random.default_rng(7)
    writer = PredictionLogWriter(where.prediction_log, VirtualClock(ANSWERED_UNTIL))
    for number, second in enumerate(np.sort(rng.integers(0, 18 * 3600, n_requests)).tolist()):
        request_us = to_us(DAY + timedelta(seconds=second))
        surface = ("search", "search", "itinerary", "alerts")[number % 4]
        mode = "fallback" if number % 50 == 0 else "rules" if number % 199 == 0 else "model"
        said = {"request_id": f"r{number}", "request_us": request_us, "surface": surface, "mode": mode}
        writer.append(log_batch([{**said, "item": item} for item in range(1 + number % 3)]))
    writer.close()


def write_monitoring(where: Layout, *, mismatched: Sequence[str], alerts: list[dict[str, object]]) -> None:
    """Write the tables, the page and the summary of monitoring."""
    where.monitoring.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(11)
    n = 4000
    score = rng.beta(1.5, 5, n)
    labelled = pd.DataFrame(
        {
            "request_us": to_us(DAY) + rng.integers(0, 18 * 3600, n) * 1_000_000,
            "probability": score,
            "label": (rng.random(n) < score).astype(int),
            "is_mature": rng.random(n) < 0.8,
            "weight": 1.0,
        }
    )
    tables = {
        "quality": quality_by_window(labelled, 3600),
        "drift": _drift(rng),
        "skew": _skew(mismatched),
        "freshness": _freshness(),
        "serving": _serving(),
    }
    for name, table in tables.items():
        table.to_parquet(where.monitoring / f"{name}.parquet")
    compared = measure_experiments(experiment_answers(2000, 3), [TWO])
    write_json(where.monitoring / "experiments.json", to_json(compared, DAY + timedelta(days=1)))
    page = f"<!DOCTYPE html><html lang='en'><title>Drift</title><p>{EVIDENTLY_TEXT}</p></html>"
    (where.monitoring / "drift.html").write_text(page, encoding="utf-8")
    summary = {
        "as_of": "2013-09-13T09:00:00+00:00",
        "message": "",
        "champion": CHAMPION,
        "n_predictions": n,
        "n_labelled": 3200,
        "n_pending": 800,
        "auc": 0.771,
        "log_loss": 0.521,
        "drift_columns": ["feature_0"],
        "drift_judged": N_FEATURES,
        "drift_limit": 5.0,
        "skew_mismatches": 3 * len(mismatched),
        "skew_compared": 4000 * N_FEATURES,
        "freshness_breaches": ["weather_observed"] if alerts else [],
        "alerts": [{**alert, "as_of": "2013-09-13T09:00:00+00:00"} for alert in alerts],
        "by_mode": {"model": 3900, "fallback": 80, "rules": 20},
        "p95_ms": 31.5,
    }
    write_json(where.monitoring / "summary.json", summary)


def _drift(rng: np.random.Generator) -> pd.DataFrame:
    rows: list[tuple[object, ...]] = [
        (f"origin_departures__mean_delay_{i}m", "input", float(psi), 0.35, bool(psi > 0.35), 900, "")
        for i, psi in enumerate(rng.gamma(2, 0.08, N_FEATURES - 1))
    ]
    rows.append(("dest", "input", float("nan"), 0.2, False, 12, "12 comparable predictions, 200 are needed"))
    rows.append(("probability", "prediction", 0.12, 0.4, False, 900, ""))
    return pd.DataFrame(rows, columns=list(drift.TABLE_TYPES)).astype(drift.TABLE_TYPES)


def _skew(mismatched: Sequence[str]) -> pd.DataFrame:
    names = [f"feature_{i}" for i in range(N_FEATURES - len(mismatched))]
    rows = [(name, 4000, 0, 0.0) for name in names] + [(name, 4000, 3, 12.5) for name in mismatched]
    return pd.DataFrame(rows, columns=list(skew.TABLE_TYPES)).astype(skew.TABLE_TYPES)


def _freshness() -> pd.DataFrame:
    heard = pd.Timestamp("2013-09-13T08:40:00", tz="UTC")
    rows = [
        ("scheduled", heard, 1200.0, 3600, False),
        ("weather_observed", heard, 9000.0, 7200, True),
        ("carrier_departures", pd.NaT, float("inf"), 900, True),
    ]
    return pd.DataFrame(rows, columns=list(freshness.TABLE_TYPES)).astype(freshness.TABLE_TYPES)


def _serving() -> pd.DataFrame:
    rows = [
        ("search", "model", "champion", "1", 5000, 8.0, 22.0),
        ("itinerary", "model", "champion", "1", 2500, 9.0, 25.0),
        ("alerts", "fallback", "champion", "1", 80, 3.0, 6.0),
    ]
    return pd.DataFrame(rows, columns=list(serving_stats.TABLE_TYPES)).astype(serving_stats.TABLE_TYPES)
