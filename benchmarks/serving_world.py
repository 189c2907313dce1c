"""What the serving benchmarks serve: a data root with a fed store, a ledger and sealed bundles, all real.

The model reads 25 features: 3 categories, 5 columns of the request and 17 columns of four entities' feature views
(airport of departure, airline, airport of arrival, aircraft), by 250 trees of at most 31 leaves. It is trained on
random rows whose label hangs on them, because cost depends on its shape and not on what it knows. `draft_files` makes
what one bundle holds, `World` makes releases of it, `questions` asks about flights of the fed keys.
"""

import functools
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import yaml
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OrdinalEncoder
from threadpoolctl import threadpool_limits

from flightdeck.core.clock import SystemClock, from_us
from flightdeck.core.layout import PROJECT, Layout
from flightdeck.events.log import EventLog
from flightdeck.events.stream import INSTANT
from flightdeck.features.materializer import Materializer
from flightdeck.features.store import OnlineStore
from flightdeck.inference.bundle import EVIDENCE, Bundle, content_digest, seal
from flightdeck.inference.export import export_onnx
from flightdeck.inference.graph import join_graphs
from flightdeck.inference.surfaces import sealed_surfaces
from flightdeck.inference.tracing import trace_columns
from flightdeck.release.ledger import open_ledger
from pipelines.features.model_input import CATEGORICAL, FALLBACK_NUMERIC, REQUEST_COLUMNS
from pipelines.features.views import VIEWS
from pipelines.inference.pipeline import create_pipeline
from pipelines.ingestion.streams import DEPARTED

NAME = "flight-delay"
MINUTE_US = 60_000_000
NOON_US = 1_378_987_200_000_000  # 2013-09-12 12:00 UTC: until then the store knows everything
READ = ("origin_departures", "carrier_departures", "dest_departures", "aircraft_departed")
FOUR = tuple(view for view in VIEWS if view.name in READ)
VIEW_COLUMNS = tuple(column for view in FOUR for column in view.columns)
UNREAD = "_30m"  # windows that the model leaves out
NUMERIC = (
    "distance_miles",
    "departure_minute_of_day",
    "departure_day_of_week",
    "horizon_min",
    "block_min",
    *(column for column in VIEW_COLUMNS if not column.endswith(UNREAD)),
)
COLUMNS = (*CATEGORICAL, *NUMERIC)
CATEGORIES = {
    "carrier": ["UA", "DL", "B6", "AA", "EV", "MQ", "US", "WN", "9E", "VX"],
    "origin": ["EWR", "JFK", "LGA"],
    "dest": [f"{a}{b}{c}" for a in "ABCM" for b in "IOT" for c in "AHKNS"],
}
TAILS = [f"N{number}" for number in range(100, 700)]
N_EVENTS, N_TRAINING_ROWS, N_TREES = 6_000, 20_000, 250
RULES = {"rate": 0.25, "rates": {"UA": 0.3, "EV": 0.35}, "keys": [{"kind": "column", "column": "carrier"}]}


@dataclass(frozen=True)
class Model:
    """A trained model: the scikit-learn pipeline, and the files of a bundle that serves it."""

    pipeline: Pipeline
    core: bytes  # ONNX of the pipeline alone: what a peer that serves ONNX is given
    files: dict[str, bytes]


class World:
    """A data root below `root`; nothing is live until something is released."""

    def __init__(self, root: Path) -> None:
        self.layout = Layout(root)
        self.ledger = open_ledger(self.layout.ledger, SystemClock())
        self._n_versions = 0

    def feed_store(self) -> None:
        """Fill the online store with departures of the three hours before noon."""
        log = EventLog(self.layout.event_log)
        log.append(DEPARTED, _departures())
        store = OnlineStore.open(self.layout.online_store, read_only=False)
        Materializer(store, FOUR).backfill(log, NOON_US)
        store.close()

    def seal(self, files: dict[str, bytes]) -> Bundle:
        """Seal a bundle of these files."""
        draft = self.layout.draft_bundle
        shutil.rmtree(draft, ignore_errors=True)
        for name, content in files.items():
            (draft / name).parent.mkdir(parents=True, exist_ok=True)
            (draft / name).write_bytes(content)
        return seal(draft, self.layout.bundles, name=NAME, metadata={"content_digest": content_digest(draft)})

    def release(self, bundle: Bundle, *, share: float | None = None) -> int:
        """Register a bundle as the next version and bring it to prod, or to canary with a share; return the version."""
        self._n_versions += 1
        subject = str(self._n_versions)
        registered = {"digest": bundle.digest, "tier": "low", "model_name": NAME}
        self.ledger.append("registered", actor="benchmark", subject=subject, detail=registered)
        steps: list[dict[str, object]] = [{"to": "staging"}, {"to": "canary", "share": share or 0.5}, {"to": "prod"}]
        for stage in steps if share is None else steps[:-1]:
            detail = {"digest": bundle.digest, **stage}
            self.ledger.append("promoted", actor="benchmark", subject=subject, detail=detail)
        return self._n_versions


@functools.cache
def train(seed: int = 1, n_trees: int = N_TREES) -> Model:
    """Return a model trained on random rows."""
    pipeline, core = _train(seed, NUMERIC, n_trees)
    _, fallback = _train(seed, FALLBACK_NUMERIC, n_trees)
    return Model(pipeline, core, draft_files(core, fallback))


def draft_files(core: bytes, fallback: bytes, rules: dict[str, Any] | None = None) -> dict[str, bytes]:
    """Return the files of a draft around two exported models; of the rules there is a small table if none are given."""
    surfaces = sealed_surfaces(yaml.safe_load((PROJECT / "conf/base/surfaces.yml").read_text("utf-8")))
    placeholders = ("training.json", "reference/features.parquet", "reference/inputs.parquet", "reference/days.parquet")
    features = {
        "categorical": CATEGORICAL,
        "numeric": NUMERIC,
        "fallback_numeric": FALLBACK_NUMERIC,
        "views": {view.name: view.digest for view in FOUR},
        "declarations": [view.as_json() for view in FOUR],
        "view_columns": VIEW_COLUMNS,
        "categories": CATEGORIES,
    }
    return {
        **dict.fromkeys((*EVIDENCE, *placeholders), b"{}"),
        "model.onnx": _join(core, NUMERIC, VIEW_COLUMNS),
        "fallback.onnx": _join(fallback, FALLBACK_NUMERIC),
        "rules.json": json.dumps(rules or RULES).encode(),
        "features.json": json.dumps(features).encode(),
        "surfaces.json": json.dumps(surfaces, sort_keys=True).encode(),
        "contract.yml": b"stage: serving\n",
        "runbook.md": b"# Serving\n",
    }


def questions(n: int, n_flights: int, *, surface: str = "itinerary", seed: int = 0) -> list[dict[str, Any]]:
    """Return `n` request bodies about `n_flights` random flights each, within a minute of what the store knows."""
    random = np.random.default_rng((seed, n_flights))
    return [
        {
            "surface": surface,
            "unit_id": f"traveller-{random.integers(1_000_000)}",
            "request_timestamp": from_us(NOON_US + int(random.integers(60)) * 1_000_000).isoformat(),
            "flights": [_flight(random) for _ in range(n_flights)],
        }
        for _ in range(n)
    ]


def _flight(random: np.random.Generator) -> dict[str, Any]:
    departure_us = NOON_US + int(random.integers(5, 300)) * MINUTE_US
    block_us = int(random.integers(60, 360)) * MINUTE_US
    return {
        **{name: str(random.choice(values)) for name, values in CATEGORIES.items()},
        "flight_number": int(random.integers(1, 9999)),
        "scheduled_departure": from_us(departure_us).isoformat(),
        "scheduled_arrival": from_us(departure_us + block_us).isoformat(),
        "distance_miles": int(random.integers(100, 2500)),
        "tailnum": str(random.choice(TAILS)),
    }


def _departures() -> pa.Table:
    random = np.random.default_rng(0)
    created = np.sort(NOON_US - random.integers(1, 180 * 60, N_EVENTS) * 1_000_000)
    delay = random.integers(-20, 120, N_EVENTS)
    values = {
        "event_id": [f"departed-{place:06d}" for place in range(N_EVENTS)],
        "event_timestamp": pa.array(created - 2 * MINUTE_US).cast(INSTANT),
        "created_timestamp": pa.array(created).cast(INSTANT),
        "source": ["benchmark"] * N_EVENTS,
        "source_offset": np.arange(N_EVENTS),
        "flight_id": [f"2013-09-12:{place}" for place in range(N_EVENTS)],
        **{name: random.choice(values, N_EVENTS) for name, values in CATEGORIES.items()},
        "tailnum": random.choice(TAILS, N_EVENTS),
        "dep_delay_min": delay,
        "is_late": (delay >= 15).astype(np.int64),
    }
    return DEPARTED.cast(pa.table({name: pa.array(values[name]) for name in DEPARTED.schema.names}))


def _train(seed: int, numeric: tuple[str, ...], n_trees: int) -> tuple[Pipeline, bytes]:
    random = np.random.default_rng(seed)
    rows = pd.DataFrame(random.uniform(0, 300, (N_TRAINING_ROWS, len(numeric))).astype(np.float32), columns=[*numeric])
    rows = rows.mask(random.random(rows.shape) < 0.05).astype(np.float32)
    logit = (rows.fillna(150.0).to_numpy() - 150.0) @ random.normal(0, 0.004, len(numeric))
    for place, name in enumerate(CATEGORICAL):
        rows.insert(place, name, random.choice(CATEGORIES[name], N_TRAINING_ROWS))
    encode = ColumnTransformer(
        [
            ("strings", OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), list(range(3))),
            ("numbers", "passthrough", list(range(3, rows.shape[1]))),
        ]
    )
    boost = HistGradientBoostingClassifier(max_iter=n_trees, random_state=seed, early_stopping=False)
    is_late = (random.random(N_TRAINING_ROWS) < 1 / (1 + np.exp(-logit))).astype(int)
    with threadpool_limits(1):  # on a busy machine OpenMP's threads wait for each other
        pipeline = Pipeline([("encode", encode), ("boost", boost)]).fit(rows, is_late)
    return pipeline, export_onnx(pipeline, categorical=CATEGORICAL, n_numeric=len(numeric), name="late")


def _join(core: bytes, numeric: tuple[str, ...], view_columns: tuple[str, ...] = ()) -> bytes:
    nodes = create_pipeline().nodes
    features = trace_columns(nodes, request=REQUEST_COLUMNS, view_columns=view_columns, numeric=numeric)
    return join_graphs(features, core, categorical=CATEGORICAL)
