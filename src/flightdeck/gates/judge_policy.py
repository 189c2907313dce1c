"""What a canary is judged by: error rates, margins, minimum samples and times.

A table of this form belongs to each rollout step of `policies.yml`; an unknown key is refused.
"""

import math

import msgspec


class ErrorRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Margin of the errors that are not the client's.

    Parameters
    ----------
    rate_ratio
        Largest acceptable ratio of the canary's error rate to the champion's, at least 1.
    negligible_rate
        Share of failing units below which the ratio does not matter for a pass, in (0, 1).
    n_units_at_least
        Units that the canary must have answered before it can pass.
    """

    rate_ratio: float = 1.25
    negligible_rate: float = 0.005
    n_units_at_least: int = 500

    def __post_init__(self) -> None:
        """Refuse what cannot be tested."""
        _need(1 <= self.rate_ratio < math.inf, "rate_ratio", self.rate_ratio, "at least 1")
        _need(0 < self.negligible_rate < 1, "negligible_rate", self.negligible_rate, "between 0 and 1")
        _need(self.n_units_at_least >= 1, "n_units_at_least", self.n_units_at_least, "at least 1")


class LatencyRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Margin of a latency quantile.

    Parameters
    ----------
    quantile
        Which quantile, in (0, 1).
    margin
        How much larger than the champion's it may be, as a share of it, 0 or more.
    n_units_at_least
        Units that the canary must have answered before it can pass.
    """

    quantile: float = 0.95
    margin: float = 0.1
    n_units_at_least: int = 500

    def __post_init__(self) -> None:
        """Refuse what cannot be tested."""
        _need(0 < self.quantile < 1, "quantile", self.quantile, "between 0 and 1")
        _need(0 <= self.margin < math.inf, "margin", self.margin, "0 or more")
        _need(self.n_units_at_least >= 1, "n_units_at_least", self.n_units_at_least, "at least 1")


class PredictionRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Margins of the distribution of predictions.

    Parameters
    ----------
    mean_margin
        Largest acceptable absolute shift of the mean prediction, in (0, 1).
    band_edges
        Ascending edges in (0, 1) that cut the predictions into bands.
    band_margin
        Largest acceptable absolute shift of the share of any band, in (0, 1).
    n_units_at_least
        Units that the canary must have answered before it can pass.
    """

    mean_margin: float = 0.03
    band_edges: tuple[float, ...] = (0.25, 0.5)
    band_margin: float = 0.06
    n_units_at_least: int = 500

    def __post_init__(self) -> None:
        """Refuse what cannot be tested."""
        _need(0 < self.mean_margin < 1, "mean_margin", self.mean_margin, "between 0 and 1")
        _need(0 < self.band_margin < 1, "band_margin", self.band_margin, "between 0 and 1")
        ascending = list(self.band_edges) == sorted(set(self.band_edges)) and all(0 < e < 1 for e in self.band_edges)
        _need(ascending, "band_edges", list(self.band_edges), "ascending, between 0 and 1")
        _need(self.n_units_at_least >= 1, "n_units_at_least", self.n_units_at_least, "at least 1")


class LogLossRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Margin of the log loss on labelled items.

    Parameters
    ----------
    margin
        How much larger the canary's log loss may be, in nats, 0 or more.
    block_s
        Length of a block, seconds: each block casts one vote, whatever it holds. A day, where days share their weather.
    n_units_a_block_at_least
        Units that a block must hold (in each arm, where items are not paired) to vote.
    n_blocks_at_least
        Votes needed before the canary can pass.
    is_awaited
        Whether a canary passes no step before its label check would pass.
    label_window_h
        How long after its promotion a version can still be rolled back for its labels, hours, above 0.
    """

    margin: float = 0.005
    block_s: float = 86_400.0
    n_units_a_block_at_least: int = 30
    n_blocks_at_least: int = 5
    is_awaited: bool = False
    label_window_h: float = 504.0

    def __post_init__(self) -> None:
        """Refuse what cannot be tested."""
        _need(0 <= self.margin < math.inf, "margin", self.margin, "0 or more")
        _need(0 < self.block_s < math.inf, "block_s", self.block_s, "above 0")
        _need(0 < self.label_window_h < math.inf, "label_window_h", self.label_window_h, "above 0")
        units, blocks = self.n_units_a_block_at_least, self.n_blocks_at_least
        _need(units >= 1, "n_units_a_block_at_least", units, "at least 1")
        _need(blocks >= 1, "n_blocks_at_least", blocks, "at least 1")


class JudgePolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How one canary step is judged; a metric without a rule is not looked at.

    Parameters
    ----------
    alpha
        Largest chance that a canary within all its margins is failed, ever; split evenly over the metrics.
    pass_alpha
        Largest chance, for each metric, that a canary beyond its margin is taken for fine.
    sample_ratio_alpha
        Largest chance that healthy assignment is taken for a sample-ratio mismatch.
    bake_s
        Least time between the first and the last event before a pass, seconds, above 0.
    silence_s
        How long the canary may be silent before its evidence is taken for stale, seconds, above 0.
    errors, latency, predictions, log_loss
        Rules of the metrics; at least one of the first three, since labels alone arrive too late to stop a canary.
    """

    bake_s: float
    silence_s: float
    alpha: float = 0.001
    pass_alpha: float = 0.05
    sample_ratio_alpha: float = 0.001
    errors: ErrorRule | None = None
    latency: LatencyRule | None = None
    predictions: PredictionRule | None = None
    log_loss: LogLossRule | None = None

    def __post_init__(self) -> None:
        """Refuse a policy that could not stop or could not pass anything."""
        for name in ("alpha", "pass_alpha", "sample_ratio_alpha"):
            _need(0 < getattr(self, name) < 0.5, name, getattr(self, name), "between 0 and 0.5")
        for name in ("bake_s", "silence_s"):
            _need(0 < getattr(self, name) < math.inf, name, getattr(self, name), "above 0 seconds")
        if self.errors is None and self.latency is None and self.predictions is None:
            raise ValueError("no metrics: at least one of errors, latency, predictions must have a rule")

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics that are looked at."""
        names = ("errors", "latency", "predictions", "log_loss")
        return tuple(name for name in names if getattr(self, name) is not None)


def _need(holds: bool, name: str, value: object, rule: str) -> None:
    if not holds:
        raise ValueError(f"{name} is {value}, it must be {rule}")
