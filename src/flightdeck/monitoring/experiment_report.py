"""What the results of experiments look like: plain values that monitoring writes and people read, and their words."""

from collections.abc import Iterable, Iterator
from datetime import datetime

import msgspec

ALPHA = 0.05
LATENCY_CAP_MS = 250.0
PREDICTION, ERRORS, LATENCY, LOG_LOSS = "prediction", "errors", "latency_ms", "log_loss"
MEASURES = (PREDICTION, ERRORS, LATENCY, LOG_LOSS)


class ArmResult(msgspec.Struct, frozen=True):
    """What the units of one arm were given; None where no unit says anything.

    Parameters
    ----------
    name, version, share
        The arm.
    n_units, n_answers
        Units that were met, and answers that they were given (an estimate where only some units are logged).
    prediction
        Mean probability.
    errors
        Share of the units whose item the arm's own version failed.
    latency_ms
        Mean latency, values above `LATENCY_CAP_MS` counted as that.
    n_labelled
        Units whose label is due.
    log_loss, auc
        Of those; a probability counts as at least `CLIP` away from 0 and 1.
    """

    name: str
    version: int
    share: float
    n_units: int
    n_answers: float
    prediction: float | None
    errors: float | None
    latency_ms: float | None
    n_labelled: int = 0
    log_loss: float | None = None
    auc: float | None = None


class Look(msgspec.Struct, frozen=True):
    """The interval after the first `n_units` units of both arms."""

    n_units: int
    low: float
    high: float


class Difference(msgspec.Struct, frozen=True):
    """An arm less the first arm, in one measure.

    Parameters
    ----------
    arm, measure
        Which.
    difference
        Of the means; None where an arm has no unit that says anything.
    looks
        The interval as it became narrower, the newest last; empty without units.
    """

    arm: str
    measure: str
    difference: float | None
    looks: tuple[Look, ...]

    @property
    def is_shown(self) -> bool:
        """Whether zero lies outside: the arms differ."""
        return bool(self.looks) and not self.looks[-1].low <= 0 <= self.looks[-1].high


class SampleRatio(msgspec.Struct, frozen=True):
    """Whether an arm has its share of the units that it and the first arm met.

    Parameters
    ----------
    arm
        Which.
    expected, seen
        Shares in (0, 1); `seen` is None without units.
    log_e
        Highest logarithm of the judge's e-value against the expected share.
    is_mismatch
        Whether a mismatch is proven: all comparisons with this arm are void.
    """

    arm: str
    expected: float
    seen: float | None
    log_e: float
    is_mismatch: bool


class ExperimentResult(msgspec.Struct, frozen=True):
    """One experiment since its arms are what they are."""

    name: str
    segment: str
    seq: int
    since: datetime
    until: datetime | None
    arms: tuple[ArmResult, ...]
    differences: tuple[Difference, ...]
    ratios: tuple[SampleRatio, ...]

    @property
    def is_void(self) -> bool:
        """Whether an arm has not the units that it should have."""
        return any(ratio.is_mismatch for ratio in self.ratios)


class ExperimentResults(msgspec.Struct, frozen=True):
    """`experiments.json`: all experiments, judged at the ISO 8601 time `judged_at`; None before any request."""

    judged_at: str | None
    experiments: tuple[ExperimentResult, ...]


def void_reasons(result: ExperimentResult) -> Iterator[str]:
    """Yield why a comparison is void, a line each arm."""
    for ratio in result.ratios:
        if ratio.is_mismatch and ratio.seen is not None:
            yield (
                f"arm {ratio.arm} has {ratio.seen:.2%} of the units that it and the first arm met, "
                f"{ratio.expected:.2%} are its share: units are lost on the way, and the arms' units are other people"
            )


def finding(one: Difference) -> str:
    """Return what a difference amounts to, in words."""
    if not one.looks:
        return "no data"
    last = one.looks[-1]
    if last.low > last.high:
        return "the difference changed over time"
    if last.low > 0:
        return "higher"
    return "lower" if last.high < 0 else "not told apart"


def to_json(results: Iterable[ExperimentResult], judged_at: datetime | None) -> dict[str, object]:
    """Return the content of `experiments.json`: plain values that `ExperimentResults` reads back."""
    whole = ExperimentResults(judged_at.isoformat() if judged_at else None, tuple(results))
    plain: dict[str, object] = msgspec.to_builtins(whole)
    return plain
