"""Monitoring of the use case: what is judged, compared with what. Pure: time comes from the data."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from flightdeck.core.clock import MINUTE_US, from_us
from flightdeck.core.config import cast_config
from flightdeck.events.log import EventLog
from flightdeck.monitoring import drift as drifting
from flightdeck.monitoring.champion import ChampionReference
from flightdeck.monitoring.comparable import select_comparable
from flightdeck.monitoring.drift import PREDICTION, Drift
from flightdeck.monitoring.experiment_periods import Period
from flightdeck.monitoring.experiment_report import to_json
from flightdeck.monitoring.experiment_results import measure_experiments
from flightdeck.monitoring.freshness import measure_freshness, no_freshness
from flightdeck.monitoring.labels import join_labels
from flightdeck.monitoring.prediction_log import NO_TIME_US
from flightdeck.monitoring.quality import quality_by_day, quality_by_window
from flightdeck.monitoring.serving_stats import count_answers
from flightdeck.monitoring.settings import DAY_US, HOUR_US, MonitoringSettings
from flightdeck.monitoring.skew import ServedModel, SkewAudit, audit_skew
from pipelines.features.views import VIEWS
from pipelines.ingestion.streams import STREAMS
from pipelines.monitoring import outcomes

Settings = Mapping[str, Any]
MAX_OFFSETS = 100  # a live materializer moves on with every batch, a replay stands still
DAY_LENGTH = len("2013-09-12")  # a flight's identifier begins with its local day


def settings_of(settings: Settings) -> MonitoringSettings:
    """Return the parameters, cast and checked.

    Raises
    ------
    ConfigError
        Naming the key and the rule.
    """
    return cast_config(dict(settings), MonitoringSettings, where="params:monitoring")


def select_predictions(
    prediction_log: pd.DataFrame, watermarks: Mapping[str, int], settings: Settings
) -> tuple[pd.DataFrame, dict[str, int | None]]:
    """Return the predictions to judge and the times to judge them at, `as_of_us` and `judged_us`.

    What is known is known until `as_of_us`, the online store's watermark, so that a replayed day is judged in its own
    time; without a store it is the newest request; None if nothing was ever asked or fed. Serving is judged at
    `judged_us`: the newest request of this store where that is later, so that a store that is no longer fed is seen.
    Predictions of a later time are left out.
    """
    cast = settings_of(settings)
    asked_us = prediction_log["request_us"]
    newest_us = int(asked_us.max()) if len(asked_us) else None
    as_of_us = max(watermarks.values(), default=newest_us)
    if as_of_us is None:
        return prediction_log, {"as_of_us": None, "judged_us": None}
    of_this_store = asked_us[_read_watermarks(prediction_log) <= as_of_us]
    judged_us = max(as_of_us, int(of_this_store.max()) if len(of_this_store) else as_of_us)
    inside = (asked_us > judged_us - cast.history_days * DAY_US) & (asked_us <= judged_us)
    return prediction_log[inside].reset_index(drop=True), {"as_of_us": as_of_us, "judged_us": judged_us}


def label_predictions(
    predictions: pd.DataFrame,
    scheduled: pa.Table,
    arrived: pa.Table,
    cancelled: pa.Table,
    as_of: Mapping[str, int | None],
) -> pd.DataFrame:
    """Return the predictions with the labels that are known at `as_of`."""
    flights = predictions["flight_id"].tolist()
    return join_labels(
        predictions,
        outcomes.expected_flights(scheduled, flights),
        outcomes.on_time_arrivals(arrived, flights),
        outcomes.late_or_cancelled(arrived, cancelled, flights),
        as_of["as_of_us"] or 0,
        key=outcomes.KEY,
    )


def compare_arms(
    prediction_log: pd.DataFrame,
    periods: Sequence[Period],
    scheduled: pa.Table,
    arrived: pa.Table,
    cancelled: pa.Table,
    as_of: Mapping[str, int | None],
) -> dict[str, Any]:
    """Return the results of all experiments as JSON values, with the labels that are known at `as_of`.

    All of the log counts, however long an experiment has run; predictions later than the judgement are left out.
    """
    judged_us = as_of["judged_us"]
    is_due = prediction_log["arm"].str.contains(":") & (prediction_log["request_us"] <= (judged_us or 0))
    rows = prediction_log[is_due].reset_index(drop=True)
    results = measure_experiments(label_predictions(rows, scheduled, arrived, cancelled, as_of), periods)
    return to_json(results, None if judged_us is None else from_us(judged_us))


def measure_windows(labelled: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """Return the quality of all answers by window of request time."""
    return quality_by_window(labelled, settings_of(settings).window_min * 60)


def measure_days(labelled: pd.DataFrame, champion: ChampionReference, settings: Settings) -> pd.DataFrame:
    """Return the quality of the champion's comparable answers by local day of departure."""
    rows = _comparable(labelled, champion, settings_of(settings))
    return quality_by_day(rows, rows["flight_id"].str[:DAY_LENGTH])


def compare_distributions(
    predictions: pd.DataFrame, champion: ChampionReference, settings: Settings
) -> tuple[Drift, str]:
    """Return the drift of the champion's inputs and predictions in the current window, and the report as HTML."""
    cast = settings_of(settings)
    if champion.version is None or champion.problem:
        return drifting.no_drift(), drifting.render_report(pd.DataFrame(), pd.DataFrame(), drifting.no_drift(), cast)
    reference = champion.rows.drop(columns="request_timestamp")
    at_us = champion.rows["request_timestamp"].astype("datetime64[us, UTC]").astype("int64").to_numpy()
    current = _model_columns(_comparable(current_window(predictions, cast), champion, cast), champion)
    drift = drifting.measure_drift(reference, (at_us - cast.day_offset_h * HOUR_US) // DAY_US, current, cast)
    return drift, drifting.render_report(reference, current, drift, cast)


def audit_served_features(
    predictions: pd.DataFrame, served_models: Mapping[str, ServedModel], log: EventLog, settings: Settings
) -> SkewAudit:
    """Return the comparison of the served features of the current window with what the log says they should be."""
    cast = settings_of(settings)
    return audit_skew(_sample_to_audit(current_window(predictions, cast), cast), served=served_models, log=log)


def measure_ages(
    predictions: pd.DataFrame,
    log: EventLog,
    watermarks: Mapping[str, int],
    as_of: Mapping[str, int | None],
    settings: Settings,
) -> pd.DataFrame:
    """Return the age of the streams at `as_of_us`, and of the online store and the served features at `judged_us`."""
    as_of_us = as_of["as_of_us"]
    if as_of_us is None:
        return no_freshness()
    current = current_window(predictions, settings_of(settings))
    return measure_freshness(log, STREAMS, VIEWS, watermarks, current, as_of_us, judged_us=as_of["judged_us"])


def count_current_answers(predictions: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """Return who answered in the current window, and how fast."""
    return count_answers(current_window(predictions, settings_of(settings)))


def take_tables(drift: Drift, audit: SkewAudit) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the tables of drift and of skew."""
    return drift.table, audit.table


def current_window(predictions: pd.DataFrame, settings: MonitoringSettings) -> pd.DataFrame:
    """Return the predictions of the hours before the newest one."""
    if predictions.empty:
        return predictions
    since_us = int(predictions["request_us"].max()) - settings.current_h * HOUR_US
    return predictions[predictions["request_us"] > since_us]


def _sample_to_audit(current: pd.DataFrame, settings: MonitoringSettings) -> pd.DataFrame:
    """Return a sample of predictions of few offsets: each part of the log that was reflected is read for itself."""
    offsets = current["feature_offset"].drop_duplicates()
    if len(offsets) > MAX_OFFSETS:
        current = current[current["feature_offset"].isin(offsets.sample(MAX_OFFSETS, random_state=settings.seed))]
    return current.sample(min(len(current), settings.audit_rows), random_state=settings.seed)


def current_day(predictions: pd.DataFrame, as_of_us: int, settings: MonitoringSettings) -> str:
    """Return the day (ISO) of the newest prediction, or of `as_of_us` without one."""
    newest_us = int(predictions["request_us"].max()) if len(predictions) else as_of_us
    return from_us(newest_us - settings.day_offset_h * 60 * MINUTE_US).date().isoformat()


def _read_watermarks(prediction_log: pd.DataFrame) -> "pd.Series[float]":
    """Return the watermark that each answer was read at; an answer without features takes that of the one before it.

    An answer read at a watermark that the store has not reached is of an earlier replay, of a later day.
    """
    read_us = prediction_log["watermark_us"].astype("float64")
    return read_us.mask(read_us == NO_TIME_US).ffill().fillna(NO_TIME_US)


def _comparable(rows: pd.DataFrame, champion: ChampionReference, settings: MonitoringSettings) -> pd.DataFrame:
    """Return what the champion's model answered when asked as training asks."""
    own = rows[(rows["mode"] == "model") & (rows["bundle_digest"] == champion.digest) & rows["features"].notna()]
    return select_comparable(
        own, "scheduled_departure_us", settings.scored_leads_min, settings.lead_tolerance_min, key=outcomes.KEY
    )


def _model_columns(rows: pd.DataFrame, champion: ChampionReference) -> pd.DataFrame:
    """Return the model's inputs as they were served, and the prediction."""
    numeric = list(champion.features["numeric"])
    vectors = np.stack(rows["features"].tolist()) if len(rows) else np.empty((0, len(numeric)), np.float32)
    inputs = pd.DataFrame(vectors, columns=numeric, index=rows.index)
    return inputs.assign(**{name: rows[name] for name in (*champion.features["categorical"], PREDICTION)})
