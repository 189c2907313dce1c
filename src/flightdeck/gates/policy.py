"""Risk tiers: what a candidate must show, how many people must agree, and in which steps it goes live.

The numbers are in `conf/base/policies.yml`; a key that is not known here is refused with the nearest one that is.
"""

from pathlib import Path

import msgspec

from flightdeck.core.config import read_config
from flightdeck.core.errors import ConfigError, nearest


class Thresholds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bounds of the gate's checks, which `flightdeck.gates.checks` computes.

    Parameters
    ----------
    auc_at_least
        Smallest ROC AUC, by prediction horizon in minutes (as text).
    auc_at_most
        Largest believable ROC AUC at any horizon: above it something leaks.
    ece_at_most
        Largest expected calibration error at any horizon, 15 equal-width bins.
    log_loss_gain_at_least
        Smallest gain in log loss over the fallback model and over the rules; the lower end of its interval counts.
    champion_log_loss_excess_at_most
        Largest log loss above the champion's on the same rows; the upper end of its interval counts.
    onnx_difference_at_most
        Largest absolute difference between the probability of the trained and of the exported model.
    latency_p95_ms_at_most
        95th percentile of one single-row call of the exported model, in milliseconds.
    n_months_at_least, n_rows_a_month_at_least
        How many months the test set must cover, and how many rows make a month count.
    segment_auc_at_least
        Smallest ROC AUC of any month and any segment with at least `n_rows_a_month_at_least` rows.
    segment_ece_at_most
        Largest expected calibration error of any such segment.
    advisory
        Names of the checks that inform without stopping the release.
    """

    auc_at_least: dict[str, float]
    auc_at_most: float
    ece_at_most: float
    log_loss_gain_at_least: float
    champion_log_loss_excess_at_most: float
    onnx_difference_at_most: float
    latency_p95_ms_at_most: float
    n_months_at_least: int
    n_rows_a_month_at_least: int
    segment_auc_at_least: float
    segment_ece_at_most: float
    advisory: tuple[str, ...] = ()


class Tier(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Policy of one risk tier.

    Parameters
    ----------
    n_approvals
        How many different people must approve the bundle before it leaves staging.
    canary_shares
        Shares of the units that a canary may decide for, ascending, each in (0, 1).
    thresholds
        What the gate asks.
    """

    n_approvals: int
    canary_shares: tuple[float, ...]
    thresholds: Thresholds

    def __post_init__(self) -> None:
        """Refuse a policy that nobody could follow."""
        if self.n_approvals < 1:
            raise ValueError(f"n_approvals is {self.n_approvals}, at least one person approves every release")
        shares = self.canary_shares
        if not shares or list(shares) != sorted(set(shares)) or not all(0 < share < 1 for share in shares):
            raise ValueError(f"canary_shares is {list(shares)}, ascending shares between 0 and 1 are needed")


class Policies(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The three risk tiers."""

    low: Tier
    medium: Tier
    high: Tier

    def tier(self, name: str) -> Tier:
        """Return the policy of the tier `name`.

        Raises
        ------
        ConfigError
            If there is no such tier, naming the ones there are.
        """
        names = self.__struct_fields__
        if name not in names:
            raise ConfigError(
                f"looking up the risk tier {name!r}{nearest(name, names)}", next_step=f"use one of {', '.join(names)}"
            )
        tier: Tier = getattr(self, name)
        return tier


def read_policies(conf: Path) -> Policies:
    """Read `base/policies.yml` below the configuration folder `conf`.

    Raises
    ------
    ConfigError
        If it is missing, has an unknown key or breaks a rule.
    """
    return read_config(conf / "base" / "policies.yml", Policies)
