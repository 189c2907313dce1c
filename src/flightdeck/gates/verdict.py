"""A verdict: what the gate measured about one draft, check by check, and whether that is enough."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from flightdeck.core.errors import FlightdeckError, NotFoundError
from flightdeck.core.files import write_json


class Check(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One measured value against its threshold.

    Parameters
    ----------
    name
        Name that policies and messages use.
    value
        What was measured; None where it could not be, or where there was nothing to measure and the check passes.
    threshold
        Bound that the value was held against; None for a yes-or-no check.
    passed
        Whether the value keeps the bound.
    blocking
        Whether a failure stops the release; otherwise it only informs.
    detail
        One sentence for the reviewer: unit, direction of the bound, interval.
    """

    name: str
    value: float | None
    threshold: float | None
    passed: bool
    blocking: bool
    detail: str


class Verdict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All checks of one draft.

    Parameters
    ----------
    subject
        Content digest of the draft that was looked at.
    tier
        Risk tier whose thresholds were used.
    passed
        Whether every blocking check passed.
    checks
        The checks, in the order in which the notebook shows them; at least one.
    made_at
        When, ISO 8601 UTC.
    """

    subject: str
    tier: str
    passed: bool
    checks: tuple[Check, ...]
    made_at: str

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the blocking checks that failed."""
        return tuple(check.name for check in self.checks if check.blocking and not check.passed)

    @property
    def is_measured_no(self) -> bool:
        """Whether a blocking check failed by what was measured, not only for want of it."""
        return any(check.blocking and not check.passed and check.value is not None for check in self.checks)


def judge(subject: str, tier: str, checks: Sequence[Check], made_at: str) -> Verdict:
    """Return the verdict that `checks` amount to: passed if there are any and no blocking one failed."""
    passed = bool(checks) and all(check.passed for check in checks if check.blocking)
    return Verdict(subject, tier, passed, tuple(checks), made_at)


def write_verdict(path: Path, verdict: Verdict) -> None:
    """Write `verdict` as JSON, atomically."""
    write_json(path, msgspec.to_builtins(verdict))


def read_verdict(path: Path) -> Verdict:
    """Read a verdict back.

    Raises
    ------
    NotFoundError
        If there is none: a gate that wrote nothing has not passed.
    FlightdeckError
        If the file is damaged, or says passed while a blocking check failed.
    """
    try:
        verdict = msgspec.json.decode(path.read_bytes(), type=Verdict)
    except FileNotFoundError as error:
        raise NotFoundError(
            f"reading the verdict {path}: the gate wrote none", next_step="look at the executed notebook beside it"
        ) from error
    except msgspec.DecodeError as error:
        raise FlightdeckError(
            f"reading the verdict {path}: {error}", next_step="run the gate again: kedro run --pipelines evaluation"
        ) from error
    if verdict != judge(verdict.subject, verdict.tier, verdict.checks, verdict.made_at):
        raise FlightdeckError(
            f"reading the verdict {path}: it says passed={verdict.passed}, its checks say otherwise",
            next_step="run the gate again: kedro run --pipelines evaluation",
        )
    return verdict
