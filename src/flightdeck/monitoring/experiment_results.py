"""Results of experiments: what each arm's units were given, and how far the arms differ. Pure.

A unit counts once, with the first item that it was asked about while the experiment had its present arms: what it does
later hangs on what it was given first. It counts for the arm that it lies in, whoever answered: an arm whose version
fails hard requests is not flattered by leaving them out. Answers of fallbacks are therefore the arm's own; how often
its version failed by its own fault stands beside them.

Intervals are valid at every look (`difference_interval`). `ALPHA` holds for one measure of one experiment: it is shared
by its arms and by both ends. Over several measures, or experiments, errors add up.
"""

from collections.abc import Iterable, Sequence
from datetime import timedelta

import numpy as np
import pandas as pd

from flightdeck.gates.metrics import roc_auc
from flightdeck.inference.experiments import Arm
from flightdeck.monitoring.difference_interval import difference_interval
from flightdeck.monitoring.experiment_periods import Period
from flightdeck.monitoring.experiment_report import (
    ALPHA,
    ERRORS,
    LATENCY,
    LATENCY_CAP_MS,
    LOG_LOSS,
    PREDICTION,
    ArmResult,
    Difference,
    ExperimentResult,
    Look,
    SampleRatio,
)
from flightdeck.release.judge.betting import Floats
from flightdeck.release.judge.log_loss import CLIP
from flightdeck.release.judge.sample_ratio import SampleRatioTest
from flightdeck.release.judge.standing import proof_bar
from flightdeck.release.rollout.served import OWN_FAULTS

ALPHA_RATIO = 0.001
SETTLED = timedelta(seconds=1)  # every worker has the new table by then
LOSS_CAP = float(-np.log(CLIP))
FIRST_LOOK = 64
CAPS = {PREDICTION: 1.0, ERRORS: 1.0, LATENCY: LATENCY_CAP_MS, LOG_LOSS: LOSS_CAP}
"""What is compared, and the value above which a unit's value counts as just that."""


def measure_experiments(answers: pd.DataFrame, periods: Iterable[Period]) -> list[ExperimentResult]:
    """Return the results of experiments, in the order of `periods`.

    Parameters
    ----------
    answers
        Rows of `prediction_log.read_predictions`, oldest first; with `label`, `is_mature` and `due_us` of
        `labels.join_labels` where labels are joined.
    periods
        Which experiments, and which answers count: those logged in the period, from a moment after its beginning on,
        when every worker has the new table.
    """
    at = pd.to_datetime(answers["logged_at"], utc=True, format="ISO8601").astype("datetime64[us, UTC]")
    return [_measure(answers, at, period) for period in periods]


def _measure(answers: pd.DataFrame, at: "pd.Series[pd.Timestamp]", period: Period) -> ExperimentResult:
    experiment = period.experiment
    arm_of = {f"{experiment.name}:{arm.name}": place for place, arm in enumerate(experiment.arms)}
    is_inside = at >= period.since + SETTLED
    if period.until is not None:
        is_inside &= at < period.until
    rows = answers[is_inside & answers["arm"].isin(arm_of)]
    rows = rows.assign(place=rows["arm"].map(arm_of).astype(int), at_s=at[rows.index].astype("int64") / 1e6)
    units = _with_measures(rows[~rows.duplicated("unit_id")], experiment.name, experiment.arms)
    others = range(1, len(experiment.arms))
    bar = proof_bar(ALPHA, 2 * max(len(others), 1))
    return ExperimentResult(
        experiment.name,
        experiment.segment,
        period.seq,
        period.since,
        period.until,
        tuple(
            _arm(arm, units[units["place"] == place], float(rows.loc[rows["place"] == place, "weight"].sum()))
            for place, arm in enumerate(experiment.arms)
        ),
        tuple(_difference(units, experiment.arms, place, name, bar) for place in others for name in CAPS),
        tuple(_ratio(units, experiment.arms, place) for place in others),
    )


def _with_measures(units: pd.DataFrame, experiment: str, arms: Sequence[Arm]) -> pd.DataFrame:
    """Return the units with a column for each measure, NaN where a unit says nothing about it."""
    rungs = [f"{experiment}/{arm.name}" for arm in arms]
    failed = [_failed(why, rungs[place]) for why, place in zip(units["reason"], units["place"], strict=True)]
    if "label" not in units:
        units = units.assign(label=np.nan, is_mature=False, due_us=-1)
    label, answered = units["label"].to_numpy(), units["probability"].to_numpy().clip(CLIP, 1 - CLIP)
    loss = -np.log(np.where(label == 1, answered, 1 - answered))
    measures = pd.DataFrame(
        {
            PREDICTION: units["probability"],
            ERRORS: pd.Series(failed, index=units.index, dtype="float64"),
            LATENCY: units["latency_ms"].clip(0, LATENCY_CAP_MS),
            LOG_LOSS: np.where(units["is_mature"], loss, np.nan),
        }
    )
    rest = ["place", "at_s", "weight", "probability", "label", "due_us"]
    return pd.concat([units[rest], measures], axis=1)


def _failed(reason: str | None, rung: str) -> bool:
    """Tell whether the version of an arm failed by its own fault."""
    return any(part.strip() == f"{rung}:{why}" for part in (reason or "").split(";") for why in OWN_FAULTS)


def _arm(arm: Arm, units: pd.DataFrame, n_answers: float) -> ArmResult:
    labelled = units[units[LOG_LOSS].notna()]
    y, answered, weight = (labelled[name].to_numpy() for name in ("label", "probability", "weight"))
    auc = roc_auc(y.astype(np.int64), answered, weight) if len(labelled) else np.nan
    return ArmResult(
        arm.name,
        arm.version,
        arm.share,
        len(units),
        n_answers,
        _mean(units, PREDICTION),
        _mean(units, ERRORS),
        _mean(units, LATENCY),
        len(labelled),
        _mean(units, LOG_LOSS),
        None if np.isnan(auc) else float(auc),
    )


def _mean(units: pd.DataFrame, name: str) -> float | None:
    said = units[units[name].notna()]
    return float(np.average(said[name], weights=said["weight"])) if len(said) else None


def _difference(units: pd.DataFrame, arms: Sequence[Arm], place: int, measure: str, bar: float) -> Difference:
    """Compare an arm with the first one; labels in the order in which they fall due, all else in that of the units."""
    both = units[units["place"].isin((0, place)) & units[measure].notna()]
    if measure == LOG_LOSS:
        both = both.sort_values("due_us", kind="stable")
    means = [_mean(both[both["place"] == arm], measure) for arm in (0, place)]
    difference = means[1] - means[0] if means[0] is not None and means[1] is not None else None
    return Difference(arms[place].name, measure, difference, _looks(both, place, measure, _share(arms, place), bar))


def _looks(both: pd.DataFrame, place: int, measure: str, share: float, bar: float) -> tuple[Look, ...]:
    cap = CAPS[measure]
    values: Floats = both[measure].to_numpy(dtype=np.float64) / cap
    is_second, weight = (both["place"] == place).to_numpy(), both["weight"].to_numpy(dtype=np.float64)
    found, n = list[Look](), len(both)
    while n and (n >= FIRST_LOOK or not found):
        interval = difference_interval(values[:n], is_second[:n], share, bar, weight[:n])
        found.append(Look(n, interval.low * cap, interval.high * cap))
        n //= 2
    return tuple(reversed(found))


def _ratio(units: pd.DataFrame, arms: Sequence[Arm], place: int) -> SampleRatio:
    both = units[units["place"].isin((0, place))]
    is_second, share = (both["place"] == place).to_numpy(), _share(arms, place)
    test = SampleRatioTest(share, proof_bar(ALPHA_RATIO, len(arms) - 1))
    test.update(both["at_s"].to_numpy(dtype=np.float64), is_second)
    seen = float(is_second.mean()) if len(both) else None
    return SampleRatio(arms[place].name, share, seen, test.standing.log_e_worse, test.is_mismatch)


def _share(arms: Sequence[Arm], place: int) -> float:
    """Return the share of an arm in the units of it and the first one."""
    return arms[place].share / (arms[0].share + arms[place].share)
