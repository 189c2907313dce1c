"""Counting what a replay sent and what came back."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

PERCENTILES = (50, 95, 99)


@dataclass
class ReplayStatistics:
    """Counters of one replay.

    Parameters
    ----------
    by_mode, by_surface
        Predictions answered by mode; requests answered by surface.
    latencies_ms
        Wall time of each answered request, from sending it (again) to its last byte.
    n_items
        Predictions answered.
    n_failed
        Requests without an answer.
    n_retries
        Requests sent again after the connection was lost.
    n_events
        Events applied to the online store.
    first_failure
        What the first failed request met.
    """

    by_mode: Counter[str] = field(default_factory=Counter)
    by_surface: Counter[str] = field(default_factory=Counter)
    latencies_ms: list[float] = field(default_factory=list)
    n_items: int = 0
    n_failed: int = 0
    n_retries: int = 0
    n_events: int = 0
    first_failure: str = ""

    @property
    def n_requests(self) -> int:
        """Requests answered or failed."""
        return len(self.latencies_ms) + self.n_failed

    def answered(self, surface: str, modes: Iterable[str], latency_ms: float) -> None:
        """Count an answered request with the mode of each of its predictions."""
        for mode in modes:
            self.by_mode[mode] += 1
            self.n_items += 1
        self.by_surface[surface] += 1
        self.latencies_ms.append(latency_ms)

    def failed(self, reason: str) -> None:
        """Count a request that was not answered."""
        self.n_failed += 1
        self.first_failure = self.first_failure or reason

    def as_json(self) -> dict[str, object]:
        """Return the counters with the latency percentiles in milliseconds (None where nothing was answered)."""
        return {
            "n_events": self.n_events,
            "n_requests": self.n_requests,
            "n_items": self.n_items,
            "n_failed": self.n_failed,
            "n_retries": self.n_retries,
            "first_failure": self.first_failure,
            "by_mode": _sorted(self.by_mode),
            "by_surface": _sorted(self.by_surface),
            **{f"p{percent}_ms": self._percentile(percent) for percent in PERCENTILES},
        }

    def _percentile(self, percent: int) -> float | None:
        return round(float(np.percentile(self.latencies_ms, percent)), 2) if self.latencies_ms else None


def _sorted(counts: Mapping[str, int]) -> dict[str, int]:
    return {name: counts[name] for name in sorted(counts)}
