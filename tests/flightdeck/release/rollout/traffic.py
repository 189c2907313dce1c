"""Traffic of a champion and whatever is beside it, written into real logs as the service writes them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from flightdeck.core.clock import VirtualClock, to_us
from flightdeck.inference.prediction_log import PredictionLogWriter
from flightdeck.inference.routing import route
from flightdeck.release.ledger import Ledger
from flightdeck.release.routing import routing_table
from flightdeck.release.state import fold
from tests.predictions import log_batch

Behaviour = Callable[[np.random.Generator], Mapping[str, Any]]
FIXED = 9
ORIGINS = np.array(["EWR", "JFK", "LGA"], dtype=object)


def healthy(rng: np.random.Generator) -> Mapping[str, Any]:
    """Return what a version answers that does well."""
    return {"probability": float(rng.beta(2, 6)), "model_ms": float(rng.lognormal(np.log(0.3), 0.3))}


def _timed(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the records with what each run took: a part of its own, as much as that of nine items, and its items."""
    runs: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for record in records:
        runs.setdefault((record["arm"], record["model_version"], record.get("mode")), []).append(record)
    for run in runs.values():
        took_ms = run[0]["model_ms"] * (FIXED + len(run)) / (FIXED + 1)
        for record in run:
            record["model_ms"] = took_ms
    return list(records)


@dataclass
class Traffic:
    """Requests of many units, one item each, that the ledger's routing table assigns.

    Parameters
    ----------
    ledger, clock
        Who decides, and the time that passes with each batch.
    predictions, shadows
        Folders of the two logs.
    """

    ledger: Ledger
    clock: VirtualClock
    predictions: Path
    shadows: Path
    seed: int = 0
    behaviours: dict[int, Behaviour] = field(default_factory=dict)
    n_sent: int = 0

    def __post_init__(self) -> None:
        """Open the logs."""
        self._rng = np.random.default_rng(self.seed)
        self._log = PredictionLogWriter(self.predictions, self.clock)
        self._shadow_log = PredictionLogWriter(self.shadows, self.clock)

    def send(self, n_requests: int, *, n_batch: int = 20, every_s: float = 1.0) -> None:
        """Answer `n_requests` of new units, in batches of `n_batch` that are `every_s` seconds apart."""
        table = routing_table(fold(self.ledger.records()))
        for _ in range(0, n_requests, n_batch):
            self.clock.advance_to(self.clock.now() + timedelta(seconds=every_s))
            at_us = to_us(self.clock.now())
            units = [f"unit-{self.n_sent + place}" for place in range(n_batch)]
            origins = self._rng.choice(ORIGINS, n_batch)
            chosen = route(table, units, {"origin": origins})
            found = [chosen.routes[place] for place in chosen.choice.tolist()]
            flights = [{"origin": origin} for origin in origins]
            common = [
                {
                    "request_id": f"q{self.n_sent + n}",
                    "unit_id": unit,
                    "flight_id": f"f{self.n_sent + n}",
                    "logged_at_us": at_us,
                    "request_us": at_us,
                    "flight": flights[n],
                }
                for n, unit in enumerate(units)
            ]
            answers = [
                {
                    **one,
                    "arm": "/".join(filter(None, (way.segment, way.arm))),
                    "model_version": way.version,
                    **self._of(way.version, way.fallback_version),
                }
                for one, way in zip(common, found, strict=True)
            ]
            self._log.append(log_batch(_timed(answers)))
            for version, rows in chosen.shadows:
                scores = [
                    {**common[row], "arm": "shadow", "mode": "shadow", "model_version": version, **self._of(version)}
                    for row in rows.tolist()
                ]
                self._shadow_log.append(log_batch(_timed(scores)))
            self.n_sent += n_batch

    def log_pair(self, record: dict[str, Any], *, answered_by: int, scored_by: int) -> None:
        """Log one item that one version answered and another scored as a shadow."""
        self._log.append(log_batch([{**record, "model_version": answered_by}]))
        self._shadow_log.append(log_batch([{**record, "mode": "shadow", "arm": "shadow", "model_version": scored_by}]))

    def _of(self, version: int | None, fallback: int | None = None) -> Mapping[str, Any]:
        found = dict(self.behaviours.get(version or 0, healthy)(self._rng))
        if found.pop("fails", False):
            return {**healthy(self._rng), "reason": "canary:raised", "model_version": fallback}
        return found
