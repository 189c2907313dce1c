"""Prometheus metrics of the service. Every label has a bounded set of values: none comes from a client's text.

One process keeps them in memory, several workers in files that any of them adds up (`serving.metric_files`).
"""

import os
from collections import Counter as Tally
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from serving.metric_files import FOLDER, render

NO_SURFACE = "none"
LATENCY_BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5)
BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class Metrics:
    """All metrics of one process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        counter, histogram = partial(Counter, registry=self.registry), partial(Histogram, registry=self.registry)
        gauge = partial(Gauge, registry=self.registry, multiprocess_mode="livemax")
        self._requests = counter("flightdeck_requests", "Requests for predictions", ["surface", "status"])
        self._access = counter(
            "flightdeck_access_refused",
            "Requests that a key did not allow, by reason and id of the key",
            ["why", "key"],
        )
        self._predictions = counter(
            "flightdeck_predictions",
            "Items answered, by the rung that answered and the arm of the unit",
            ["surface", "mode", "arm"],
        )
        self._failures = counter("flightdeck_ladder_failures", "Items that a rung could not answer", ["rung", "why"])
        self._latency = histogram(
            "flightdeck_request_duration_seconds",
            "Time from the whole body to the answer",
            ["surface"],
            buckets=LATENCY_BUCKETS_S,
        )
        self._batches = histogram("flightdeck_batch_items", "Items computed together", buckets=BATCH_BUCKETS)
        self._busy = counter(
            "flightdeck_compute_seconds", "Time that batches took, by the surface that asked", ["surface"]
        )
        self._ages = gauge("flightdeck_feature_age_seconds", "Oldest age served of each view", ["view"])
        self._staleness = gauge(
            "flightdeck_feature_staleness_seconds", "Time between a request and the watermark of the online store"
        )
        self._loaded = gauge("flightdeck_loaded_release", "1 for each loaded release", ["arm", "version", "digest"])
        self._share = gauge("flightdeck_canary_share", "Share of units that the canary decides for")
        self._refused = counter("flightdeck_refused_bundles", "Bundles refused when opened or re-verified", ["arm"])
        self._unresolved = gauge("flightdeck_refusals_standing", "Live bundles that are refused right now")
        self._logged = counter("flightdeck_prediction_log_written", "Records in the prediction log")
        self._sampled_out = counter("flightdeck_prediction_log_sampled_out", "Records left out by the sampling rate")
        self._dropped = counter("flightdeck_prediction_log_dropped", "Records that the prediction log could not take")
        self._shadow = counter(
            "flightdeck_shadow_items", "Items of shadows, by what became of them", ["version", "fate"]
        )
        self._over_budget = gauge("flightdeck_over_budget", "1 while a surface is over its compute budget", ["surface"])
        self._drill = gauge("flightdeck_drill", "1 while a drill keeps answers below a rung", ["mode"])
        self._breaker = gauge("flightdeck_store_breaker_open", "1 while the online store is not asked")
        self._children: dict[tuple[object, ...], Counter | Histogram | Gauge] = {}
        self._shown: set[tuple[str, str, str]] = set()

    def count_request(self, surface: str, status: int, *, n: int = 1) -> None:
        """Count a request that is not answered, or `n` alike; `surface` is `NO_SURFACE` where no valid one is known."""
        self._child(self._requests, surface, str(status)).inc(n)  # type: ignore[union-attr]

    def count_answered(self, waited_s: Iterable[tuple[str, float]]) -> None:
        """Count the answered requests of a batch by surface, with the time that each has waited."""
        by_surface: dict[str, list[float]] = {}
        for surface, time_s in waited_s:
            by_surface.setdefault(surface, []).append(time_s)
        for surface, times_s in by_surface.items():
            self._child(self._requests, surface, "200").inc(len(times_s))  # type: ignore[union-attr]
            observe = self._child(self._latency, surface).observe  # type: ignore[union-attr]
            for time_s in times_s:
                observe(time_s)

    def count_access_refusal(self, why: str, key_id: str) -> None:
        """Count a request that was not let in: for its `key` (id empty), `role`, `surface` or `rate`."""
        self._child(self._access, why, key_id).inc()  # type: ignore[union-attr]

    def count_predictions(self, answers: Iterable[tuple[str, str, str]], failures: Iterable[tuple[str, ...]]) -> None:
        """Count the items of a batch by (surface, mode, arm), and each rung's failures as `rung:why`."""
        for labels, n in Tally(answers).items():
            self._child(self._predictions, *labels).inc(n)  # type: ignore[union-attr]
        found = [failure for item in failures for failure in item]
        for failure, n in Tally(found).items() if found else ():
            rung, _, why = failure.partition(":")
            self._child(self._failures, rung, why).inc(n)  # type: ignore[union-attr]

    def observe_batch(self, n_items: int, seconds_by_surface: Mapping[str, float]) -> None:
        """Count one batch and the time that each surface had of it."""
        self._batches.observe(n_items)
        for surface, seconds in seconds_by_surface.items():
            self._child(self._busy, surface).inc(seconds)  # type: ignore[union-attr]

    def observe_features(self, staleness_s: float, ages_s: Mapping[str, float]) -> None:
        """Show how far the store was behind, and each view's oldest age (NaN: nothing seen)."""
        self._staleness.set(staleness_s)
        for view, age_s in ages_s.items():
            self._child(self._ages, view).set(age_s)  # type: ignore[union-attr]

    def count_log(self, n_written: int, n_sampled_out: int, n_dropped: int) -> None:
        """Count records that reached the prediction log, that its rate left out, and that it could not take."""
        self._logged.inc(n_written)
        if n_sampled_out:
            self._sampled_out.inc(n_sampled_out)
        if n_dropped:
            self._dropped.inc(n_dropped)

    def count_shadow(self, version: int, fate: str, n_items: int) -> None:
        """Count items of a shadow: scored, dropped or failed."""
        self._child(self._shadow, str(version), fate).inc(n_items)  # type: ignore[union-attr]

    def count_refusal(self, arm: str) -> None:
        """Count a bundle that was refused."""
        self._refused.labels(arm).inc()

    def show_releases(self, loaded: Sequence[tuple[str, int, str]], canary_share: float, n_refusals: int) -> None:
        """Show what is loaded: (arm, version, digest) each; what was and is no more becomes 0."""
        now = {(arm, str(version), digest[:16]) for arm, version, digest in loaded}
        for labels in self._shown - now:
            self._child(self._loaded, *labels).set(0)  # type: ignore[union-attr]
        for labels in now:
            self._child(self._loaded, *labels).set(1)  # type: ignore[union-attr]
        self._shown |= now
        self._share.set(canary_share)
        self._unresolved.set(n_refusals)

    def show_limits(self, *, over_budget: Mapping[str, bool], drill: str, is_breaker_open: bool) -> None:
        """Show which surfaces are over budget, which drill runs (empty: none), and whether the store is left alone."""
        for surface, is_over in over_budget.items():
            self._child(self._over_budget, surface).set(is_over)  # type: ignore[union-attr]
        for mode in ("fallback", "rules", "refused"):
            self._child(self._drill, mode).set(mode == drill)  # type: ignore[union-attr]
        self._breaker.set(is_breaker_open)

    def render(self) -> bytes:
        """Return everything in the Prometheus text format, of all workers where there are several."""
        folder = os.environ.get(FOLDER)
        return generate_latest(self.registry) if folder is None else render(Path(folder))

    def _child(self, metric: Counter | Histogram | Gauge, *labels: str) -> Counter | Histogram | Gauge:
        """Return the child for some labels; `labels()` takes longer than counting."""
        key = (metric, *labels)
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = metric.labels(*labels)
        return child
