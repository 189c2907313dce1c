"""A small data root as ingestion, features and training leave it: a real event log, its report, a draft made of it."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner

from flightdeck.core.identifiers import fingerprint
from flightdeck.core.layout import Layout
from flightdeck.events.datasets import EventStreamDataset
from flightdeck.gates.evidence import Evidence, read_evidence
from pipelines.features.model_input import CATEGORICAL, COLUMN_FUNCTIONS, NUMERIC, REQUEST_COLUMNS
from pipelines.features.pipeline import STREAMS, create_pipeline
from pipelines.features.rebuild import describe_training_set
from pipelines.features.views import VIEW_COLUMNS
from pipelines.training.packing import describe_features
from tests.candidates import write_draft
from tests.event_streams import MINUTE_US, NOON_US, random_events, write_log

SETTINGS = {"horizons_min": [120, 15], "publication_lag_s": 60}
FIRST_US = NOON_US - 20 * 60 * MINUTE_US
N_EVENTS = 300


def write_trained(root: Path) -> Layout:
    """Write a data root: 300 events a stream within 20 hours, and a draft whose reference is all rows made of them."""
    place = Layout(root)
    write_log(place.event_log, random_events(1, N_EVENTS, first_us=FIRST_US, last_us=NOON_US))
    training_set, inputs, versions = make_features(place)
    write_report(place, versions)
    draft = write_draft(place.draft_bundle)
    (draft / "features.json").write_text(json.dumps(describe_features()), encoding="utf-8")
    change_json(
        draft / "training.json",
        data_versions=versions,
        views=describe_features()["views"],
        nodes={declared.name: fingerprint(declared.function) for declared in COLUMN_FUNCTIONS},
        training_set=describe_training_set(training_set, SETTINGS),
    )
    at = pd.to_datetime(training_set["request_us"], unit="us", utc=True)
    features = training_set[[*CATEGORICAL, *NUMERIC]].assign(request_timestamp=at, probability=0.5)
    features.to_parquet(draft / "reference" / "features.parquet")
    inputs[[*REQUEST_COLUMNS, *VIEW_COLUMNS]].assign(probability=0.5).to_parquet(draft / "reference" / "inputs.parquet")
    return place


def make_features(place: Layout) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, Any]]:
    """Run the feature pipeline; return training set, model inputs and data versions."""
    streams = {f"{name}_events": EventStreamDataset(filepath=str(place.event_log), stream=name) for name in STREAMS}
    catalog = DataCatalog({**streams, "params:features": MemoryDataset(SETTINGS)})
    SequentialRunner().run(create_pipeline(), catalog)
    return catalog.load("training_set"), catalog.load("model_inputs"), catalog.load("data_versions")


def write_report(place: Layout, versions: Mapping[str, Any], *, n_quarantined: int = 0) -> None:
    """Write the report of an ingestion that led to some versions."""
    counts = {"n_rows": 1_000, "n_accepted": 1_000 - n_quarantined, "n_quarantined": n_quarantined, "reasons": {}}
    place.ingestion_report.parent.mkdir(parents=True, exist_ok=True)
    report = {"sources": {"flights": counts, "weather": {**counts, "n_quarantined": 1}}, "streams": dict(versions)}
    place.ingestion_report.write_text(json.dumps(report), encoding="utf-8")


def evidence_of(place: Layout) -> Evidence:
    """Return what the gate would look at."""
    return read_evidence(str(place.draft_bundle), key="flight_id")


def change_json(path: Path, **changes: object) -> None:
    """Put other values into a JSON file; None takes one out."""
    content = {**msgspec.json.decode(path.read_bytes()), **changes}
    kept = {name: value for name, value in content.items() if value is not None}
    path.write_text(json.dumps(kept), encoding="utf-8")


def change_rows(path: Path, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    """Change the rows of a Parquet file."""
    change(pd.read_parquet(path)).to_parquet(path)
