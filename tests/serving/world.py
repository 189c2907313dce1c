"""A small world to serve: data root with sealed bundles, a ledger and an online store, all real and tiny."""

import functools
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import yaml
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OrdinalEncoder

from flightdeck.core.clock import SystemClock
from flightdeck.core.layout import PROJECT, Layout
from flightdeck.features.materializer import Materializer
from flightdeck.features.store import OnlineStore
from flightdeck.features.view import FeatureView
from flightdeck.inference.bundle import EVIDENCE, Bundle, content_digest, seal
from flightdeck.inference.export import export_onnx
from flightdeck.inference.plan import PlanNode
from flightdeck.inference.surfaces import sealed_surfaces
from flightdeck.release.ledger import open_ledger
from flightdeck.release.route_edits import Edit
from flightdeck.release.stages import ReleaseState
from flightdeck.release.state import fold
from pipelines.features.model_input import CATEGORICAL, FALLBACK_NUMERIC, NUMERIC
from pipelines.features.views import VIEWS
from tests.event_streams import MINUTE_US, NOON_US, random_events, write_log
from tests.graphs import RULES, broken, endless, feature_list, joined, model_numeric, raising
from tests.predictions import read_records

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
        self.ledger = open_ledger(self.layout.ledger, SystemClock())
        self._n_versions = 0

    def feed_store(self, watermark_us: int = NOON_US, views: Sequence[FeatureView] = VIEWS) -> None:
        """Fill the online store with events of the three hours before noon and say that it knows all until then."""
        events = random_events(5, 400, first_us=NOON_US - 180 * MINUTE_US, last_us=NOON_US)
        log = write_log(self.layout.event_log, events)
        store = OnlineStore.open(self.layout.online_store, read_only=False)
        Materializer(store, views).backfill(log, watermark_us)
        store.close()

    def seal(
        self,
        *,
        model: bytes | None = None,
        seed: int = 1,
        views: tuple[FeatureView, ...] = VIEWS,
        nodes: tuple[PlanNode, ...] | None = None,
        **files: Any,
    ) -> Bundle:
        """Seal a bundle; `files` replaces parsed JSON files by their name without suffix."""
        draft = self.layout.draft_bundle
        shutil.rmtree(draft, ignore_errors=True)
        contents = bundle_files(seed, views, nodes) | ({"model.onnx": model} if model is not None else {})
        contents |= {f"{name}.json": json.dumps(value).encode() for name, value in files.items()}
        for name, content in contents.items():
            (draft / name).parent.mkdir(parents=True, exist_ok=True)
            (draft / name).write_bytes(content)
        return self.seal_draft()

    def seal_draft(self) -> Bundle:
        """Seal the draft as it lies there."""
        draft = self.layout.draft_bundle
        return seal(draft, self.layout.bundles, name="flight-delay", metadata={"content_digest": content_digest(draft)})

    def release(self, bundle: Bundle, *, share: float | None = None) -> int:
        """Register a bundle and bring it to canary with `share`, or to prod without; return its version."""
        version = self.stage(bundle)
        subject = str(version)
        self._promote(subject, bundle, to="canary", share=0.5 if share is None else share)
        if share is None:
            self._promote(subject, bundle, to="prod")
        return version

    def stage(self, bundle: Bundle) -> int:
        """Register a bundle and bring it to staging, where it decides for nobody; return its version."""
        self._n_versions += 1
        subject = str(self._n_versions)
        registered = {"digest": bundle.digest, "tier": "low", "model_name": "flight-delay"}
        self.ledger.append("registered", actor="test", subject=subject, detail=registered)
        self._promote(subject, bundle, to="staging")
        return self._n_versions

    def route(self, *edits: Callable[[ReleaseState], Edit]) -> None:
        """Record edits of the routing rules, as the command does."""
        for edit in edits:
            state = fold(self.ledger.records())
            made = edit(state)
            digests = {str(version): state.versions[version].digest for version in made.rules.versions}
            detail = {"rules": msgspec.to_builtins(made.rules), "digests": digests, "versions": [], "what": made.what}
            self.ledger.append("routed", actor="test", subject="-", detail=detail)

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
        """Return all whole records of the prediction log, in order."""
        return read_records(self.layout.prediction_log)

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
    """Return a model that answers unknown values properly and everything else badly: with nan or 2, raises, hangs."""
    cores = {"raises": raising, "hangs": endless}
    core = cores[value](len(NUMERIC)) if value in cores else broken(value, len(NUMERIC))
    return joined(core, NUMERIC, VIEWS)


@functools.cache
def bundle_files(
    seed: int, views: tuple[FeatureView, ...] = VIEWS, nodes: tuple[PlanNode, ...] | None = None
) -> dict[str, bytes]:
    """Return the files of a draft whose models are trained on random rows and read what `nodes` compute."""
    surfaces = sealed_surfaces(yaml.safe_load((PROJECT / "conf/base/surfaces.yml").read_text("utf-8")))
    placeholders = ("training.json", "reference/features.parquet", "reference/inputs.parquet")
    evidence = dict.fromkeys((*EVIDENCE, *placeholders), b"{}")
    numeric = model_numeric(views)
    return {
        **evidence,
        "reference/days.parquet": b"",
        "model.onnx": joined(_train(seed, numeric), numeric, views, nodes),
        "fallback.onnx": joined(_train(seed, FALLBACK_NUMERIC), FALLBACK_NUMERIC, nodes=nodes),
        "rules.json": json.dumps(RULES).encode(),
        "features.json": json.dumps(feature_list(views)).encode(),
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
