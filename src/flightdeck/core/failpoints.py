"""Named places at which a test ends the process: what a crash between two steps leaves is looked at, not argued about.

`failpoint("name")` does nothing unless that name is armed, by `arm` or by `FLIGHTDECK_FAILPOINT=name` (or `name:3` for
the third time that the place is passed) in the environment of a process that starts. The armed place ends the process
with SIGKILL, as a power cut does to it: nothing is flushed, no `finally` runs.
"""

import os
import signal
from collections.abc import Callable

VARIABLE = "FLIGHTDECK_FAILPOINT"


def kill() -> None:
    """End this process at once."""
    os.kill(os.getpid(), signal.SIGKILL)


class _Armed:
    def __init__(self) -> None:
        self.name, self.n_left, self.act = "", 0, kill


_armed = _Armed()


def failpoint(name: str) -> None:
    """Mark a place between two steps of something that must survive a crash.

    Parameters
    ----------
    name
        Of this place and no other, `part.what_has_just_happened`.
    """
    if name == _armed.name:
        _armed.n_left -= 1
        if _armed.n_left == 0:
            _armed.act()


def arm(name: str, n_th: int = 1, act: Callable[[], None] = kill) -> None:
    """Let the `n_th` passage of the place `name` from now on end this process; the empty name disarms.

    Parameters
    ----------
    name
        Place; one is armed at a time.
    n_th
        Passage that counts, from 1.
    act
        What happens instead of `kill`: a simulation in one process raises.

    Raises
    ------
    ValueError
        If `n_th` is below 1.

    Examples
    --------
    >>> passed = []
    >>> arm("ledger.appended", 2, lambda: passed.append("second"))
    >>> failpoint("ledger.appended"), failpoint("order.written"), passed
    (None, None, [])
    >>> failpoint("ledger.appended"), passed
    (None, ['second'])
    >>> arm("")
    """
    if n_th < 1:
        raise ValueError(f"arming the failpoint {name!r}: passages count from 1, got {n_th}")
    _armed.name, _armed.n_left, _armed.act = name, n_th, act


def _arm_from_environment(spec: str) -> None:
    name, _, n_th = spec.partition(":")
    arm(name, int(n_th or 1))


_arm_from_environment(os.environ.get(VARIABLE, ""))
