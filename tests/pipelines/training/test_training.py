"""Training on a small real-shaped set: reproducible bytes, exports that agree, refusals that name the cause."""

import json

import numpy as np
import pandas as pd
import pytest
import yaml

from flightdeck.core.errors import ConfigError, ContractViolation
from flightdeck.core.layout import PROJECT
from flightdeck.inference.export import predict_onnx, refuse_different
from flightdeck.inference.surfaces import read_surfaces
from pipelines.features.model_input import CATEGORICAL, NUMERIC
from pipelines.training import nodes, packing, scoring

SETTINGS = yaml.safe_load((PROJECT / "conf/base/parameters_training.yml").read_text())["training"]
N_ROWS = 3_000


@pytest.fixture(scope="module")
def training_set() -> pd.DataFrame:
    random = np.random.default_rng(11)
    days = pd.to_datetime("2013-05-01") + pd.to_timedelta(np.sort(random.integers(0, 120, N_ROWS)), unit="D")
    values = random.normal(size=(N_ROWS, len(NUMERIC))).astype(np.float32)
    values[random.random(values.shape) < 0.1] = np.nan
    numeric = pd.DataFrame(values, columns=list(NUMERIC))
    numeric["departure_minute_of_day"] = random.integers(300, 1439, N_ROWS).astype(np.float32)
    signal = numeric["origin_overdue__open"].fillna(0) - 1
    keys = {
        "flight_id": [f"{day:%Y-%m-%d}:UA:{i}:EWR" for i, day in enumerate(days)],
        "horizon": random.choice([15, 120], N_ROWS),
        "request_us": days.to_numpy().astype("datetime64[us]").astype(np.int64),
        "label": (random.random(N_ROWS) < 1 / (1 + np.exp(-signal))).astype(np.int64),
        **{name: random.choice(["AA", "BB", "CC"], N_ROWS) for name in CATEGORICAL},
    }
    return pd.concat([pd.DataFrame(keys), numeric], axis=1)


@pytest.fixture(scope="module")
def part(training_set: pd.DataFrame) -> nodes.Parts:
    return nodes.split_by_time(training_set, SETTINGS)


def test_two_runs_give_the_same_bytes(training_set: pd.DataFrame, part: nodes.Parts) -> None:
    first, second = (nodes.export_challenger(nodes.fit_challenger(training_set, part, SETTINGS)) for _ in range(2))
    assert first == second


def test_another_seed_or_parameter_gives_another_model(training_set: pd.DataFrame, part: nodes.Parts) -> None:
    changed = {**SETTINGS, "challenger": {**SETTINGS["challenger"], "max_leaf_nodes": 5}}
    models = [nodes.export_challenger(nodes.fit_challenger(training_set, part, s)) for s in (SETTINGS, changed)]
    assert models[0] != models[1]


def test_exports_agree_also_on_unseen_and_missing_values(training_set: pd.DataFrame, part: nodes.Parts) -> None:
    challenger = nodes.fit_challenger(training_set, part, SETTINGS)
    fallback = nodes.fit_fallback(training_set, part, SETTINGS)
    odd = training_set.copy()
    odd.loc[odd.index[-200:], "carrier"] = "??"
    odd.loc[odd.index[-100:], list(NUMERIC)] = np.float32("nan")
    differences = nodes.compare_export(
        odd,
        part,
        challenger,
        fallback,
        nodes.export_challenger(challenger),
        nodes.export_fallback(fallback),
        SETTINGS,
    )
    assert set(differences) == {"model", "fallback"} and max(differences.values()) <= 1e-5


def test_a_different_export_is_refused() -> None:
    with pytest.raises(ContractViolation, match="on 1 of 2 rows"):
        refuse_different("model", np.array([0.1, 0.2]), np.array([0.1, 0.3]), 1e-5)
    with pytest.raises(ContractViolation, match="differs"):
        refuse_different("model", np.array([0.1]), np.array([np.nan]), 1e-5)


def test_a_split_without_test_rows_is_refused(training_set: pd.DataFrame) -> None:
    with pytest.raises(ConfigError, match="'test'"):
        nodes.split_by_time(training_set, {**SETTINGS, "validate_until": "2099-01-01"})


def test_rules_are_rates_drawn_to_the_mean(training_set: pd.DataFrame, part: nodes.Parts) -> None:
    rules = nodes.fit_rules(training_set, part, SETTINGS)
    heavy = nodes.fit_rules(training_set, part, {**SETTINGS, "rules_smoothing": 1e9})
    assert all(0 <= rate <= 1 for rate in rules["by_carrier_hour"].values())
    assert all(rate == pytest.approx(heavy["rate"], abs=1e-4) for rate in heavy["by_carrier_hour"].values())


def test_the_draft_holds_what_the_next_rooms_need(training_set: pd.DataFrame, part: nodes.Parts) -> None:
    challenger = nodes.export_challenger(nodes.fit_challenger(training_set, part, SETTINGS))
    fallback = nodes.export_fallback(nodes.fit_fallback(training_set, part, SETTINGS))
    rules = nodes.fit_rules(training_set, part, SETTINGS)
    predictions = scoring.score_test_set(training_set, part, challenger, fallback, rules)
    metrics = scoring.measure(predictions)
    record = packing.describe_training(
        challenger,
        {},
        {"git_commit": "c", "lock_digest": "l"},
        metrics,
        {"model": 1e-7},
        {},
        SETTINGS,
        training_set,
        {"horizons_min": [120, 15]},
    )
    categories = nodes.list_categories(training_set, part)
    days = scoring.summarise_days(predictions)
    reference = scoring.sample_reference(training_set, part, challenger, {**SETTINGS, "reference_rows": 50})
    files = packing.pack(
        challenger, fallback, rules, record, reference, days, predictions, categories, {}, "a: 1", "# x"
    )
    test = training_set[part == "test"]
    expected = predict_onnx(challenger, nodes.model_rows(test, NUMERIC), categorical=CATEGORICAL)
    np.testing.assert_array_equal(predictions["probability"], expected)
    assert {"model.onnx", "fallback.onnx", "rules.json", "features.json", "training.json"} <= set(files)
    assert days["n"].sum() == len(predictions) == len(test) and len(reference) == 50


def test_only_the_decisions_of_a_surface_are_sealed() -> None:
    surfaces = yaml.safe_load((PROJECT / "conf/base/surfaces.yml").read_text())
    assert all("criticality" in entry for entry in surfaces.values())
    empty = pd.DataFrame({"a": [1]})
    files = packing.pack(b"", b"", {}, {}, empty, empty, empty, {}, surfaces, "", "")
    sealed = json.loads(files["surfaces.json"])
    assert sealed == {name: {"decisions": entry["decisions"]} for name, entry in surfaces.items()}
    assert read_surfaces(sealed, where="bundle").by_name.keys() == surfaces.keys()
