"""What a running materializer says about itself: Prometheus metrics on loopback and a JSON file."""

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from flightdeck.core.clock import from_us
from flightdeck.core.files import write_json
from flightdeck.features.stores import Mark
from flightdeck.features.streaming import Lag
from flightdeck.features.view import FeatureView

Role = Literal["standby", "feeding", "stopped"]
OF_A_VIEW = {
    "watermark_seconds": "Watermark (Unix time)",
    "view_age_seconds": "Present less watermark",
    "view_lag_seconds": "Source's newest moment less the view's watermark",
    "view_fresh": "1 while the age keeps the view's freshness promise",
}
BATCH_S = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)


@dataclass
class Totals:
    """What this process has done since it started.

    Parameters
    ----------
    n_batches
        Transactions that were committed.
    n_applied
        Events in them, late ones included.
    n_late
        Events that came after the store had passed their time of knowledge.
    n_dead
        Events that broke their contract, or whose stream nobody has declared.
    n_duplicates
        Events whose id was in the same batch already.
    n_ignored
        Events of streams that no view reads.
    n_retries
        Times that store or source were away.
    """

    n_batches: int = 0
    n_applied: int = 0
    n_late: int = 0
    n_dead: int = 0
    n_duplicates: int = 0
    n_ignored: int = 0
    n_retries: int = 0


class FeedStatus:
    """Metrics and status file of one materializer.

    Parameters
    ----------
    path
        Status file; None writes none.
    port
        Loopback port of the metrics, 0 for a free one; None serves none.
    """

    def __init__(self, path: Path | None = None, port: int | None = None) -> None:
        self.registry = CollectorRegistry()
        self.totals = Totals()
        self.role: Role = "standby"
        self._path = path
        self._batch_s = 0.0
        self._error = ""
        self._shown: set[tuple[str, str]] = set()
        events = Counter("flightdeck_feed_events", "Events by outcome", ["outcome"], registry=self.registry)
        self._events = {name: events.labels(name) for name in ("applied", "late", "dead", "duplicate", "ignored")}
        self._seconds = Histogram(
            "flightdeck_feed_batch_seconds", "Time of one batch", buckets=BATCH_S, registry=self.registry
        )
        self._retries = Counter(
            "flightdeck_feed_retries", "Times that store or source were away", registry=self.registry
        )
        self._available = Gauge("flightdeck_feed_available", "1 while store and source answer", registry=self.registry)
        self._feeding = Gauge("flightdeck_feed_feeding", "1 while this process feeds", registry=self.registry)
        self._backlog = Gauge("flightdeck_feed_backlog_events", "Events that wait", registry=self.registry)
        self._lag = Gauge(
            "flightdeck_feed_lag_seconds", "Source's newest moment less watermark", registry=self.registry
        )
        self._of_views = {
            name: Gauge(f"flightdeck_feed_{name}", told, ["view", "version"], registry=self.registry)
            for name, told in OF_A_VIEW.items()
        }
        self.port: int | None = None
        if port is not None:
            server, _ = start_http_server(port, addr="127.0.0.1", registry=self.registry)
            self.port = int(server.server_port)

    def applied(
        self, n_applied: int, n_late: int, n_dead: int, n_duplicates: int, n_ignored: int, seconds: float
    ) -> None:
        """Count a committed batch."""
        totals = self.totals
        totals.n_batches += 1
        totals.n_applied += n_applied
        totals.n_late += n_late
        totals.n_dead += n_dead
        totals.n_duplicates += n_duplicates
        totals.n_ignored += n_ignored
        for name, number in zip(
            ("applied", "late", "dead", "duplicate", "ignored"),
            (n_applied, n_late, n_dead, n_duplicates, n_ignored),
            strict=True,
        ):
            self._events[name].inc(number)
        self._seconds.observe(seconds)
        self._batch_s = seconds
        self._error = ""
        self._available.set(1)

    def away(self, error: Exception) -> None:
        """Count that store or source did not answer."""
        self.totals.n_retries += 1
        self._retries.inc()
        self._available.set(0)
        self._error = str(error)

    def back(self) -> None:
        """Say that store and source answer."""
        self._available.set(1)
        self._error = ""

    def report(self, role: Role, now_us: int, marks: Sequence[tuple[FeatureView, Mark]], lag: Lag | None) -> None:
        """Set the gauges and write the status file.

        Parameters
        ----------
        role
            What this process does.
        now_us
            The present, UTC microseconds.
        marks
            Each view with what its states reflect.
        lag
            As the source says; None where it is not known.
        """
        self.role = role
        self._feeding.set(role == "feeding")
        views = {}
        lowest_us = min((mark.watermark_us for _, mark in marks), default=0)
        for view, mark in marks:
            age_s = max(0.0, (now_us - mark.watermark_us) / 1e6)
            lag_s = max(0.0, lag.seconds - (mark.watermark_us - lowest_us) / 1e6) if lag else None
            is_fresh = age_s <= view.freshness_slo_s
            views[f"{view.name}@{view.version}"] = {
                "watermark": from_us(mark.watermark_us).isoformat(),
                "offset": mark.offset,
                "age_s": age_s,
                "lag_s": lag_s,
                "freshness_slo_s": view.freshness_slo_s,
                "is_fresh": is_fresh,
            }
            self._set(view, (mark.watermark_us / 1e6, age_s, lag_s, float(is_fresh)))
        self._forget_all_but({(view.name, view.version) for view, _ in marks})
        if lag:
            self._backlog.set(lag.n_events)
            self._lag.set(lag.seconds)
        if self._path is None:
            return
        status = {
            "at": from_us(now_us).isoformat(),
            "pid": os.getpid(),
            "role": role,
            "is_available": not self._error,
            "last_error": self._error or None,
            "backlog_events": lag.n_events if lag else None,
            "lag_s": lag.seconds if lag else None,
            "last_batch_s": self._batch_s,
            **asdict(self.totals),
            "views": views,
        }
        write_json(self._path, status)

    def _set(self, view: FeatureView, values: Sequence[float | None]) -> None:
        """Set the gauges of a view, in the order of `OF_A_VIEW`; None leaves one as it is."""
        self._shown.add((view.name, view.version))
        for gauge, value in zip(self._of_views.values(), values, strict=True):
            if value is not None:
                gauge.labels(view.name, view.version).set(value)

    def _forget_all_but(self, there: set[tuple[str, str]]) -> None:
        """Show no gauge of a retired version: it would stand still for ever. A store that is away changes nothing."""
        for labels in self._shown - there if there else ():
            for gauge in self._of_views.values():
                with suppress(KeyError):
                    gauge.remove(*labels)
            self._shown.discard(labels)
