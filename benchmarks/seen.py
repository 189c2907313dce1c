"""What a load generator saw: every request with its time, latency, status and mode."""

from collections.abc import Iterable
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

LOST = 0  # status of a request that was never answered
MODES = ("", "model", "fallback", "rules", "refused")
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Seen:
    """What became of each request of a stream, in the order of the answers; the unanswered last.

    Parameters
    ----------
    at_s
        Intended time of sending, seconds from the start.
    latency_s
        From then to the end of the answer.
    lag_s
        From then until it was really sent: the wait for a free connection, and how late the generator was.
    status
        HTTP status; 0 if it was not answered.
    mode
        Place in `MODES` of the header `X-Flightdeck-Mode`; 0 without one.
    """

    at_s: Floats
    latency_s: Floats
    lag_s: Floats
    status: npt.NDArray[np.int64]
    mode: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.at_s)

    def take(self, rows: npt.NDArray[np.bool_]) -> "Seen":
        """Return some of the requests."""
        return Seen(*(getattr(self, name)[rows] for name in FIELDS))

    def percentile_ms(self, q: float) -> float:
        """Return a percentile of the latencies; NaN without requests."""
        return float(np.percentile(self.latency_s, q)) * 1e3 if len(self) else float("nan")


FIELDS = tuple(field.name for field in fields(Seen))


def together(parts: Iterable[Seen]) -> Seen:
    """Return several streams or runs as one."""
    each = list(parts)
    return Seen(*(np.concatenate([getattr(part, name) for part in each]) for name in FIELDS))
