"""The challenger fitted once more with another seed: how much of what it says is chance.

It costs a fit, so it is made only where the risk tier's gates ask for `stability`. The first model is not touched.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from flightdeck.core.layout import PROJECT
from flightdeck.gates.metrics import roc_auc
from flightdeck.gates.policy import read_policies
from pipelines.features.model_input import NUMERIC
from pipelines.training.exporting import predict_probability
from pipelines.training.nodes import Parts, fit_challenger, model_rows
from pipelines.training.two_seeds import TwoSeeds

GATE = "stability"


def find_gates(release: Mapping[str, Any]) -> list[str]:
    """Return the families of checks that the risk tier of the release asks for.

    An edge of the pipeline: it reads `conf/base/policies.yml`, as the gate does.
    """
    return list(read_policies(PROJECT / "conf").tier(str(release["tier"])).gates)


def compare_seeds(
    training_set: pd.DataFrame,
    part: Parts,
    challenger: Pipeline,
    settings: Mapping[str, Any],
    gates: Sequence[str],
) -> dict[str, Any]:
    """Fit the challenger with the next seed and return how far it is from the first (`TwoSeeds`); empty if not asked.

    Parameters
    ----------
    training_set, part, settings
        As of `fit_challenger`.
    challenger
        The model that the first seed gave.
    gates
        Families of checks that the release asks for.
    """
    if GATE not in gates:
        return {}
    seeds = (int(settings["seed"]), int(settings["seed"]) + 1)
    second = fit_challenger(training_set, part, {**settings, "seed": seeds[1]})
    test = training_set[part == "test"]
    label = test["label"].to_numpy(np.int64)
    one, other = (predict_probability(model, model_rows(test, NUMERIC)) for model in (challenger, second))
    rows = test.reset_index(drop=True).groupby("horizon").indices
    auc = {str(horizon): (roc_auc(label[at], one[at]), roc_auc(label[at], other[at])) for horizon, at in rows.items()}
    plain: dict[str, Any] = msgspec.to_builtins(TwoSeeds(seeds, auc, float(np.abs(one - other).mean()), len(test)))
    return plain
