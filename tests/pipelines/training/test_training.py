"""Training on a small real-shaped set: reproducible bytes, exports that agree, refusals that name the cause."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from flightdeck.core.errors import ConfigError, ContractViolation
from flightdeck.core.identifiers import digest_bytes
from flightdeck.inference.bundle import REQUIRED
from flightdeck.inference.datasets import DraftBundleDataset
from flightdeck.inference.export import refuse_different, refuse_different_features
from pipelines.features.model_input import NUMERIC, REQUEST_COLUMNS
from pipelines.features.views import VIEW_COLUMNS
from pipelines.training import exporting, nodes, packing, scoring
from tests.pipelines.training.conftest import SETTINGS, Models


def test_two_runs_give_the_same_bytes(training_set: pd.DataFrame, part: nodes.Parts) -> None:
    first, second = (exporting.export_challenger(nodes.fit_challenger(training_set, part, SETTINGS)) for _ in range(2))
    assert first == second


def test_another_seed_or_parameter_gives_another_model(training_set: pd.DataFrame, part: nodes.Parts) -> None:
    changed = {**SETTINGS, "challenger": {**SETTINGS["challenger"], "max_leaf_nodes": 5}}
    models = [exporting.export_challenger(nodes.fit_challenger(training_set, part, s)) for s in (SETTINGS, changed)]
    assert models[0] != models[1]


def test_exports_agree_also_on_unseen_and_missing_values(
    training_set: pd.DataFrame, model_inputs: pd.DataFrame, part: nodes.Parts, models: Models
) -> None:
    odd, odd_inputs, last = training_set.copy(), model_inputs.copy(), training_set.index[-200:]
    for frame, nothing in ((odd, np.float32("nan")), (odd_inputs, np.nan)):
        frame.loc[last, "carrier"] = "ZZ"
        frame.loc[last, list(VIEW_COLUMNS)] = nothing
    odd.loc[last, ["aircraft_turnaround_min", "aircraft_in_air", "origin_overdue_ratio"]] = np.float32("nan")
    differences = exporting.compare_export(odd, odd_inputs, part, *models, SETTINGS)
    assert max(differences["model"], differences["fallback"]) <= 1e-5
    assert (differences["model_values"], differences["fallback_values"]) == (0, 0)


def test_a_function_that_means_something_else_in_the_graph_is_refused_by_its_columns(
    training_set: pd.DataFrame, model_inputs: pd.DataFrame, part: nodes.Parts, models: Models
) -> None:
    moved = training_set.assign(block_min=training_set["block_min"] + np.float32(0.01))
    with pytest.raises(ContractViolation, match=r"differs from NumPy by more than 1e-06 in block_min"):
        exporting.compare_export(moved, model_inputs, part, *models, SETTINGS)


def test_a_training_set_of_other_requests_than_the_inputs_is_refused(
    training_set: pd.DataFrame, model_inputs: pd.DataFrame, part: nodes.Parts, models: Models
) -> None:
    with pytest.raises(ContractViolation, match="not about the same requests"):
        exporting.compare_export(training_set, model_inputs[::-1].reset_index(drop=True), part, *models, SETTINGS)


def test_differing_features_are_counted_and_refused_beyond_the_limit() -> None:
    whole = np.array([[1.0, np.nan], [1e6, np.inf]], np.float32)
    assert refuse_different_features("model", ["a", "b"], whole, whole) == 0
    nudged = np.nextafter(whole, np.float32(np.inf))
    assert refuse_different_features("model", ["a", "b"], whole, nudged) == 2
    for value in (np.nan, np.inf, 1.00001):
        other = whole.copy()
        other[0, 0] = value
        with pytest.raises(ContractViolation, match="in a, on 1 of 4 values"):
            refuse_different_features("model", ["a", "b"], whole, other)
    missing = whole.copy()
    missing[0, 1], missing[1, 1] = 0.0, 1.0
    with pytest.raises(ContractViolation, match="in b, on 2 of 4 values"):
        refuse_different_features("model", ["a", "b"], whole, missing)


def test_a_different_export_is_refused() -> None:
    with pytest.raises(ContractViolation, match="on 1 of 2 rows"):
        refuse_different("model", np.array([0.1, 0.2]), np.array([0.1, 0.3]), 1e-5)
    with pytest.raises(ContractViolation, match="differs"):
        refuse_different("model", np.array([0.1]), np.array([np.nan]), 1e-5)


def test_a_draft_holds_the_models_as_they_were_exported(models: Models, tmp_path: Path) -> None:
    challenger, fallback = models[2:]
    draft = DraftBundleDataset(filepath=str(tmp_path / "draft"))
    draft.save({"model.onnx": challenger, "fallback.onnx": fallback})
    assert sorted(path.name for path in (tmp_path / "draft").iterdir()) == ["fallback.onnx", "model.onnx"]
    assert (tmp_path / "draft" / "fallback.onnx").read_bytes() == fallback
    assert draft.load()["model_digest"] == digest_bytes(challenger)


def test_a_split_without_test_rows_is_refused(training_set: pd.DataFrame) -> None:
    with pytest.raises(ConfigError, match="'test'"):
        nodes.split_by_time(training_set, {**SETTINGS, "validate_until": "2099-01-01"})


def test_rules_are_rates_drawn_to_the_mean(
    training_set: pd.DataFrame, model_inputs: pd.DataFrame, part: nodes.Parts
) -> None:
    rules = nodes.fit_rules(training_set, model_inputs, part, SETTINGS)
    heavy = nodes.fit_rules(training_set, model_inputs, part, {**SETTINGS, "rules_smoothing": 1e9})
    assert all(0 <= rate <= 1 for rate in rules["rates"].values())
    assert all(rate == pytest.approx(heavy["rate"], abs=1e-4) for rate in heavy["rates"].values())
    rows = training_set[part == "train"]
    hour = (rows["departure_minute_of_day"] // 60).astype(int).astype(str)
    by_cell = rows.groupby(rows["carrier"] + ":" + hour)["label"].agg(["sum", "count"])
    expected = (by_cell["sum"] + rows["label"].mean() * 50) / (by_cell["count"] + 50)
    assert rules["rates"] == pytest.approx(expected.to_dict(), abs=1e-6)


def test_the_draft_holds_what_the_next_rooms_need(
    training_set: pd.DataFrame, model_inputs: pd.DataFrame, part: nodes.Parts, models: Models
) -> None:
    challenger, fallback = models[2:]
    rules = nodes.fit_rules(training_set, model_inputs, part, SETTINGS)
    predictions = scoring.score_test_set(training_set, model_inputs, part, challenger, fallback, rules)
    record = packing.describe_training(
        challenger,
        {},
        {"git_commit": "c", "lock_digest": "l"},
        scoring.measure(predictions),
        {"model": 1e-7, "fallback": 2e-7, "model_values": 0, "fallback_values": 3},
        {},
        SETTINGS,
        training_set,
        {"horizons_min": [120, 15]},
        {},
    )
    assert "stability" not in record
    assert (record["onnx_max_difference"], record["n_values_traced_otherwise"]) == (2e-7, 3)
    categories = nodes.list_categories(training_set, part)
    days = scoring.summarise_days(predictions)
    settings = {**SETTINGS, "reference_rows": 50}
    reference, inputs = scoring.sample_reference(training_set, model_inputs, part, challenger, settings)
    files = packing.pack(
        challenger, fallback, rules, record, reference, inputs, days, predictions, categories, {}, "a: 1", "# x"
    )
    n_test = int((part == "test").sum())
    assert set(REQUIRED) <= set(files)
    assert days["n"].sum() == len(predictions) == n_test and len(reference) == len(inputs) == 50
    assert set(REQUEST_COLUMNS) < set(inputs) and inputs["probability"].equals(reference["probability"])
    again = exporting.score_inputs(challenger, inputs)
    np.testing.assert_array_equal(again.probability, reference["probability"])
    np.testing.assert_array_equal(again.numeric, reference[list(NUMERIC)])
