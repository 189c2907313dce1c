"""The monitoring pipeline with the project's own catalog, from a real store, log, ledger and bundle to its files."""

import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd
import pytest
from kedro.config import OmegaConfigLoader
from kedro.io import DataCatalog
from kedro.runner import SequentialRunner
from omegaconf.resolvers import oc

from flightdeck.core.clock import MINUTE_US, to_us
from flightdeck.core.layout import PROJECT, layout
from flightdeck.inference.prediction_log_batch import NONE
from flightdeck.monitoring.drift import TABLE_TYPES as DRIFT_TYPES
from flightdeck.monitoring.experiment_report import ExperimentResults
from flightdeck.monitoring.quality import WINDOW_COLUMNS
from flightdeck.release.decisions import current_state
from flightdeck.release.ledger import open_ledger
from flightdeck.release.route_edits import add_experiment
from pipelines.features.model_input import NUMERIC
from pipelines.features.views import VIEWS
from pipelines.monitoring.pipeline import create_pipeline
from tests.event_streams import write_log
from tests.flightdeck.monitoring.samples import CLOCK, SETTINGS
from tests.pipelines.monitoring.day import AS_OF_US, LEADS_MIN, N_FLIGHTS, Day, day_events, play


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Day:
    return play(tmp_path_factory.mktemp("day"))


@pytest.fixture
def day(played: Day, tmp_path: Path) -> Day:
    """Return a copy of the day to change."""
    shutil.copytree(played.root, tmp_path / "data")
    return Day(tmp_path / "data", played.truth, played.records)


def monitor(root: Path) -> tuple[dict[str, Any], Path]:
    """Run the pipeline on the data below `root` and return the summary and the folder of the reports."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLIGHTDECK_DATA", str(root))
        return _run(root)


def _run(root: Path) -> tuple[dict[str, Any], Path]:
    conf = OmegaConfigLoader(
        str(PROJECT / "conf"),
        base_env="base",
        default_run_env="base",
        custom_resolvers={"data": lambda path: str(layout().root / path), "mlflow_uri": lambda: "", "oc.env": oc.env},
    )
    pipeline = create_pipeline()
    catalog = DataCatalog.from_config(
        {name: conf["catalog"][name] for name in pipeline.datasets() & set(conf["catalog"])}
    )
    assert set(SETTINGS) == set(conf["parameters"]["monitoring"])
    catalog["params:monitoring"] = SETTINGS
    SequentialRunner().run(pipeline, catalog)
    folder = root / "08_reporting" / "monitoring"
    return json.loads((folder / "summary.json").read_text()), folder


def ledger_alerts(root: Path) -> list[str]:
    records = open_ledger(root / "06_models" / "ledger.sqlite", CLOCK).records()
    return [str(record.detail["name"]) for record in records if record.action == "alert"]


def test_a_healthy_day(day: Day) -> None:
    summary, folder = monitor(day.root)
    n = N_FLIGHTS * len(LEADS_MIN)
    assert summary["n_predictions"] == summary["n_labelled"] == n and summary["n_pending"] == 0
    assert summary["positive_rate"] == pytest.approx(day.truth["is_late"].mean())
    assert (summary["skew_compared"], summary["skew_mismatches"]) == (n * len(NUMERIC), 0)
    assert summary["drift_columns"] == [] and summary["drift_judged"] > 70
    assert summary["as_of"] == pd.Timestamp(AS_OF_US, unit="us", tz="UTC").isoformat() and summary["message"] == ""
    assert summary["by_mode"] == {"model": n} and summary["p95_ms"] == 2.0 and summary["champion"] == 1
    named = {alert["name"] for alert in summary["alerts"]}
    assert named <= {"freshness"} and sorted(ledger_alerts(day.root)) == sorted(a["name"] for a in summary["alerts"])
    quality = pd.read_parquet(folder / "quality.parquet")
    assert tuple(quality.columns) == WINDOW_COLUMNS and quality["n_labelled"].sum() == n
    assert tuple(pd.read_parquet(folder / "drift.parquet").columns) == tuple(DRIFT_TYPES)
    assert pd.read_parquet(folder / "serving.parquet")["n"].tolist() == [n]
    assert "plotly" in (folder / "drift.html").read_text().lower()


def test_judging_again_records_nothing_twice(day: Day) -> None:
    rules, fallback = {"mode": "rules"}, {"mode": "fallback"}
    day.log({3: rules, 4: rules, 5: fallback, 6: fallback})
    assert "degraded-answers" in {alert["name"] for alert in monitor(day.root)[0]["alerts"]}
    first = ledger_alerts(day.root)
    monitor(day.root)
    assert ledger_alerts(day.root) == first and "degraded-answers" in first


def test_a_changed_feature_is_found_and_named(day: Day) -> None:
    features = list(day.records[9]["features"])
    features[NUMERIC.index("block_min")] += 1.0
    day.log({9: {"features": features}})
    summary, folder = monitor(day.root)
    assert summary["skew_mismatches"] == 1
    skew = pd.read_parquet(folder / "skew.parquet").set_index("feature")
    assert skew["n_mismatched"]["block_min"] == 1 and skew["max_abs_difference"]["block_min"] == 1.0
    assert ("training-serving-skew", "block_min") in {(a["name"], a["about"]) for a in summary["alerts"]}


def test_nothing_at_all_but_the_log(tmp_path: Path) -> None:
    write_log(tmp_path / "02_intermediate" / "events", day_events())
    summary, folder = monitor(tmp_path)
    assert "no prediction" in summary["message"] and "prod" in summary["message"]
    assert summary["as_of"] is None and summary["auc"] is None and summary["alerts"] == []
    assert json.loads((folder / "experiments.json").read_text()) == {"judged_at": None, "experiments": []}
    for name in ("quality", "drift", "skew", "freshness", "serving"):
        assert pd.read_parquet(folder / f"{name}.parquet").empty
    assert not (tmp_path / "06_models" / "ledger.sqlite").exists()


def test_predictions_without_a_champion_or_a_store(day: Day) -> None:
    shutil.rmtree(day.root / "06_models")
    shutil.rmtree(day.root / "04_feature")
    summary, _ = monitor(day.root)
    assert summary["n_predictions"] == N_FLIGHTS * len(LEADS_MIN) and summary["champion"] is None
    assert summary["skew_not_auditable"] == summary["n_predictions"] and summary["drift_judged"] == 0


def test_a_store_that_is_no_longer_fed_raises_freshness_and_degraded_answers(day: Day) -> None:
    nothing = {"mode": "fallback", "features": None, "feature_us": NONE, "watermark_us": NONE}
    asked = [
        {**day.records[-1], **nothing, "request_id": f"late{minute}", "request_us": AS_OF_US + minute * MINUTE_US}
        for minute in range(31, 61)
    ]
    day.log(further=asked)
    summary, _ = monitor(day.root)
    assert {view.name for view in VIEWS} <= set(summary["freshness_breaches"])
    assert {"freshness", "degraded-answers"} <= {alert["name"] for alert in summary["alerts"]}
    assert summary["as_of"] == pd.Timestamp(AS_OF_US, unit="us", tz="UTC").isoformat()
    assert summary["by_mode"]["fallback"] == len(asked)


def test_an_altered_champion_does_not_stop_monitoring(day: Day) -> None:
    path = next((day.root / "06_models" / "bundles").glob("*/model.onnx"))
    path.chmod(0o644)
    path.write_bytes(b"altered")
    summary, folder = monitor(day.root)
    assert "altered: model.onnx" in summary["message"].replace("'", "") and summary["champion"] == 1
    assert (summary["drift_judged"], summary["skew_compared"]) == (0, 0)
    assert summary["skew_not_auditable"] == N_FLIGHTS * len(LEADS_MIN)
    assert len(pd.read_parquet(folder / "freshness.parquet")) > len(VIEWS)


def test_arms_of_an_experiment_are_compared_with_their_labels(day: Day) -> None:
    ledger = open_ledger(day.root / "06_models" / "ledger.sqlite", CLOCK)
    state = current_state(ledger)
    edit = add_experiment(state, "colour", [("old", 1, 0.5), ("new", 1, 0.5)])
    detail = {
        "what": edit.what,
        "versions": [1],
        "rules": msgspec.to_builtins(edit.rules),
        "digests": {"1": state.versions[1].digest},
    }
    began = ledger.append("routed", actor="Ada", subject="-", detail=detail).recorded_at
    n = len(day.records)
    arms = ("colour:old", "colour:new")
    logged_us = to_us(began) + 2_000_000
    day.log({i: {"arm": arms[i % 2], "unit_id": f"u{i}", "logged_at_us": logged_us + i} for i in range(n)})
    _, folder = monitor(day.root)
    found = msgspec.json.decode((folder / "experiments.json").read_bytes(), type=ExperimentResults)
    result = found.experiments[0]
    assert (result.name, result.since) == ("colour", began)
    assert sum(arm.n_units for arm in result.arms) == sum(arm.n_labelled for arm in result.arms) == n
    assert all(arm.log_loss is not None and arm.auc is not None for arm in result.arms)
    assert not result.is_void and not any(one.is_shown for one in result.differences)
