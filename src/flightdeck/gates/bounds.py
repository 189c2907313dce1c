"""A value held against its bound: the one way in which checks are made."""

import math

from flightdeck.gates.thresholds import Thresholds
from flightdeck.gates.verdict import Check


def at_least(name: str, value: float, bound: float, thresholds: Thresholds, detail: str) -> Check:
    """Return the check `name`, passed if `value` is no smaller than `bound`."""
    return _check(name, value, bound, thresholds, f"{detail} (at least)", passed=value >= bound)


def at_most(name: str, value: float, bound: float, thresholds: Thresholds, detail: str) -> Check:
    """Return the check `name`, passed if `value` is no larger than `bound`."""
    return _check(name, value, bound, thresholds, f"{detail} (at most)", passed=value <= bound)


def nothing_to_hold(name: str, bound: float, thresholds: Thresholds, detail: str) -> Check:
    """Return the check `name`, passed because there is nothing yet that could be held against `bound`."""
    return Check(name, None, float(bound), passed=True, blocking=name not in thresholds.advisory, detail=detail)


def _check(name: str, value: float, bound: float, thresholds: Thresholds, detail: str, *, passed: bool) -> Check:
    """Return a check; a value that is not finite has not been measured and does not pass."""
    measured = float(value) if math.isfinite(value) else None
    blocking = name not in thresholds.advisory
    return Check(name, measured, float(bound), bool(passed) and measured is not None, blocking, detail)
