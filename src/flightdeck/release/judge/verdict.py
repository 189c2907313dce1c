"""What the judge says: one verdict a metric, and one about the canary."""

from enum import StrEnum

import msgspec


class Outcome(StrEnum):
    """What is known about a metric or a canary.

    `pass` and `fail` are proven at the error rates of the policy; `inconclusive` is not known (yet); `error` means that
    the evidence was malformed.
    """

    PASS = "pass"  # noqa: S105
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    ERROR = "error"


class MetricVerdict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is known about one metric.

    Parameters
    ----------
    metric
        One of errors, latency, predictions, log_loss.
    outcome
        What is known.
    log_e_worse
        Highest logarithm so far of the e-value against "the canary is within its margin".
    log_e_fine
        The same against "the canary is beyond its margin".
    n_canary, n_champion
        How many votes each arm has cast: units, or blocks of labelled items.
    worse_at_s
        Time of the event that proved it worse, seconds; None if none did.
    reason
        One sentence for a person.
    """

    metric: str
    outcome: Outcome
    log_e_worse: float
    log_e_fine: float
    n_canary: int
    n_champion: int
    worse_at_s: float | None
    reason: str


class CanaryVerdict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is known about the canary.

    Parameters
    ----------
    outcome
        What is known.
    freeze
        Whether its share must not grow: there is no evidence, or it cannot be trusted.
    reasons
        Sentences for a person, the most important first; at least one.
    metrics
        The metrics of the policy.
    log_e_sample_ratio
        Highest logarithm so far of the e-value against "the arms have the shares that were asked for".
    """

    outcome: Outcome
    freeze: bool
    reasons: tuple[str, ...]
    metrics: tuple[MetricVerdict, ...]
    log_e_sample_ratio: float
