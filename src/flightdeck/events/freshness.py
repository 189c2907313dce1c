"""How old the newest event of each stream is, compared with what the stream promises."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from flightdeck.core.clock import from_us, to_us
from flightdeck.events.log import EventLog
from flightdeck.events.stream import Stream

LOOK_BACK_US = 7 * 86_400 * 1_000_000


@dataclass(frozen=True)
class Freshness:
    """Age of one stream at a moment.

    Parameters
    ----------
    name
        Stream.
    last_event_at
        When its newest known event became known; None if nothing was known in the week before.
    age_s
        Seconds since then (infinite if nothing is known).
    slo_s
        Longest promised silence in seconds.
    """

    name: str
    last_event_at: datetime | None
    age_s: float
    slo_s: int

    @property
    def is_breached(self) -> bool:
        """Whether the silence is longer than promised."""
        return self.age_s > self.slo_s


def stream_freshness(log: EventLog, streams: Iterable[Stream], at: datetime) -> list[Freshness]:
    """Return the freshness of each stream as it was known at `at` (looking back one week).

    Raises
    ------
    NotFoundError
        If a stream is not in the log.
    """
    at_us = to_us(at)
    found = []
    for stream in streams:
        events = log.read(
            stream.name,
            columns=["created_timestamp"],
            created_after_us=at_us - LOOK_BACK_US,
            created_until_us=at_us,
        )
        last_us = events["created_timestamp"][-1].value if events.num_rows else None
        age_s = (at_us - last_us) / 1e6 if last_us is not None else float("inf")
        found.append(Freshness(stream.name, None if last_us is None else from_us(last_us), age_s, stream.slo_s))
    return found
