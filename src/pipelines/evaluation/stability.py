"""Stability: what the model would have said, had another seed been drawn.

Training fits the challenger a second time where the tier asks for it (`pipelines.training.second_seed`) and records how
far the two are apart. Here that record is held against the bounds, after a look at whether it is about this draft.
"""

import math

import msgspec

from flightdeck.core.errors import ContractViolation, NotFoundError
from flightdeck.gates.bounds import at_most
from flightdeck.gates.evidence import Evidence
from flightdeck.gates.metrics import roc_auc
from flightdeck.gates.thresholds import Thresholds
from flightdeck.gates.verdict import Check
from pipelines.training.two_seeds import TwoSeeds

EXPORTED = 1e-4  # of ROC AUC: the record is of the models as trained, the predictions are of the exported one
_RETRAIN = "train under a tier whose gates have stability: kedro run --config kedro.yml --params release.tier=high"


def stability(evidence: Evidence, thresholds: Thresholds) -> list[Check]:
    """Check how far two models are apart that were trained alike but for the seed: their ranking, their probabilities.

    Raises
    ------
    ContractViolation
        If the record is of another form, or its first model is not the one of this draft.
    NotFoundError
        If training recorded no second seed.
    """
    found = _read_record(evidence)
    _require_same_model(found, evidence)
    one, other = found.seeds
    differences = {horizon: abs(first - second) for horizon, (first, second) in found.auc.items()}
    worst = max(differences, key=lambda horizon: differences[horizon])
    seeds = f"seeds {one} and {other}" + (", which give the very same model" if found.is_same_model else "")
    return [
        at_most(
            "stability_auc",
            differences[worst],
            thresholds.stability_auc_difference_at_most,
            thresholds,
            f"difference of ROC AUC between {seeds}, largest {worst} min ahead: "
            f"{found.auc[worst][0]:.4f} and {found.auc[worst][1]:.4f}",
        ),
        at_most(
            "stability_probability",
            found.probability_difference,
            thresholds.stability_probability_difference_at_most,
            thresholds,
            f"mean absolute difference of the probabilities between {seeds}, {found.n_rows:,} test rows",
        ),
    ]


def _read_record(evidence: Evidence) -> TwoSeeds:
    record = evidence.training.get("stability")
    if not record:
        raise NotFoundError(
            "comparing two seeds: training.json of the draft says nothing of a second one", next_step=_RETRAIN
        )
    try:
        return msgspec.convert(record, TwoSeeds)
    except msgspec.ValidationError as error:
        raise ContractViolation(
            f"comparing two seeds: stability in training.json: {error}", next_step=_RETRAIN
        ) from error


def _require_same_model(found: TwoSeeds, evidence: Evidence) -> None:
    """Refuse a record whose first model ranks the draft's test rows otherwise than the draft's own model."""
    rows = evidence.predictions.groupby("horizon_min").indices
    own = {str(horizon): roc_auc(evidence.label[at], evidence.probability[at]) for horizon, at in rows.items()}
    recorded = {horizon: first for horizon, (first, _) in found.auc.items()}
    if recorded.keys() != own.keys() or not all(math.isclose(recorded[key], own[key], abs_tol=EXPORTED) for key in own):
        raise ContractViolation(
            f"comparing two seeds: training.json says ROC AUC {recorded} of the model, its predictions have {own}",
            next_step=_RETRAIN,
        )
