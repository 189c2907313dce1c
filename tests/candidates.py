"""Release candidates made by hand: a tiny one for the ledger, and one whose figures a gate can look at."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, ValueInfoProto, helper

from flightdeck.features.view import FeatureView, OpenItems
from flightdeck.inference.bundle import EVIDENCE, REQUIRED, Bundle, content_digest, seal

DATA_VERSIONS = {"departed": {"version": 3, "digest": "d" * 64, "n_rows": 1000}}
WEIGHTS = np.array([1.0, -0.5], np.float32)
VIEWS = [FeatureView(name, (), "scheduled", OpenItems(("departed",)), owner="test") for name in ("a", "b")]
VIEW_COLUMNS = [column for view in VIEWS for column in view.columns]
RULES = {"rate": 0.25, "rates": {"UA": 0.2}, "keys": [{"kind": "column", "column": "carrier"}]}
SURFACES = {"alerts": {"decisions": {"no_alert": 0.0, "alert": 0.6}}}
FEATURES = {
    "categorical": ["carrier", "origin", "dest"],
    "numeric": VIEW_COLUMNS,
    "fallback_numeric": ["distance_miles"],
    "views": {view.name: view.digest for view in VIEWS},
    "declarations": [view.as_json() for view in VIEWS],
    "view_columns": VIEW_COLUMNS,
}


def seal_tiny(folder: Path, bundles: Path, *, mark: str) -> Bundle:
    """Seal a bundle with every required file, each a few bytes long; `mark` makes its digest."""
    for name in (*REQUIRED, *EVIDENCE):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{mark} {name}", encoding="utf-8")
    digest = content_digest(folder)
    return seal(folder, bundles, name="flight-delay", metadata={"content_digest": digest})


def seal_draft(draft: Path, bundles: Path) -> Bundle:
    """Seal a draft with evidence that nobody reads again."""
    for name in EVIDENCE:
        (draft / name).parent.mkdir(exist_ok=True)
        (draft / name).write_text("old", encoding="utf-8")
    return seal(draft, bundles, name="flight-delay", metadata={"content_digest": content_digest(draft)})


def write_draft(
    folder: Path,
    *,
    strength: Mapping[int, float] | None = None,
    shift: float = 0.0,
    n_rows: int = 20_000,
    seed: int = 7,
) -> Path:
    """Write a draft bundle as training would, of a logistic world.

    Parameters
    ----------
    folder
        Where to.
    strength
        By horizon in minutes, how much the model knows: 1.4 gives an AUC of 0.78, 0 gives 0.5, 4 a leak.
    shift
        Added to the log odds of the model alone: it makes it miscalibrated.
    n_rows
        Rows a horizon, spread over August to December.
    seed
        Seed of outcomes and inputs.
    """
    for name in REQUIRED:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / "contract.yml").write_text("stage: serving\n", encoding="utf-8")
    (folder / "runbook.md").write_text("# Serving\n", encoding="utf-8")
    for name, content in (("rules", RULES), ("surfaces", SURFACES), ("features", FEATURES)):
        (folder / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    pd.DataFrame({"day": ["2013-08-01"]}).to_parquet(folder / "reference/days.parquet")
    write_model(folder / "model.onnx")
    write_fallback(folder / "fallback.onnx")
    rng = np.random.default_rng(seed)
    _predictions(rng, strength or {15: 1.5, 120: 1.35}, shift, n_rows).to_parquet(
        folder / "reference/predictions.parquet"
    )
    sample = _sample(rng)
    sample.to_parquet(folder / "reference/features.parquet")
    sample.drop(columns="request_timestamp").to_parquet(folder / "reference/inputs.parquet")
    training = {
        "seed": seed,
        "data_versions": DATA_VERSIONS,
        "views": {"origin_departures": "e" * 64},
        "git_commit": "0" * 40,
        "lock_digest": "1" * 64,
        "model_digest": "2" * 64,
        "mlflow_run_id": "",
        "splits": {"train": ["2013-01-01", "2013-07-01"], "test": ["2013-08-01", "2014-01-01"]},
        "onnx_max_difference": 3e-7,
    }
    (folder / "training.json").write_text(json.dumps(training), encoding="utf-8")
    return folder


def write_model(path: Path) -> None:
    """Write a bundle's graph: the sigmoid of a weighted sum of two view columns, read as float32; NaN counts as 0."""
    views = helper.make_tensor_value_info("views", TensorProto.DOUBLE, ["n", 2])
    _write_graph(path, views, [helper.make_node("Cast", ["views"], ["numeric"], to=TensorProto.FLOAT)], WEIGHTS)


def write_fallback(path: Path) -> None:
    """Write the graph of a fallback: the sigmoid of the distance, which every request gives."""
    distance = helper.make_tensor_value_info("distance_miles", TensorProto.INT64, ["n"])
    nodes = [
        helper.make_node("Cast", ["distance_miles"], ["miles"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["miles", "axis"], ["numeric"]),
    ]
    _write_graph(path, distance, nodes, np.array([-0.001], np.float32))


def _write_graph(path: Path, read: ValueInfoProto, to_numeric: list[NodeProto], weights: NDArray[np.float32]) -> None:
    strings = [helper.make_tensor_value_info(n, TensorProto.STRING, ["n"]) for n in ("carrier", "origin", "dest")]
    widths = {"probabilities": 2, "numeric": len(weights)}
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", n]) for name, n in widths.items()]
    tensors = [
        helper.make_tensor("weights", TensorProto.FLOAT, [len(weights), 1], weights.tolist()),
        helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0]),
        helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0]),
        helper.make_tensor("axis", TensorProto.INT64, [1], [1]),
    ]
    nodes = [
        *to_numeric,
        helper.make_node("IsNaN", ["numeric"], ["missing"]),
        helper.make_node("Where", ["missing", "zero", "numeric"], ["known"]),
        helper.make_node("MatMul", ["known", "weights"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["late"]),
        helper.make_node("Sub", ["one", "late"], ["punctual"]),
        helper.make_node("Concat", ["punctual", "late"], ["probabilities"], axis=1),
    ]
    graph = helper.make_graph(nodes, "tiny", [*strings, read], outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path.write_bytes(model.SerializeToString())


def _predictions(rng: np.random.Generator, strength: Mapping[int, float], shift: float, n_rows: int) -> pd.DataFrame:
    start = np.datetime64("2013-08-01T06:00:00", "us")
    step_us = 152 * 24 * 3_600_000_000 // n_rows
    parts = []
    for horizon, known in strength.items():
        signal = rng.normal(size=n_rows)
        label = (rng.random(n_rows) < _sigmoid(known * signal - 1.3)).astype(np.int64)
        parts.append(
            pd.DataFrame(
                {
                    "flight_id": [f"f{i}" for i in range(n_rows)],
                    "carrier": rng.choice(["UA", "B6", "EV", "DL"], n_rows),
                    "origin": rng.choice(["EWR", "JFK", "LGA"], n_rows),
                    "dest": rng.choice(["LAX", "BOS"], n_rows),
                    "request_timestamp": pd.to_datetime(start + np.arange(n_rows) * step_us, utc=True),
                    "horizon_min": horizon,
                    "label": label,
                    "probability": _sigmoid(known * signal - 1.3 + shift),
                    "fallback_probability": _sigmoid(0.4 * known * signal - 1.2),
                    "rule_probability": np.full(n_rows, label.mean()),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def _sample(rng: np.random.Generator) -> pd.DataFrame:
    numeric = rng.normal(size=(500, 2)).astype(np.float32)
    return pd.DataFrame(
        {
            "carrier": rng.choice(["UA", "B6"], 500),
            "origin": "EWR",
            "dest": "LAX",
            "distance_miles": rng.integers(100, 2500, 500),
            **dict(zip(VIEW_COLUMNS, numeric.T, strict=True)),
            "probability": _sigmoid((numeric @ WEIGHTS).astype(np.float64)),
            "request_timestamp": pd.Timestamp("2013-05-01", tz="UTC"),
        }
    )


def _sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1.0 / (1.0 + np.exp(-x))
