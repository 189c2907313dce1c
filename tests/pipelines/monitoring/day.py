"""A small real day for the tests of monitoring: an event log, a store that followed it, answers in a prediction log."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from flightdeck.core.clock import MINUTE_US, to_us
from flightdeck.events.log import EventLog
from flightdeck.events.stream import INSTANT
from flightdeck.features.materializer import Materializer
from flightdeck.features.online import OnlineReader
from flightdeck.features.store import OnlineStore
from flightdeck.inference.plan import compile_plan
from flightdeck.inference.prediction_log import PredictionLogWriter
from pipelines.features.model_input import CATEGORICAL, NUMERIC, REQUEST_COLUMNS
from pipelines.features.views import VIEW_COLUMNS, VIEWS
from pipelines.inference.pipeline import create_pipeline
from tests.event_streams import NOON_US, between, random_events, write_log
from tests.flightdeck.monitoring.samples import CLOCK, seal_champion
from tests.graphs import feature_list, joined, weighted_sum
from tests.predictions import Record, log_batch

HOUR_US = 60 * MINUTE_US
FIRST_US, LAST_US = NOON_US, NOON_US + 8 * HOUR_US
AS_OF_US = LAST_US + 6 * HOUR_US
N_FLIGHTS = 120
LEADS_MIN = (300, 120, 15)
FEATURES = feature_list()
PLAN = compile_plan(create_pipeline().nodes, (*REQUEST_COLUMNS, *VIEW_COLUMNS), NUMERIC)
WEIGHTS = [0.0] * len(NUMERIC)


@dataclass(frozen=True)
class Day:
    """Where the day lies and what was true.

    Parameters
    ----------
    root
        Data root.
    truth
        One row a flight: `flight_id`, `is_late`.
    records
        What was logged, in order.
    """

    root: Path
    truth: pd.DataFrame
    records: Sequence[Record]

    def log(self, changes: Mapping[int, Record] | None = None, further: Sequence[Record] = ()) -> None:
        """Write the prediction log anew, some records changed and further ones behind."""
        folder = self.root / "07_model_output" / "predictions"
        shutil.rmtree(folder, ignore_errors=True)
        writer = PredictionLogWriter(folder, CLOCK)
        for place, record in enumerate((*self.records, *further)):
            writer.append(log_batch([{**record, **(changes or {}).get(place, {})}]))
        writer.close()


def day_events() -> dict[str, pa.Table]:
    """Return events of a day whose arrivals belong to its scheduled flights; one in five is late, two never report."""
    random = np.random.default_rng(11)
    events = random_events(11, N_FLIGHTS, first_us=FIRST_US, last_us=LAST_US)
    scheduled = events["scheduled"]
    names = pa.array([f"2013-09-12:UA:{place}:EWR" for place in range(N_FLIGHTS)])
    events["scheduled"] = _set(scheduled, "flight_id", names)
    is_late = random.random(N_FLIGHTS) < 0.2
    delay = np.where(is_late, random.integers(15, 120, N_FLIGHTS), random.integers(-20, 15, N_FLIGHTS))
    at = scheduled["scheduled_arrival"].cast(pa.int64()).to_numpy() + delay * MINUTE_US
    arrived = _set(_set(events["arrived"], "flight_id", names), "arr_delay_min", pa.array(delay))
    arrived = _set(arrived, "is_late", pa.array(is_late.astype(np.int64)))
    arrived = _set(arrived, "event_timestamp", pa.array(at).cast(INSTANT))
    arrived = _set(arrived, "created_timestamp", pa.array(at + 2 * MINUTE_US).cast(INSTANT))
    events["arrived"] = arrived.slice(2).sort_by([("created_timestamp", "ascending"), ("event_id", "ascending")])
    return events


def play(root: Path) -> Day:
    """Stream the day into a store below `root`, ask about every flight, log the answers, make a champion."""
    events = day_events()
    log = write_log(root / "02_intermediate" / "events", events)
    records = _serve(root, log, events)
    rows = pd.DataFrame([record["features"] for record in records if record["item"] > 0], columns=list(NUMERIC))
    asked = [record for record in records if record["item"] > 0]
    rows = rows.assign(
        **{name: [record["flight"][name] for record in asked] for name in CATEGORICAL},
        probability=[record["probability"] for record in asked],
    )
    shifts = [pd.Timedelta(days=days) for days in range(1, 31)]
    at = pd.to_datetime([record["request_us"] for record in asked], unit="us", utc=True)
    reference = pd.concat([rows.assign(request_timestamp=at - shift) for shift in shifts], ignore_index=True)
    spread = np.linspace(-0.4, 0.4, 41)
    days = pd.DataFrame(
        {"day": range(41), "positive_rate": 0.5 + spread, "mean_probability": 0.5, "log_loss": 2.0 + spread}
    )
    digest = seal_champion(root, FEATURES, reference, days, model=joined(weighted_sum(WEIGHTS), NUMERIC, VIEWS))
    arrived = events["arrived"].to_pandas().set_index("flight_id")["is_late"]
    names = events["scheduled"]["flight_id"].to_pylist()
    truth = pd.DataFrame({"flight_id": names, "is_late": [int(arrived.get(name, 1)) for name in names]})
    day = Day(root, truth, [{**record, "bundle_digest": digest} for record in records])
    day.log()
    return day


def _serve(root: Path, log: EventLog, events: dict[str, pa.Table]) -> list[dict[str, Any]]:
    """Return one record a flight and lead, in the order of asking, with the features as a store served them."""
    store = OnlineStore.open(root / "04_feature" / "online", read_only=False)
    materializer, reader = Materializer(store, VIEWS), OnlineReader(store, VIEWS)
    watermark_us = FIRST_US - 6 * HOUR_US
    materializer.backfill(log, watermark_us)
    flights = events["scheduled"].to_pylist()
    asked = sorted(
        [
            (to_us(flight["scheduled_departure"]) - lead * MINUTE_US, place, number)
            for place, lead in enumerate(LEADS_MIN)
            for number, flight in enumerate(flights)
        ]
    )
    records = []
    for at_us, place, number in asked:
        until_us = at_us // MINUTE_US * MINUTE_US
        if until_us > watermark_us:
            materializer.apply(between(events, watermark_us, until_us), until_us)
            watermark_us = until_us
        records.append(_answer(reader, flights[number], at_us, place))
    materializer.apply(between(events, watermark_us, AS_OF_US), AS_OF_US)
    store.close()
    return records


def _answer(reader: OnlineReader, flight: dict[str, Any], at_us: int, place: int) -> dict[str, Any]:
    """Return one record as the service logs it."""
    request = {
        **{name: flight[name] for name in ("carrier", "origin", "dest", "origin_utc_offset_min", "distance_miles")},
        "flight_number": flight["flight"],
        "tailnum": flight["tailnum"] or "",
        "scheduled_departure_us": to_us(flight["scheduled_departure"]),
        "scheduled_arrival_us": to_us(flight["scheduled_arrival"]),
        "request_us": at_us,
    }
    columns = {name: np.array([request[name]]) for name in REQUEST_COLUMNS}
    read = reader.read({name: [request[name]] for name in ("carrier", "origin", "dest", "tailnum")}, at_us)
    values = PLAN({**columns, **read.columns})
    return {
        "request_id": f"{flight['flight_id']}/{place}",
        "item": place,
        "logged_at_us": to_us(CLOCK.now()),
        "request_us": at_us,
        "feature_us": read.at_us,
        "watermark_us": read.watermark_us,
        "surface": "alerts",
        "unit_id": "u",
        "flight": {name: value for name, value in request.items() if name != "request_us"},
        "flight_id": flight["flight_id"],
        "probability": 0.1 + 0.8 * (hash_share(flight["flight_id"])),
        "decision": "no_alert",
        "mode": "model",
        "reason": None,
        "arm": "champion",
        "model_version": 1,
        "features": [float(np.float32(values[name][0])) for name in NUMERIC],
        "latency_ms": 2.0,
    }


def hash_share(name: str) -> float:
    """Return a number in [0, 1) that only the name decides."""
    return sum(name.encode()) % 97 / 97


def _set(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, values)
