"""The gate's checks: pure functions from evidence and thresholds to named checks, a family each.

The notebook shows each family in a section of its own and judges all of them together. What a check may be worth is in
`conf/base/policies.yml`; whether it stops the release is decided by the `advisory` list there.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flightdeck.gates.bounds import at_least, at_most, nothing_to_hold
from flightdeck.gates.evidence import Evidence, day_number
from flightdeck.gates.metrics import calibration_error, day_block_interval, log_losses, roc_auc
from flightdeck.gates.thresholds import Thresholds
from flightdeck.gates.verdict import Check


def coverage_checks(evidence: Evidence, thresholds: Thresholds, data_versions: Mapping[str, object]) -> list[Check]:
    """Check that the test set is all there: finite probabilities, months, and the data versions of the training."""
    probability = evidence.probability
    n_broken = int((~np.isfinite(probability) | (probability < 0) | (probability > 1)).sum())
    rows_a_month = evidence.month.value_counts()
    n_months = int((rows_a_month >= thresholds.n_rows_a_month_at_least).sum())
    trained_on: Mapping[str, object] = evidence.training.get("data_versions", {})
    other = sorted(name for name in {*trained_on, *data_versions} if trained_on.get(name) != data_versions.get(name))
    return [
        at_most("invalid_probabilities", n_broken, 0, thresholds, "rows whose probability is no number in [0, 1]"),
        at_least(
            "n_months",
            n_months,
            thresholds.n_months_at_least,
            thresholds,
            f"months with at least {thresholds.n_rows_a_month_at_least} test rows",
        ),
        at_most(
            "data_versions",
            len(other),
            0,
            thresholds,
            f"streams that the model did not read in the stated version: {', '.join(other) or 'none'}",
        ),
    ]


def ranking_checks(evidence: Evidence, thresholds: Thresholds) -> list[Check]:
    """Check ROC AUC at every horizon that the tier names."""
    found = _by_horizon(evidence)
    return [
        at_least(
            f"auc_{horizon}",
            roc_auc(*found[int(horizon)]) if int(horizon) in found else math.nan,
            bound,
            thresholds,
            f"ROC AUC {horizon} min ahead, {len(found[int(horizon)][0]) if int(horizon) in found else 0:,} rows",
        )
        for horizon, bound in sorted(thresholds.auc_at_least.items(), key=lambda item: int(item[0]))
    ]


def leakage_checks(evidence: Evidence, thresholds: Thresholds) -> list[Check]:
    """Check that no horizon ranks better than anything honest has: a feature would know the outcome."""
    highest = max((roc_auc(*rows) for rows in _by_horizon(evidence).values()), default=math.nan)
    return [
        at_most(
            "leakage_auc", highest, thresholds.auc_at_most, thresholds, "highest ROC AUC of any horizon; more is a leak"
        )
    ]


def calibration_checks(evidence: Evidence, thresholds: Thresholds) -> list[Check]:
    """Check the expected calibration error overall and at every horizon; the largest counts."""
    parts = [(evidence.label, evidence.probability), *_by_horizon(evidence).values()]
    worst = max((calibration_error(*rows) for rows in parts), default=math.nan)
    return [
        at_most(
            "ece", worst, thresholds.ece_at_most, thresholds, "largest ECE, 15 equal-width bins, overall or any horizon"
        )
    ]


def baseline_checks(evidence: Evidence, thresholds: Thresholds) -> list[Check]:
    """Check that the model is worth having: its log loss against the fallback model's and the rules'."""
    own = log_losses(evidence.label, evidence.probability)
    checks = []
    for name in ("fallback", "rule"):
        theirs = log_losses(evidence.label, evidence.predictions[f"{name}_probability"].to_numpy(np.float64))
        mean, low, high = day_block_interval(theirs - own, evidence.day)
        detail = (
            f"log loss won over the {name}: {mean:.4f} nats, 95 % of day-block resamples in [{low:.4f}, {high:.4f}]"
        )
        checks.append(
            at_least(
                f"gain_over_{name}", low, thresholds.log_loss_gain_at_least, thresholds, f"{detail}; low end counts"
            )
        )
    return checks


def champion_checks(evidence: Evidence, thresholds: Thresholds) -> list[Check]:
    """Check that the draft is not worse than the champion on the rows that both predicted."""
    bound = thresholds.champion_log_loss_excess_at_most
    if evidence.champion_problem:
        detail = f"the champion cannot be compared with: {evidence.champion_problem}"
        return [at_most("champion_log_loss", math.nan, bound, thresholds, detail)]
    if evidence.champion is None:
        return [nothing_to_hold("champion_log_loss", bound, thresholds, "no champion yet: nothing to compare with")]
    shared = shared_rows(evidence)
    excess = log_losses(*_pair(shared, "probability")) - log_losses(*_pair(shared, "champion_probability"))
    mean, low, high = day_block_interval(excess, day_number(shared))
    detail = (
        f"log loss above the champion's: {mean:+.4f} nats on {len(shared):,} shared rows, "
        f"95 % of day-block resamples in [{low:+.4f}, {high:+.4f}]; high end counts"
    )
    return [at_most("champion_log_loss", high, bound, thresholds, detail)]


def segment_checks(evidence: Evidence, thresholds: Thresholds, segments: Sequence[str]) -> list[Check]:
    """Check the worst month and the worst value of each segment column that has enough rows."""
    columns = {"month": evidence.month, **{name: evidence.predictions[name] for name in segments}}
    checks = []
    for name, values in columns.items():
        table = quality_table(evidence, values)
        table = table[table["rows"] >= thresholds.n_rows_a_month_at_least]
        for measure, worst, hold, bound in (
            ("AUC", "idxmin", at_least, thresholds.segment_auc_at_least),
            ("ECE", "idxmax", at_most, thresholds.segment_ece_at_most),
        ):
            ranked = table[measure].dropna()
            where = getattr(ranked, worst)() if len(ranked) else "none with enough rows"
            value = float(ranked[where]) if len(ranked) else math.nan
            detail = f"worst {measure} of any {name}: {where}"
            checks.append(hold(f"worst_{name}_{measure.lower()}", value, bound, thresholds, detail))
    return checks


def export_checks(max_difference: float, latency_ms: NDArray[np.float64], thresholds: Thresholds) -> list[Check]:
    """Check the exported model: how far it is from the trained one, and how long one row takes.

    Parameters
    ----------
    max_difference
        Largest absolute difference of any probability.
    latency_ms
        Milliseconds of each single-row call, shape (n_calls,).
    thresholds
        Bounds of the tier.
    """
    p95 = float(np.quantile(latency_ms, 0.95)) if len(latency_ms) else math.nan
    return [
        at_most(
            "onnx_difference",
            max_difference,
            thresholds.onnx_difference_at_most,
            thresholds,
            "largest difference between the trained and the exported model's probability",
        ),
        at_most(
            "latency_p95_ms",
            p95,
            thresholds.latency_p95_ms_at_most,
            thresholds,
            f"p95 of {len(latency_ms)} calls with one row, ms",
        ),
    ]


def quality_table(evidence: Evidence, by: pd.Series) -> pd.DataFrame:
    """Return rows, rate, mean probability, AUC, log loss and ECE for each value of `by`, in its order."""
    label, probability = evidence.label, evidence.probability
    losses = log_losses(label, probability)
    table = {
        value: {
            "rows": len(rows),
            "rate": label[rows].mean(),
            "mean probability": probability[rows].mean(),
            "AUC": roc_auc(label[rows], probability[rows]),
            "log loss": losses[rows].mean(),
            "ECE": calibration_error(label[rows], probability[rows]),
        }
        for value, rows in sorted(by.groupby(by.to_numpy()).indices.items())
    }
    frame = pd.DataFrame.from_dict(table, orient="index")
    frame.index.name = str(by.name)
    return frame


def shared_rows(evidence: Evidence) -> pd.DataFrame:
    """Return the rows that draft and champion both predicted, with `champion_probability` beside `probability`."""
    if evidence.champion is None:
        return evidence.predictions.head(0).assign(champion_probability=np.empty(0))
    key = [evidence.key, "horizon_min"]
    theirs = evidence.champion[[*key, "probability"]].rename(columns={"probability": "champion_probability"})
    return evidence.predictions.merge(theirs, on=key, how="inner", validate="one_to_one")


def _by_horizon(evidence: Evidence) -> dict[int, tuple[NDArray[np.int64], NDArray[np.float64]]]:
    label, probability = evidence.label, evidence.probability
    rows = evidence.predictions.groupby("horizon_min").indices
    return {int(str(horizon)): (label[at], probability[at]) for horizon, at in rows.items()}


def _pair(frame: pd.DataFrame, probability: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    return frame["label"].to_numpy(np.int64), frame[probability].to_numpy(np.float64)
