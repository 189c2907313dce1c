"""Time enters as a parameter: nothing outside this module reads the wall clock to decide anything.

Times that cross a boundary are timezone-aware UTC `datetime`; inside vectorised code they are int64 microseconds since
the Unix epoch (`_us`).
"""

from datetime import UTC, datetime, timedelta
from typing import Protocol

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECOND_US = 1_000_000
MINUTE_US = 60 * SECOND_US


class Clock(Protocol):
    """Anything that tells the time."""

    def now(self) -> datetime:
        """Return the present as timezone-aware UTC."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        """Return the present as timezone-aware UTC."""
        return datetime.now(UTC)


class VirtualClock:
    """A clock that moves only when told to: replays and tests.

    Parameters
    ----------
    start
        Timezone-aware time that the clock shows first.

    Examples
    --------
    >>> clock = VirtualClock(EPOCH)
    >>> clock.advance_to(EPOCH + timedelta(minutes=1))
    >>> clock.now().minute
    1
    """

    def __init__(self, start: datetime) -> None:
        self._now = start.astimezone(UTC)

    def now(self) -> datetime:
        """Return the time that the clock shows."""
        return self._now

    def advance_to(self, at: datetime) -> None:
        """Move forward to `at`.

        Raises
        ------
        ValueError
            If `at` lies before the present: event time never runs backwards.
        """
        if at < self._now:
            raise ValueError(f"the clock shows {self._now.isoformat()} and cannot go back to {at.isoformat()}")
        self._now = at.astimezone(UTC)


def to_us(at: datetime) -> int:
    """Return microseconds since the epoch of a timezone-aware `at`, exactly.

    Examples
    --------
    >>> to_us(EPOCH + timedelta(seconds=1))
    1000000
    """
    since = at - EPOCH
    return (since.days * 86_400 + since.seconds) * SECOND_US + since.microseconds


def from_us(at_us: int) -> datetime:
    """Return the timezone-aware UTC time of `at_us` microseconds since the epoch."""
    return EPOCH + timedelta(microseconds=int(at_us))
