"""Risk tiers: what a candidate must show, how many people must agree, and in which steps it goes live.

The numbers are in `conf/base/policies.yml`; a key that is not known here is refused with the nearest one that is. An
approval and a verdict name the digest of the tier that they were given under: a changed policy asks for new ones.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec

from flightdeck.core.config import cast_config, read_layers
from flightdeck.core.errors import ConfigError, nearest
from flightdeck.core.identifiers import digest_json
from flightdeck.gates.families import refuse_unusable
from flightdeck.gates.judge_policy import JudgePolicy
from flightdeck.gates.thresholds import Thresholds


class Approvals(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose consent a version needs before it decides for anybody.

    Parameters
    ----------
    n
        How many different people, none of them the author.
    roles
        Roles that must be among them: each needs a person of its own. Empty for anybody who may approve.
    valid_for_h
        Hours after which a consent counts no more.
    """

    n: int
    roles: tuple[str, ...] = ()
    valid_for_h: float = 168.0

    def __post_init__(self) -> None:
        """Refuse what nobody could give."""
        if self.n < 1:
            raise ValueError(f"n is {self.n}, at least one person approves every release")
        if len(self.roles) > self.n:
            raise ValueError(f"n is {self.n}, yet {len(self.roles)} roles need a person each: {', '.join(self.roles)}")
        _positive("valid_for_h", self.valid_for_h)


class ShadowStep(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A version scores a full copy of the traffic before it decides for anybody.

    Parameters
    ----------
    min_requests, min_minutes
        How much traffic, and how long, before the report counts.
    mean_difference_at_most
        Largest difference of the mean prediction from the champion's on the same items, overall and in any segment.
    failed_pct_at_most
        Largest share of items that the shadow could not score, percent.
    p95_ratio_at_most
        Largest ratio of the 95th percentile of compute time to the champion's.
    by_hand
        Whether a person moves it on; otherwise the controller does.
    """

    min_requests: int
    min_minutes: float
    mean_difference_at_most: float = 0.05
    failed_pct_at_most: float = 0.1
    p95_ratio_at_most: float = 1.5
    by_hand: bool = False

    def __post_init__(self) -> None:
        """Refuse a step that ends before it begins."""
        _step_size(self.min_requests, self.min_minutes)
        for name in ("mean_difference_at_most", "failed_pct_at_most", "p95_ratio_at_most"):
            _positive(name, getattr(self, name))


class CanaryStep(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A canary decides for a share of the units, until its evidence is there.

    Parameters
    ----------
    share
        In (0, 1).
    min_requests, min_minutes
        How many requests of the canary, and how long, before a pass counts.
    by_hand
        Whether a person moves it on; otherwise the controller does.
    """

    share: float
    min_requests: int
    min_minutes: float
    by_hand: bool = False

    def __post_init__(self) -> None:
        """Refuse a step that gives nothing, everything, or ends before it begins."""
        if not 0 < self.share < 1:
            raise ValueError(f"share is {self.share}, it lies between 0 and 1")
        _step_size(self.min_requests, self.min_minutes)


class Emergency(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The short way for a version that cannot wait: fewer steps, the same safety checks, reviewed afterwards.

    Parameters
    ----------
    approvals
        Whose consent it needs.
    canary
        Its steps; it has no shadow.
    review_within_h
        Hours within which people review the release.
    """

    approvals: Approvals
    canary: tuple[CanaryStep, ...]
    review_within_h: float

    def __post_init__(self) -> None:
        """Refuse a way without a step or without a review."""
        _ascending(self.canary)
        _positive("review_within_h", self.review_within_h)


class Tier(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Policy of one risk tier.

    Parameters
    ----------
    owner
        Role that may give a version of this tier a lower one.
    approvals
        Whose consent a version needs before it leaves shadow or staging.
    canary
        Steps of the rollout, shares ascending.
    emergency
        The short way.
    gates
        Names of the families of checks that the gate asks for.
    thresholds
        Bounds of their checks.
    judge
        How a canary is judged; a step's `min_requests` and `min_minutes` take the place of its least samples and time.
    shadow
        Shadow step before the canary; none where left out.
    rehearsal_within_h
        Hours before going to prod within which its rollback was rehearsed; not asked for where left out.
    overlap
        What a newer version does to one in shadow or canary: `wait` for it to end, or `supersede` it.
    """

    owner: str
    approvals: Approvals
    canary: tuple[CanaryStep, ...]
    emergency: Emergency
    gates: tuple[str, ...]
    thresholds: Thresholds
    judge: JudgePolicy
    shadow: ShadowStep | None = None
    rehearsal_within_h: float | None = None
    overlap: Literal["wait", "supersede"] = "wait"

    def __post_init__(self) -> None:
        """Refuse a policy that nobody could follow."""
        _ascending(self.canary)
        refuse_unusable(self.gates)
        if self.rehearsal_within_h is not None:
            _positive("rehearsal_within_h", self.rehearsal_within_h)

    @property
    def gate_parameters(self) -> dict[str, object]:
        """Parameters of the gate notebook that the policy decides, as plain values."""
        return {"gates": list(self.gates), "thresholds": msgspec.to_builtins(self.thresholds)}

    @property
    def digest(self) -> str:
        """SHA-256 of everything that the tier asks for, 64 hexadecimal characters."""
        return digest_json(msgspec.to_builtins(self))

    def way(self, is_emergency: bool) -> tuple[Approvals, tuple[CanaryStep, ...]]:
        """Return consent and canary steps of the usual or the emergency way."""
        if is_emergency:
            return self.emergency.approvals, self.emergency.canary
        return self.approvals, self.canary

    def judged(self, step: CanaryStep) -> JudgePolicy:
        """Return how one step is judged: by all but labels, which are looked at by version, for their part of alpha."""
        change, least = msgspec.structs.replace, step.min_requests
        judge = self.judge
        n_metrics = len(judge.metrics)
        part = 1 - 1 / n_metrics if judge.log_loss is not None else 1.0
        return change(
            judge,
            alpha=judge.alpha * part,
            bake_s=step.min_minutes * 60,
            log_loss=None,
            errors=judge.errors and change(judge.errors, n_units_at_least=least),
            latency=judge.latency and change(judge.latency, n_units_at_least=least),
            predictions=judge.predictions and change(judge.predictions, n_units_at_least=least),
        )

    def is_first(self, step: CanaryStep) -> bool:
        """Tell whether a version has no canary share before this step, on either way."""
        return step in (self.canary[0], self.emergency.canary[0])

    def step(self, share: float, is_emergency: bool) -> CanaryStep | None:
        """Return the canary step of a share; None where the policy has changed underneath."""
        return next((step for step in self.way(is_emergency)[1] if step.share == share), None)


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


def read_policies(conf: Path, env: str | None = None) -> Policies:
    """Read `policies.yml` below the configuration folder `conf`: `base`, with the environment's keys in its tiers.

    Parameters
    ----------
    conf
        Folder with `base` and the environments.
    env
        Name of the environment (default: what `KEDRO_ENV` says, else `local`). A key of a tier there takes the place of
        the whole key of the same name. It changes the tier's digest, so no approval given under one is good under
        another.

    Raises
    ------
    ConfigError
        If it is missing, has an unknown key or breaks a rule, or there is no such environment.
    """
    name, base, override = read_layers("policies.yml", env, conf=conf)
    if not base:
        raise ConfigError(f"reading {conf / 'base' / 'policies.yml'}: no risk tiers", next_step="restore it from git")
    tiers = {**base, **{tier: _layered(base.get(tier), keys) for tier, keys in override.items()}}
    return cast_config(tiers, Policies, where=f"policies.yml of environment {name!r}")


def _layered(base: object, override: object) -> object:
    return {**base, **override} if isinstance(base, dict) and isinstance(override, dict) else override


def _positive(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} is {value}, a number above 0 is needed")


def _step_size(min_requests: int, min_minutes: float) -> None:
    if min_requests < 1:
        raise ValueError(f"min_requests is {min_requests}: a step without evidence is none, 1 is the least")
    _positive("min_minutes", min_minutes)


def _ascending(steps: Sequence[CanaryStep]) -> None:
    shares = [step.share for step in steps]
    if not shares or shares != sorted(set(shares)):
        raise ValueError(f"canary has the shares {shares}, one or more ascending ones are needed")
