"""A small world to serve: data root with sealed bundles, a ledger and an online store, all real and tiny."""

import functools
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from onnx import TensorProto, helper
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OrdinalEncoder

from flightdeck.core.clock import SystemClock
from flightdeck.core.identifiers import fingerprint
from flightdeck.core.layout import PROJECT, Layout
from flightdeck.features.materializer import Materializer
from flightdeck.features.store import OnlineStore
from flightdeck.features.view import FeatureView
from flightdeck.inference.bundle import EVIDENCE, Bundle, content_digest, seal
from flightdeck.inference.export import export_onnx
from flightdeck.inference.surfaces import sealed_surfaces
from flightdeck.release.ledger import Ledger
from pipelines.features.model_input import CATEGORICAL, COLUMN_FUNCTIONS, FALLBACK_NUMERIC, NUMERIC
from pipelines.features.views import VIEWS
from tests.event_streams import MINUTE_US, NOON_US, random_events, write_log

AT = "2013-09-12T12:00:00Z"
FLIGHT = {
    "carrier": "UA",
    "flight_number": 1545,
    "origin": "EWR",
    "dest": "IAH",
    "scheduled_departure": "2013-09-12T10:05:00-04:00",
    "scheduled_arrival": "2013-09-12T12:13:00-05:00",
    "distance_miles": 1400,
    "tailnum": "N1",
}


class World:
    """A data root below `root`; nothing is live until something is released."""

    def __init__(self, root: Path) -> None:
        self.layout = Layout(root)
        self.ledger = Ledger(self.layout.ledger, SystemClock())
        self._n_versions = 0

    def feed_store(self, watermark_us: int = NOON_US, views: Sequence[FeatureView] = VIEWS) -> None:
        """Fill the online store with events of the three hours before noon and say that it knows all until then."""
        events = random_events(5, 400, first_us=NOON_US - 180 * MINUTE_US, last_us=NOON_US)
        log = write_log(self.layout.event_log, events)
        store = OnlineStore.open(self.layout.online_store, read_only=False)
        Materializer(store, views).backfill(log, watermark_us)
        store.close()

    def seal(self, *, model: bytes | None = None, seed: int = 1, **files: Any) -> Bundle:
        """Seal a bundle; `files` replaces parsed JSON files by their name without suffix."""
        draft = self.layout.draft_bundle
        shutil.rmtree(draft, ignore_errors=True)
        contents = bundle_files(seed) | ({"model.onnx": model} if model is not None else {})
        contents |= {f"{name}.json": json.dumps(value).encode() for name, value in files.items()}
        for name, content in contents.items():
            (draft / name).parent.mkdir(parents=True, exist_ok=True)
            (draft / name).write_bytes(content)
        return seal(draft, self.layout.bundles, name="flight-delay", metadata={"content_digest": content_digest(draft)})

    def release(self, bundle: Bundle, *, share: float | None = None) -> int:
        """Register a bundle and bring it to canary with `share`, or to prod without; return its version."""
        self._n_versions += 1
        version, subject = self._n_versions, str(self._n_versions)
        registered = {"digest": bundle.digest, "tier": "low", "model_name": "flight-delay"}
        self.ledger.append("registered", actor="test", subject=subject, detail=registered)
        self._promote(subject, bundle, to="staging")
        self._promote(subject, bundle, to="canary", share=0.5 if share is None else share)
        if share is None:
            self._promote(subject, bundle, to="prod")
        return version

    def promote_canary(self, version: int, bundle: Bundle) -> None:
        """Bring a canary to prod."""
        self._promote(str(version), bundle, to="prod")

    def roll_back(self, out: int, back: int) -> None:
        """Take the champion out and return to the one before it."""
        detail = {"from": out, "to": back, "stage": "prod", "reason": "test"}
        self.ledger.append("rolled_back", actor="test", subject=str(out), detail=detail)

    def raise_share(self, version: int, bundle: Bundle, share: float) -> None:
        """Give a canary another share of the units."""
        self._promote(str(version), bundle, to="canary", share=share)

    def records(self) -> list[dict[str, Any]]:
        """Return all whole lines of the prediction log, in order."""
        lines = []
        for path in sorted(self.layout.prediction_log.glob("*.jsonl")):
            lines += [line for line in path.read_text("utf-8").splitlines(keepends=True) if line.endswith("\n")]
        return [json.loads(line) for line in lines]

    def _promote(self, subject: str, bundle: Bundle, **detail: Any) -> None:
        self.ledger.append("promoted", actor="test", subject=subject, detail={"digest": bundle.digest, **detail})


def ask(
    n_flights: int = 1, *, unit_id: str = "unit-1", surface: str = "search", at: str | None = AT, **change: Any
) -> Any:
    """Return a request body for `n_flights` flights that differ by number."""
    flights = [{**FLIGHT, "flight_number": 1 + n, **change} for n in range(n_flights)]
    body: dict[str, Any] = {"surface": surface, "unit_id": unit_id, "flights": flights}
    return body if at is None else {**body, "request_timestamp": at}


def broken_model(value: str) -> bytes:
    """Return a model that answers unknown values properly and everything else with `value`: nan, 2 or raises."""
    strings = [helper.make_tensor_value_info(name, TensorProto.STRING, [None, 1]) for name in CATEGORICAL]
    numeric = helper.make_tensor_value_info("numeric", TensorProto.FLOAT, [None, len(NUMERIC)])
    output = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2])
    constants = [
        helper.make_tensor("axis", TensorProto.INT64, [1], [1]),
        helper.make_tensor("first", TensorProto.INT64, [1], [0]),
        helper.make_tensor("second", TensorProto.INT64, [1], [1]),
        helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0]),
        helper.make_tensor("good", TensorProto.FLOAT, [1, 2], [0.5, 0.5]),
        helper.make_tensor("bad", TensorProto.FLOAT, [1, 2], [float(value)] * 2),
    ]
    nodes = [
        helper.make_node("Slice", ["numeric", "first", "second", "axis"], ["distance"]),
        helper.make_node("Greater", ["distance", "zero"], ["is_real"]),
        helper.make_node("Where", ["is_real", "bad", "good"], ["probabilities"]),
    ]
    graph = helper.make_graph(nodes, "broken", [*strings, numeric], [output], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(model.SerializeToString())


@functools.cache
def bundle_files(seed: int) -> dict[str, bytes]:
    """Return the files of a draft whose models are trained on random rows."""
    features = {
        "categorical": list(CATEGORICAL),
        "numeric": list(NUMERIC),
        "fallback_numeric": list(FALLBACK_NUMERIC),
        "views": {view.name: view.digest for view in VIEWS},
        "declarations": [view.as_json() for view in VIEWS],
        "nodes": {declared.name: fingerprint(declared.function) for declared in COLUMN_FUNCTIONS},
        "categories": {"carrier": ["UA", "DL", "B6"], "origin": ["EWR", "JFK", "LGA"], "dest": ["IAH", "MIA", "BOS"]},
    }
    surfaces = sealed_surfaces(yaml.safe_load((PROJECT / "conf/base/surfaces.yml").read_text("utf-8")))
    rules = {"rate": 0.25, "by_carrier_hour": {"UA:10": 0.5}, "smoothing": 50}
    evidence = dict.fromkeys((*EVIDENCE, "training.json", "reference/features.parquet"), b"{}")
    return {
        **evidence,
        "reference/days.parquet": b"",
        "model.onnx": _train(seed, NUMERIC),
        "fallback.onnx": _train(seed, FALLBACK_NUMERIC),
        "rules.json": json.dumps(rules).encode(),
        "features.json": json.dumps(features).encode(),
        "surfaces.json": json.dumps(surfaces, sort_keys=True).encode(),
        "contract.yml": b"stage: serving\n",
        "runbook.md": b"# Serving\n",
    }


def _train(seed: int, numeric: tuple[str, ...]) -> bytes:
    random = np.random.default_rng(seed)
    n_rows = 600
    rows = pd.DataFrame(random.normal(100, 80, (n_rows, len(numeric))).astype(np.float32), columns=list(numeric))
    for place, (name, values) in enumerate(
        (("carrier", ["UA", "DL", "B6"]), ("origin", ["EWR", "JFK", "LGA"]), ("dest", ["IAH", "MIA", "BOS"]))
    ):
        rows.insert(place, name, random.choice(values, n_rows))
    late = (random.random(n_rows) < 1 / (1 + np.exp(-(rows[numeric[0]] - 100) / 80))).astype(int)
    encode = ColumnTransformer(
        [
            ("strings", OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), list(range(3))),
            ("numbers", "passthrough", list(range(3, 3 + len(numeric)))),
        ]
    )
    boost = HistGradientBoostingClassifier(max_iter=5, random_state=seed, early_stopping=False)
    pipeline = Pipeline([("encode", encode), ("boost", boost)]).fit(rows, late)
    return export_onnx(pipeline, categorical=CATEGORICAL, n_numeric=len(numeric), name="tiny")
