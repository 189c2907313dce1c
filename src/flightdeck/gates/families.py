"""Families of checks that a risk tier can ask for, by name, and what the checks of each are called.

What a family looks at is in `flightdeck.gates.checks` and its neighbours, or brought by the use case.
"""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from flightdeck.core.errors import ConfigError, nearest
from flightdeck.gates.thresholds import Thresholds
from flightdeck.gates.verdict import Check

SAFETY = ("coverage", "leakage", "export")
CHECKS: Mapping[str, tuple[str, ...]] = {
    "coverage": ("invalid_probabilities", "n_months", "data_versions"),
    "ranking": ("auc_*",),
    "leakage": ("leakage_auc",),
    "calibration": ("ece",),
    "baselines": ("gain_over_*",),
    "champion": ("champion_log_loss",),
    "slices": ("slice_*",),
    "segments": ("worst_*_auc", "worst_*_ece"),
    "export": ("onnx_difference", "latency_p95_ms"),
    "package": ("package_*",),
    "freshness": ("data_in_log", "quarantined_pct", "data_age_h"),
    "point_in_time": ("point_in_time*",),
    "training_drift": ("psi*",),
    "skew": ("served_difference*",),
    "server": ("server_*", "bundle_mb"),
    "stability": ("stability_*",),
}


def refuse_unusable(gates: Sequence[str]) -> None:
    """Refuse the families of a tier where an unknown one is named, one is named twice, or a safety one is missing.

    Raises
    ------
    ValueError
        Saying all of it at once.
    """
    problems = [f"{name!r} is no family{nearest(name, CHECKS)}" for name in gates if name not in CHECKS]
    problems += [f"{name!r} is there twice" for name in dict.fromkeys(gates) if gates.count(name) > 1]
    problems += [f"{name!r} is missing, which every tier asks for" for name in SAFETY if name not in gates]
    if problems:
        raise ValueError(f"gates: {'; '.join(problems)}; there are {', '.join(CHECKS)}")


def refuse_unknown_advisory(found: Mapping[str, Sequence[Check]], thresholds: Thresholds) -> None:
    """Refuse a policy whose `advisory` names a check that no family makes.

    A family that looked has made all the checks it has; for one that was not asked, or could not look, the form of its
    names decides.

    Raises
    ------
    ConfigError
        With the nearest name: a misspelt advisory check would block, a misspelt blocking one would go unnoticed.
    """
    made = [check.name for checks in found.values() for check in checks]
    unseen = [form for family, forms in CHECKS.items() if not has_looked(found, family) for form in forms]
    strange = [name for name in thresholds.advisory if name not in made and not _has_form(name, unseen)]
    if strange:
        listed = ", ".join(f"{name!r}{nearest(name, made)}" for name in strange)
        raise ConfigError(
            f"reading the tier's advisory checks: unknown {listed}", next_step=f"use some of {[*made, *unseen]}"
        )


def has_looked(found: Mapping[str, Sequence[Check]], family: str) -> bool:
    """Tell whether a family was asked for and could look."""
    return family in found and not any(_is_blind(check, family) for check in found[family])


def could_not_run(family: str, why: str) -> Check:
    """Return the check of a family that could not look: failed and blocking, whatever the policy calls advisory."""
    return Check(family, None, None, passed=False, blocking=True, detail=f"could not run: {why}")


def _is_blind(check: Check, family: str) -> bool:
    return check.name == family and not check.passed and check.value is None and check.threshold is None


def _has_form(name: str, forms: Sequence[str]) -> bool:
    return any(fnmatchcase(name, form) for form in forms)
