"""Sources to events: check rows, derive exact times, build one table a stream. Pure functions."""

import datetime as dt
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from flightdeck.core.clock import MINUTE_US
from flightdeck.core.errors import ConfigError
from flightdeck.events.contracts import Checked, check_rows
from flightdeck.events.log import version_of
from flightdeck.events.raw_file import RawRows
from flightdeck.events.stream import INSTANT, Stream
from pipelines.features.views import WEATHER_MEASURES
from pipelines.ingestion import streams
from pipelines.ingestion.contracts import (
    LATE_MIN,
    airports_contract,
    flights_contract,
    planes_contract,
    weather_contract,
)
from pipelines.ingestion.local_time import arrival_us, clock_minutes, utc_offset_min

REPORT_LAG_US = 2 * MINUTE_US
WEATHER_LAG_US = 60 * MINUTE_US
BLOCK_MIN = (20, 780)
GAINED_MIN = 300  # the largest of the year is 196
Micros = npt.NDArray[np.int64]


def check_airports(raw: RawRows, settings: Mapping[str, Any]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return accepted airports, with the zones that the source lacks added, and quarantined rows.

    Four destinations are missing in the source (flights.md, trap 3); their zones come from the parameters.
    """
    checked = check_rows(raw, airports_contract())
    missing = settings["missing_airports"]
    added = pd.DataFrame({"faa": list(missing), "name": list(missing), "tzone": list(missing.values())})
    known = checked.accepted
    return pd.concat([known, added[~added["faa"].isin(known["faa"])]], ignore_index=True), checked.quarantined


def check_planes(raw: RawRows) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return accepted aircraft and quarantined rows.

    Reference data for exploration only: a plane that is missing here is mostly a cancelled flight (flights.md, trap 9),
    so joining it into the features would leak the label.
    """
    checked = check_rows(raw, planes_contract())
    return checked.accepted, checked.quarantined


def check_flights(
    raw: RawRows, airports: pd.DataFrame, settings: Mapping[str, Any]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return accepted flights with exact UTC instants, and quarantined rows.

    Added columns: `sched_dep_us`, `sched_arr_us` (UTC microseconds), `utc_offset_min` at the origin, `flight_id`.
    """
    checked = check_rows(raw, flights_contract(*_period(settings)))
    zones = dict(zip(airports["faa"], airports["tzone"], strict=True))
    checked = checked.set_aside(_without_zone(checked.accepted, zones))
    timed = _with_times(checked.accepted, zones)
    checked = Checked(checked.source, timed, checked.quarantined, checked.n_rows)
    checked = checked.set_aside(_implausible_times(timed))
    return checked.accepted, checked.quarantined


def check_weather(raw: RawRows, settings: Mapping[str, Any]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return accepted weather rows and quarantined ones."""
    checked = check_rows(raw, weather_contract(*_period(settings)))
    return checked.accepted, checked.quarantined


def scheduled_events(flights: pd.DataFrame) -> tuple[Stream, pa.Table]:
    """Return one `scheduled` event a flight, known when the departure falls due."""
    due_us = flights["sched_dep_us"].to_numpy()
    payload = {
        "flight": flights["flight"].to_numpy().astype(np.int64),
        "tailnum": flights["tailnum"],
        "scheduled_departure": _instants(due_us),
        "scheduled_arrival": _instants(flights["sched_arr_us"].to_numpy()),
        "origin_utc_offset_min": flights["utc_offset_min"].to_numpy(),
        "distance_miles": flights["distance"].to_numpy().astype(np.int64),
    }
    return streams.SCHEDULED, _flight_events("scheduled", flights, due_us, due_us, payload)


def departed_events(flights: pd.DataFrame) -> tuple[Stream, pa.Table]:
    """Return one `departed` event for each flight that left, known 2 minutes later."""
    left = flights[flights["dep_delay"].notna()]
    delay = left["dep_delay"].to_numpy().astype(np.int64)
    at_us = left["sched_dep_us"].to_numpy() + delay * MINUTE_US
    payload = {"tailnum": left["tailnum"], "dep_delay_min": delay, "is_late": (delay >= LATE_MIN).astype(np.int64)}
    return streams.DEPARTED, _flight_events("departed", left, at_us, at_us + REPORT_LAG_US, payload)


def arrived_events(flights: pd.DataFrame) -> tuple[Stream, pa.Table]:
    """Return one `arrived` event for each flight that reached its destination, known 2 minutes later."""
    landed = flights[flights["arr_delay"].notna()]
    delay = landed["arr_delay"].to_numpy().astype(np.int64)
    at_us = landed["sched_arr_us"].to_numpy() + delay * MINUTE_US
    payload = {"tailnum": landed["tailnum"], "arr_delay_min": delay, "is_late": (delay >= LATE_MIN).astype(np.int64)}
    return streams.ARRIVED, _flight_events("arrived", landed, at_us, at_us + REPORT_LAG_US, payload)


def cancelled_events(flights: pd.DataFrame) -> tuple[Stream, pa.Table]:
    """Return one `cancelled` event for each flight that never left, known 2 minutes after its scheduled departure."""
    never_left = flights[flights["dep_delay"].isna()]
    at_us = never_left["sched_dep_us"].to_numpy()
    return streams.CANCELLED, _flight_events("cancelled", never_left, at_us, at_us + REPORT_LAG_US, {})


def weather_events(weather: pd.DataFrame) -> tuple[Stream, pa.Table]:
    """Return one `weather_observed` event an hour and airport, known when the hour is over."""
    hour_us = _micros(weather["time_hour"])
    names = [measure.rpartition("_")[0] for measure in WEATHER_MEASURES]
    hours = weather["time_hour"].dt.strftime("%Y-%m-%dT%HZ")
    columns = {
        **_common("weather_observed", weather["origin"] + ":" + hours, hour_us, hour_us + WEATHER_LAG_US, "weather"),
        "source_offset": weather["source_offset"].to_numpy(),
        "origin": weather["origin"].to_numpy(object),
        **{measure: weather[name].to_numpy() for measure, name in zip(WEATHER_MEASURES, names, strict=True)},
    }
    return streams.WEATHER_OBSERVED, pa.table({k: pa.array(v, from_pandas=False) for k, v in columns.items()})


def ingestion_report(
    flights: RawRows,
    weather: RawRows,
    planes: RawRows,
    airports: RawRows,
    quarantined_flights: pd.DataFrame,
    quarantined_weather: pd.DataFrame,
    quarantined_planes: pd.DataFrame,
    quarantined_airports: pd.DataFrame,
    *logged: pa.Table,
) -> dict[str, Any]:
    """Return row counts by source and the version of each stream, for people and dashboards.

    Notes
    -----
    The law rows in = accepted + quarantined is held where rows are split (`flightdeck.events.contracts`).
    """
    pairs = (
        (flights, quarantined_flights),
        (weather, quarantined_weather),
        (planes, quarantined_planes),
        (airports, quarantined_airports),
    )
    return {
        "sources": {raw.source: _counts(raw, quarantined) for raw, quarantined in pairs},
        "streams": {name: version.as_json() for name, version in map(version_of, logged)},
    }


def _counts(raw: RawRows, quarantined: pd.DataFrame) -> dict[str, Any]:
    reasons = quarantined["reason"].value_counts().head(20)
    return {
        "n_rows": raw.n_rows,
        "n_accepted": raw.n_rows - len(quarantined),
        "n_quarantined": len(quarantined),
        "reasons": {str(reason): int(n) for reason, n in reasons.items()},
        "sha256": raw.digest,
    }


def _period(settings: Mapping[str, Any]) -> tuple[dt.date, dt.date]:
    """Return the first and last local day that a delivery may hold."""
    first, last = (dt.date.fromisoformat(str(settings[key])) for key in ("first_day", "last_day"))
    if first > last:
        raise ConfigError(
            f"ingestion: first_day {first} is after last_day {last}",
            next_step="correct conf/base/parameters_ingestion.yml",
        )
    return first, last


def _without_zone(flights: pd.DataFrame, zones: Mapping[str, str]) -> "pd.Series[str]":
    """Say which flights touch an airport whose time zone is unknown."""
    reasons = pd.Series("", index=flights.index)
    for end in ("origin", "dest"):
        unknown = ~flights[end].isin([code for code, zone in zones.items() if isinstance(zone, str)])
        reasons[unknown] = "no time zone known for " + end + " " + flights.loc[unknown, end].astype(str)
    return reasons


def _with_times(flights: pd.DataFrame, zones: Mapping[str, str]) -> pd.DataFrame:
    """Return the flights with their exact schedule and their identifier."""
    minute = clock_minutes(flights["sched_dep_time"].to_numpy()) % 60
    departure_us = _micros(flights["time_hour"]) + minute.astype(np.int64) * MINUTE_US
    origin_zone = flights["origin"].map(zones).to_numpy(object)
    offset = np.zeros(len(flights), dtype=np.int64)
    for zone in pd.unique(origin_zone):
        rows = origin_zone == zone
        offset[rows] = utc_offset_min(departure_us[rows], str(zone))
    arrival = arrival_us(
        departure_us,
        flights["sched_arr_time"].to_numpy(),
        flights["distance"].to_numpy(),
        flights["dest"].map(zones).to_numpy(object),
    )
    local_day = pd.Series((departure_us + offset * MINUTE_US).astype("datetime64[us]").astype("datetime64[D]"))
    number = flights["flight"].astype("int64").astype(str)
    flight_id = (
        local_day.astype(str).to_numpy(object)
        + ":" + flights["carrier"].to_numpy(object)
        + ":" + number.to_numpy(object)
        + ":" + flights["origin"].to_numpy(object)
    )  # fmt: skip
    return flights.assign(
        sched_dep_us=departure_us,
        sched_arr_us=arrival,
        utc_offset_min=offset,
        flight_id=pd.Series(flight_id, dtype=str),
    )


def _implausible_times(flights: pd.DataFrame) -> "pd.Series[str]":
    """Say which flights contradict themselves: local date or clock against UTC, delay against clock, block time."""
    local_us = flights["sched_dep_us"].to_numpy() + flights["utc_offset_min"].to_numpy() * MINUTE_US
    local = pd.Series(pd.to_datetime(local_us, unit="us"), index=flights.index)
    minute = clock_minutes(flights["sched_dep_time"].to_numpy())
    same_day = (
        (local.dt.year == flights["year"]) & (local.dt.month == flights["month"]) & (local.dt.day == flights["day"])
    )
    same_minute = (local.dt.hour * 60 + local.dt.minute).to_numpy() == minute % 1440
    left = minute + flights["dep_delay"].to_numpy()
    clock = clock_minutes(flights["dep_time"].to_numpy())
    gained = (flights["arr_delay"] - flights["dep_delay"]).abs().to_numpy()
    landed = clock_minutes(flights["sched_arr_time"].to_numpy()) + flights["arr_delay"].to_numpy()
    off_clock = (
        landed - clock_minutes(flights["arr_time"].to_numpy())
    ) % 1440  # an hour off: clocks changed on the way
    block = (flights["sched_arr_us"].to_numpy() - flights["sched_dep_us"].to_numpy()) / MINUTE_US
    rules = (
        (same_day & same_minute, "time_hour contradicts the local date or the scheduled clock"),
        (flights["dep_time"].isna() == flights["dep_delay"].isna(), "dep_time and dep_delay: only one is given"),
        (np.isnan(left) | np.isnan(clock) | (left % 1440 == clock % 1440), "dep_time contradicts dep_delay"),
        ((block >= BLOCK_MIN[0]) & (block <= BLOCK_MIN[1]), "scheduled block time out of range"),
        (flights["arr_delay"].isna() | flights["dep_delay"].notna(), "arr_delay without dep_delay"),
        (~(gained > GAINED_MIN), "arr_delay and dep_delay are too far apart"),
        (np.isnan(off_clock) | np.isin(off_clock, (0, 60, 1380)), "arr_time contradicts arr_delay"),
    )
    reasons = pd.Series("", index=flights.index)
    for holds, reason in reversed(rules):
        reasons[~np.asarray(holds)] = reason
    return reasons


def _flight_events(
    stream: str, flights: pd.DataFrame, event_us: Micros, created_us: Micros, payload: Mapping[str, Any]
) -> pa.Table:
    """Return flight events with the columns that all flight streams share, then `payload`."""
    columns = {
        **_common(stream, flights["flight_id"], event_us, created_us, "flights"),
        "source_offset": flights["source_offset"].to_numpy(),
        **{name: flights[name].to_numpy(object) for name in streams.FLIGHT},
        **payload,
    }
    return pa.table({name: pa.array(values, from_pandas=True) for name, values in columns.items()})


def _common(stream: str, keys: "pd.Series[str]", event_us: Micros, created_us: Micros, source: str) -> dict[str, Any]:
    return {
        "event_id": (keys + "/" + stream).to_numpy(object),
        "event_timestamp": _instants(event_us),
        "created_timestamp": _instants(created_us),
        "source": np.full(len(keys), source, dtype=object),
    }


def _instants(at_us: Micros) -> pa.Array:
    return pa.array(at_us, pa.int64()).cast(INSTANT)


def _micros(instants: "pd.Series[pd.Timestamp]") -> Micros:
    return instants.dt.tz_localize(None).to_numpy().astype("datetime64[us]").astype(np.int64)
