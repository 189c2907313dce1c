"""Prometheus metrics of the service. Every label has a bounded set of values: none comes from a client's text."""

from collections import Counter as Tally
from collections.abc import Mapping, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

NO_SURFACE = "none"
LATENCY_BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5)


class Metrics:
    """All metrics of one process, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "flightdeck_requests", "Requests to /v1/predictions", ["surface", "status"], registry=self.registry
        )
        self._predictions = Counter(
            "flightdeck_predictions",
            "Items answered, by the rung that answered and the arm of the unit",
            ["surface", "mode", "arm"],
            registry=self.registry,
        )
        self._failures = Counter(
            "flightdeck_ladder_failures", "Items that a rung could not answer", ["rung", "why"], registry=self.registry
        )
        self._latency = Histogram(
            "flightdeck_request_duration_seconds",
            "Time from the whole body to the answer",
            ["surface"],
            buckets=LATENCY_BUCKETS_S,
            registry=self.registry,
        )
        self._ages = Gauge(
            "flightdeck_feature_age_seconds", "Oldest age served of each view", ["view"], registry=self.registry
        )
        self._age_of: dict[str, Gauge] = {}
        self._staleness = Gauge(
            "flightdeck_feature_staleness_seconds",
            "Time between a request and the watermark of the online store",
            registry=self.registry,
        )
        self._loaded = Gauge(
            "flightdeck_loaded_release",
            "1 for each loaded release",
            ["arm", "version", "digest"],
            registry=self.registry,
        )
        self._share = Gauge(
            "flightdeck_canary_share", "Share of units that the canary decides for", registry=self.registry
        )
        self._refused = Counter(
            "flightdeck_refused_bundles", "Bundles refused when opened or re-verified", ["arm"], registry=self.registry
        )
        self._unresolved = Gauge(
            "flightdeck_refusals_standing", "Live bundles that are refused right now", registry=self.registry
        )
        self._dropped = Counter(
            "flightdeck_prediction_log_dropped",
            "Records that the prediction log could not take",
            registry=self.registry,
        )
        self._logged = Counter(
            "flightdeck_prediction_log_written", "Records in the prediction log", registry=self.registry
        )

    def count_request(self, surface: str, status: int, duration_s: float | None = None) -> None:
        """Count a request; `surface` is `NO_SURFACE` where the body named no valid one."""
        self._requests.labels(surface, str(status)).inc()
        if duration_s is not None:
            self._latency.labels(surface).observe(duration_s)

    def count_predictions(
        self, surface: str, arm: str, modes: Sequence[str], failures: Sequence[tuple[str, ...]]
    ) -> None:
        """Count the items of a request by mode, and each rung's failures."""
        for mode, n in Tally(modes).items():
            self._predictions.labels(surface, mode, arm).inc(n)
        for failure, n in Tally(failure for item in failures for failure in item).items():
            rung, _, why = failure.partition(":")
            self._failures.labels(rung, why).inc(n)

    def observe_features(self, staleness_s: float, ages_s: Mapping[str, float]) -> None:
        """Show how far the store was behind, and each view's oldest age (NaN: nothing seen)."""
        self._staleness.set(staleness_s)
        for view, age_s in ages_s.items():
            gauge = self._age_of.get(view) or self._age_of.setdefault(view, self._ages.labels(view))
            gauge.set(age_s)

    def count_log(self, n_written: int, n_dropped: int) -> None:
        """Count records that reached the prediction log, and those that did not."""
        self._logged.inc(n_written)
        self._dropped.inc(n_dropped)

    def count_refusal(self, arm: str) -> None:
        """Count a bundle that was refused."""
        self._refused.labels(arm).inc()

    def show_releases(self, loaded: Sequence[tuple[str, int, str]], canary_share: float, n_refusals: int) -> None:
        """Show what is loaded: (arm, version, digest) each."""
        self._loaded.clear()
        for arm, version, digest in loaded:
            self._loaded.labels(arm, str(version), digest[:16]).set(1)
        self._share.set(canary_share)
        self._unresolved.set(n_refusals)

    def render(self) -> bytes:
        """Return everything in the Prometheus text format."""
        return generate_latest(self.registry)
