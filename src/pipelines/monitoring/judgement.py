"""What the tables mean: the alerts that they cause, and the summary that people read first. Pure."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from flightdeck.core.clock import from_us
from flightdeck.monitoring import alerts as alerting
from flightdeck.monitoring.champion import ChampionReference
from flightdeck.monitoring.drift import Drift
from flightdeck.monitoring.quality import measure_quality
from flightdeck.monitoring.serving_stats import count_modes, degraded_share, p95_ms
from flightdeck.monitoring.settings import MonitoringSettings
from flightdeck.monitoring.skew import SkewAudit
from flightdeck.monitoring.thresholds import Bounds, resampled_bounds
from pipelines.monitoring.nodes import Settings, current_day, current_window, settings_of


def raise_alerts(
    predictions: pd.DataFrame,
    days: pd.DataFrame,
    champion: ChampionReference,
    drift: Drift,
    audit: SkewAudit,
    freshness: pd.DataFrame,
    as_of: Mapping[str, int | None],
    settings: Settings,
) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """Return the alerts twice: for the summary and for the ledger."""
    cast = settings_of(settings)
    as_of_us, judged_us = as_of["as_of_us"], as_of["judged_us"]
    if as_of_us is None or judged_us is None:
        return [], []
    about, day = str(champion.version), current_day(predictions, as_of_us, cast)
    found = [
        *alerting.quality_alerts(judged_days(days, cast), quality_bounds(champion, cast), about=about),
        *alerting.drift_alerts(drift, about=about, day=day),
        *alerting.skew_alerts(audit, day=day),
        *alerting.freshness_alerts(freshness, day=from_us(judged_us).date().isoformat()),
        *alerting.degraded_alerts(degraded_share(current_window(predictions, cast)), cast.degraded_share, day=day),
    ]
    listed = [{**alert.as_json(), "as_of": from_us(as_of_us).isoformat()} for alert in found]
    return listed, listed


def quality_bounds(champion: ChampionReference, settings: MonitoringSettings) -> dict[str, Bounds | None]:
    """Return the bounds of a day's calibration gap and log loss, from the champion's test days."""
    if champion.days.empty:
        return {}
    gap = (champion.days["positive_rate"] - champion.days["mean_probability"]).to_numpy()
    log_loss = champion.days["log_loss"].to_numpy()
    return {
        name: resampled_bounds(
            values,
            false_alarm_rate=settings.false_alarm_rate,
            is_two_sided=is_two_sided,
            n_resamples=settings.n_resamples,
            seed=settings.seed,
        )
        for name, values, is_two_sided in ((alerting.CALIBRATION, gap, True), (alerting.LOG_LOSS, log_loss, False))
    }


def judged_days(days: pd.DataFrame, settings: MonitoringSettings) -> pd.DataFrame:
    """Return the days with enough mature rows to say anything."""
    share = days["n_labelled"] / (days["n_labelled"] + days["n_pending"]).clip(lower=1)
    return days[(days["n_labelled"] >= settings.minimum_rows) & (share >= settings.minimum_mature_share)]


def summarise(
    labelled: pd.DataFrame,
    champion: ChampionReference,
    drift: Drift,
    audit: SkewAudit,
    freshness: pd.DataFrame,
    alerts: list[dict[str, object]],
    as_of: Mapping[str, int | None],
    settings: Settings,
) -> dict[str, Any]:
    """Return the figures that the command prints and the dashboard shows first; None where undefined.

    Predictions and modes are estimates where only some units of a surface are logged; labelled and pending ones are
    records: the evidence that quality rests on.
    """
    as_of_us = as_of["as_of_us"]
    mature = labelled[labelled["is_mature"] & labelled["probability"].notna()]
    quality = measure_quality(*(mature[name].to_numpy() for name in ("label", "probability", "weight")))
    current = current_window(labelled, settings_of(settings))
    return {
        "as_of": None if as_of_us is None else from_us(as_of_us).isoformat(),
        "message": _message(labelled, champion),
        "champion": champion.version,
        "n_predictions": round(labelled["weight"].sum()),
        "n_labelled": len(mature),
        "n_pending": len(labelled) - len(mature),
        **{name: _finite(value) for name, value in quality.items()},
        "drift_columns": drift.table.loc[drift.table["breached"], "column"].tolist(),
        "drift_judged": int(drift.table["psi"].notna().sum()),
        "drift_limit": _finite(drift.n_breached_limit),
        "skew_mismatches": audit.n_mismatched,
        "skew_compared": audit.n_compared,
        "skew_not_auditable": audit.n_not_auditable,
        "freshness_breaches": freshness.loc[freshness["breached"], "name"].tolist(),
        "alerts": alerts,
        "by_mode": count_modes(labelled),
        "p95_ms": _finite(p95_ms(current)),
    }


def _message(predictions: pd.DataFrame, champion: ChampionReference) -> str:
    """Return what is missing, and the next step; empty if nothing is."""
    missing = []
    if predictions.empty:
        missing.append("no prediction to judge yet: kedro replay --day 2013-09-12 asks for some")
    if champion.version is None:
        missing.append("no model version is in prod: kedro release promote brings one there")
    if champion.problem:
        missing.append(
            f"version {champion.version} is in prod, but quality and drift are not judged: {champion.problem}"
        )
    return "; ".join(missing)


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
