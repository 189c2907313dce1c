"""How each surface is operated: `conf/*/surfaces.yml` and `conf/*/admission.yml`, read when the server starts.

The decisions in the same file are no part of this: they are sealed into the bundle (`surfaces.py`), and only those of
`conf/base` are. An environment may therefore override everything but them.
"""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from flightdeck.core.config import cast_config, read_layers, read_settings
from flightdeck.core.errors import ConfigError, nearest
from flightdeck.core.layout import PROJECT

MAX_LATENCY_MS = 60_000.0
_SEALED = "decisions"

CostWeight = Annotated[float, Meta(gt=0, le=1e6)]
DailyBudget = Annotated[float, Meta(gt=0, le=1e12)]
LogRate = Annotated[float, Meta(gt=0, le=1)]


class Criticality(StrEnum):
    """Who is degraded and refused last, first, and in between."""

    CRITICAL = "critical"
    NORMAL = "normal"
    SHEDDABLE = "sheddable"

    @property
    def level(self) -> int:
        """Return its place, 0 for the most critical."""
        return _LEVELS[self]


_LEVELS = {criticality: level for level, criticality in enumerate(Criticality)}


class LatencyBudget(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Time to answer, in milliseconds from arrival.

    Parameters
    ----------
    default
        Of a request that names none.
    least, most
        Bounds of what a request may name.
    """

    default: float
    least: float
    most: float

    def __post_init__(self) -> None:
        """Refuse bounds that contradict each other."""
        if not 0 < self.least <= self.default <= self.most <= MAX_LATENCY_MS:
            raise ValueError(
                f"least {self.least:g}, default {self.default:g}, most {self.most:g}: "
                f"they ascend, above 0 and up to {MAX_LATENCY_MS:g}"
            )


class SurfacePolicy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Operation of one surface; conf/base/surfaces.yml says what each key means."""

    criticality: Criticality
    latency_budget_ms: LatencyBudget
    cost_weight: CostWeight = 1.0
    daily_budget: DailyBudget | None = None
    log_rate: LogRate = 1.0


class AdmissionSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Work of one worker at once; conf/base/admission.yml says what each key means."""

    turn_ms: float = 2.0
    alone_ms: float = 40.0
    daily_budget: DailyBudget | None = None

    def __post_init__(self) -> None:
        """Refuse times that bound nothing."""
        if not 0 < self.turn_ms <= self.alone_ms <= MAX_LATENCY_MS:
            raise ValueError(f"turn_ms {self.turn_ms:g}, alone_ms {self.alone_ms:g}: they ascend, above 0")


def read_admission(
    env: str | None = None, *, conf: Path = PROJECT / "conf", environment: Mapping[str, str] | None = None
) -> AdmissionSettings:
    """Return the settings of an environment; parameters as of `read_layers`.

    Raises
    ------
    ConfigError
        If there is no such environment, or the settings break their rule.
    """
    return read_settings("admission.yml", AdmissionSettings, env, conf=conf, environment=environment)


def read_surface_policies(
    env: str | None = None, *, conf: Path = PROJECT / "conf", environment: Mapping[str, str] | None = None
) -> dict[str, SurfacePolicy]:
    """Return the operation of each surface by name; parameters as of `read_layers`.

    Raises
    ------
    ConfigError
        If there is no such environment, no surface, or anything breaks its rule; everything that does is named.
    """
    name, base, override = read_layers("surfaces.yml", env, conf=conf, environment=environment)
    where = f"surfaces.yml of environment {name!r}"
    problems = [f"{where}: {text}" for text in _override_problems(base, override)]
    policies: dict[str, SurfacePolicy] = {}
    for surface, entry in base.items():
        changed = override.get(surface)
        found = _cast_surface(entry, changed if isinstance(changed, dict) else {}, f"{where}, surface {surface!r}")
        if isinstance(found, SurfacePolicy):
            policies[surface] = found
        else:
            problems += found
    if not base:
        problems.append(f"{where}: no surface")
    if problems:
        raise ConfigError("\n".join(problems), next_step="correct them; conf/base/surfaces.yml explains each key")
    return policies


def _override_problems(base: Mapping[str, object], override: Mapping[str, object]) -> list[str]:
    """Return what an environment may not say: other surfaces, other forms, other decisions."""
    problems = [f"unknown surface {s!r}{nearest(str(s), base)}" for s in override if s not in base]
    for surface, entry in override.items():
        if not isinstance(entry, dict):
            problems.append(f"surface {surface!r} is no table of keys and values")
        elif _SEALED in entry:
            problems.append(f"surface {surface!r}: decisions are sealed from conf/base, an environment has none")
    return problems


def _cast_surface(entry: object, override: Mapping[str, object], where: str) -> SurfacePolicy | list[str]:
    """Return the policy, or everything that is wrong with it."""
    if not isinstance(entry, dict):
        return [f"{where}: no table of keys and values"]
    merged = {key: value for key, value in {**entry, **override}.items() if key != _SEALED}
    fields = {field.encode_name: field for field in msgspec.structs.fields(SurfacePolicy)}
    problems = [f"{where}: unknown key {key!r}{nearest(str(key), fields)}" for key in merged if key not in fields]
    for key, field in fields.items():
        if key in merged:
            problems += _value_problems(merged[key], field.type, f"{where}, {key}")
        elif field.required:
            problems.append(f"{where}: no {key}")
    return problems or cast_config(merged, SurfacePolicy, where=where)


def _value_problems(value: object, kind: Any, where: str) -> list[str]:
    try:
        if kind is LatencyBudget:
            cast_config(value, LatencyBudget, where=where)
        else:
            msgspec.convert(value, kind)
    except ConfigError as error:
        return [error.message]
    except msgspec.ValidationError as error:
        choices = f"; use one of {[str(choice) for choice in kind]}" if kind is Criticality else ""
        return [f"{where}: {error}{choices}"]
    return []
