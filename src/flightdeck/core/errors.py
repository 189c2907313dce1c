"""Errors that a user can act on.

Every error raised for a user's mistake or a broken environment is a `FlightdeckError`: what was being done, the rule,
the value received and the next step. The command line prints it without a traceback and exits with its `exit_code`.
Bugs stay ordinary exceptions and keep their traceback.
"""

import difflib
from collections.abc import Iterable


class FlightdeckError(Exception):
    """A failure with a message for the person at the keyboard.

    Parameters
    ----------
    message
        What was being done, the rule and the value received.
    next_step
        What to do now, as an instruction; printed on a line of its own.
    """

    exit_code = 1

    def __init__(self, message: str, *, next_step: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step

    def __str__(self) -> str:
        return f"{self.message}\n  next step: {self.next_step}" if self.next_step else self.message


class ConfigError(FlightdeckError):
    """A configuration file or parameter breaks its rule."""


class ContractViolation(FlightdeckError):
    """Data does not have the shape that its contract promises."""


class NotFoundError(FlightdeckError):
    """Something that an earlier step should have made is not there."""


class BundleRefused(FlightdeckError):
    """A bundle is incomplete, altered, of another format, or needs what this server does not give."""


class DeliveryFailed(FlightdeckError):
    """A bundle could not be copied to the end; what has been copied is kept."""


class StoreUnavailable(FlightdeckError):
    """The online store cannot be read or written."""


class ReleaseRefused(FlightdeckError):
    """A release action that the ledger's state or the policy does not allow."""


class LedgerConflict(ReleaseRefused):
    """Somebody else decided first: another record was appended, or another controller holds the lease (409 in HTTP)."""


class LedgerUnusable(ReleaseRefused):
    """The ledger or its checkpoints cannot be written: the disk is full or failing, the database is away or locked."""


class LedgerCorrupt(FlightdeckError):
    """The ledger's hash chain is broken."""


class AuditFailed(FlightdeckError):
    """The ledger or its checkpoints are not what was written."""

    exit_code = 3


class AuditImpossible(FlightdeckError):
    """The ledger could not be checked: nothing is known, neither good nor bad."""

    exit_code = 4


class GateFailed(FlightdeckError):
    """The gate looked and said no; the names of the failed checks are in the message."""

    exit_code = 3


class GateImpossible(FlightdeckError):
    """The gate did not see all that it is asked for: nothing measured is bad, not all is known to be good."""

    exit_code = 4


def nearest(name: str, choices: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the closest of `choices`, or the empty string.

    Examples
    --------
    >>> nearest("orgin", ["origin", "dest"])
    " (did you mean 'origin'?)"
    """
    found = difflib.get_close_matches(name, list(choices), n=1)
    return f" (did you mean {found[0]!r}?)" if found else ""


def some(names: Iterable[object], limit: int = 5) -> str:
    """List at most `limit` names and say how many more there are.

    Examples
    --------
    >>> some(["a", "b", "c"], limit=2)
    'a, b and 1 more'
    """
    listed = [str(name) for name in names]
    shown = ", ".join(listed[:limit])
    return shown if len(listed) <= limit else f"{shown} and {len(listed) - limit} more"
