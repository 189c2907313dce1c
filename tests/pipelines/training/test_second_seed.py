"""The second seed: tried where the tier asks for it, and what is recorded of it."""

import msgspec
import numpy as np
import pandas as pd
import pytest

from flightdeck.core.errors import ConfigError
from flightdeck.core.layout import PROJECT
from flightdeck.gates.metrics import roc_auc
from flightdeck.gates.policy import read_policies
from pipelines.features.model_input import NUMERIC
from pipelines.training import nodes
from pipelines.training.exporting import export_challenger, predict_probability
from pipelines.training.second_seed import compare_seeds, find_gates
from pipelines.training.two_seeds import TwoSeeds
from tests.pipelines.training.conftest import SETTINGS, Models


def test_the_gates_are_those_of_the_tier() -> None:
    for tier in ("low", "medium", "high"):
        assert tuple(find_gates({"tier": tier})) == read_policies(PROJECT / "conf").tier(tier).gates
    with pytest.raises(ConfigError, match="did you mean 'high'"):
        find_gates({"tier": "hihg"})


def test_nothing_is_fitted_where_nobody_asks(training_set: pd.DataFrame, part: nodes.Parts, models: Models) -> None:
    assert compare_seeds(training_set, part, models[0], {}, ["ranking", "export"]) == {}  # no setting is even read


def test_the_record_says_how_far_the_two_models_are_apart(
    training_set: pd.DataFrame, part: nodes.Parts, models: Models
) -> None:
    small = {**SETTINGS, "challenger": {**SETTINGS["challenger"], "max_leaf_nodes": 3}}
    found = msgspec.convert(compare_seeds(training_set, part, models[0], small, ["stability"]), TwoSeeds)
    test = training_set[part == "test"]
    second = nodes.fit_challenger(training_set, part, {**small, "seed": SETTINGS["seed"] + 1})
    one, other = (predict_probability(model, nodes.model_rows(test, NUMERIC)) for model in (models[0], second))
    assert found.seeds == (SETTINGS["seed"], SETTINGS["seed"] + 1) and found.n_rows == len(test)
    assert found.probability_difference == np.abs(one - other).mean() > 0 and not found.is_same_model
    for horizon in (15, 120):
        at = (test["horizon"] == horizon).to_numpy()
        label = test["label"].to_numpy(np.int64)[at]
        assert found.auc[str(horizon)] == (roc_auc(label, one[at]), roc_auc(label, other[at]))


def test_a_seed_that_changes_nothing_is_the_same_model_and_the_first_one_is_not_touched(
    training_set: pd.DataFrame, part: nodes.Parts, models: Models
) -> None:
    found = msgspec.convert(compare_seeds(training_set, part, models[0], SETTINGS, ["stability"]), TwoSeeds)
    assert found.is_same_model  # below 200,000 rows nothing of this fit is drawn at random
    assert export_challenger(models[0]) == models[2]
