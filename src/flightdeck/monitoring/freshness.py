"""How old everything was: the streams, the online store's views, and the features as they were served."""

from collections.abc import Mapping, Sequence

import pandas as pd

from flightdeck.core.clock import SECOND_US, from_us
from flightdeck.events.freshness import stream_freshness
from flightdeck.events.log import EventLog
from flightdeck.events.stream import Stream
from flightdeck.features.view import FeatureView
from flightdeck.monitoring.prediction_log import NO_TIME_US

TABLE_TYPES = {
    "name": "object",
    "last_event_at": "datetime64[us, UTC]",
    "age_s": "float64",
    "slo_s": "int64",
    "breached": "bool",
}
SERVED = "served_features"


def measure_freshness(
    log: EventLog,
    streams: Sequence[Stream],
    views: Sequence[FeatureView],
    watermarks_us: Mapping[str, int],
    predictions: pd.DataFrame,
    as_of_us: int,
    *,
    judged_us: int | None = None,
) -> pd.DataFrame:
    """Return the age of each stream, each view and the served features.

    Parameters
    ----------
    log
        Event log.
    streams
        Streams with the silence that they promise.
    views
        Views with their freshness objective.
    watermarks_us
        Watermark of each view in the online store; a view that is not in it was never fed.
    predictions
        Predictions to look back at: the oldest features that any of them was answered with.
    as_of_us
        The time to judge streams at, UTC microseconds.
    judged_us
        The time to judge views at, UTC microseconds; `as_of_us` if not given. A store that is no longer fed does not
        age against its own watermark: give the newest request where that is later.

    Returns
    -------
    DataFrame
        The columns of `TABLE_TYPES`; `age_s` is infinite where nothing was ever heard.

    Raises
    ------
    NotFoundError
        If a stream is not in the log.
    """
    rows = [
        _row(
            found.name,
            None if found.last_event_at is None else as_of_us - found.age_s * SECOND_US,
            as_of_us,
            found.slo_s,
        )
        for found in stream_freshness(log, streams, from_us(as_of_us))
    ]
    views_us = as_of_us if judged_us is None else judged_us
    rows += [_row(view.name, watermarks_us.get(view.name), views_us, view.freshness_slo_s) for view in views]
    return pd.DataFrame([*rows, *_served(predictions, views)], columns=list(TABLE_TYPES)).astype(TABLE_TYPES)


def no_freshness() -> pd.DataFrame:
    """Return the table of nothing measured."""
    return pd.DataFrame({name: pd.Series([], dtype=kind) for name, kind in TABLE_TYPES.items()})


def _row(name: str, last_us: float | None, as_of_us: int, slo_s: int) -> dict[str, object]:
    age_s = float("inf") if last_us is None else (as_of_us - last_us) / SECOND_US
    last_event_at = pd.NaT if last_us is None else pd.Timestamp(int(last_us), unit="us", tz="UTC")
    return dict(zip(TABLE_TYPES, (name, last_event_at, age_s, slo_s, age_s > slo_s), strict=True))


def _served(predictions: pd.DataFrame, views: Sequence[FeatureView]) -> list[dict[str, object]]:
    """Return the answer with the oldest features: how far its time was ahead of the store."""
    read = predictions[predictions["feature_us"] != NO_TIME_US]
    if read.empty or not views:
        return []
    watermark_us, feature_us = (read[name].to_numpy(dtype="int64") for name in ("watermark_us", "feature_us"))
    worst = int((feature_us - watermark_us).argmax())
    slo_s = min(view.freshness_slo_s for view in views)
    return [_row(SERVED, int(watermark_us[worst]), int(feature_us[worst]), slo_s)]
