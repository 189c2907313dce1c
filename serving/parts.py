"""What one worker consists of, put together once."""

from dataclasses import dataclass
from time import monotonic

from flightdeck.core.clock import Clock, SystemClock
from flightdeck.inference.prediction_log import PredictionLogWriter
from flightdeck.inference.scheduler import Scheduler
from flightdeck.inference.surface_policy import read_admission, read_surface_policies
from flightdeck.release.ledger_config import released_ledger
from serving.access import Access
from serving.batcher import Batcher
from serving.feature_source import FeatureSource
from serving.limits import Limits
from serving.metrics import Metrics
from serving.release_watch import ReleaseWatch
from serving.service import PredictionService
from serving.settings import ServingSettings
from serving.shadow import Shadow
from serving.spent import SpentFile
from serving.traced_batcher import TracedBatcher
from serving.traces import Traces
from serving.use_case import running_code

SLOW_READ_S = 0.025  # a store read that takes longer counts as a failure: the breaker opens after three


@dataclass(frozen=True)
class Parts:
    """What the routes of one worker share."""

    access: Access
    watch: ReleaseWatch
    features: FeatureSource
    log: PredictionLogWriter
    shadow_log: PredictionLogWriter
    metrics: Metrics
    limits: Limits
    service: PredictionService
    scheduler: Scheduler
    shadow: Shadow
    batcher: Batcher
    traces: Traces | None

    def close(self) -> None:
        """Flush and release everything; what was spent of the budgets is kept."""
        self.limits.close()
        self.log.close()
        self.shadow.close()
        self.shadow_log.close()
        self.features.close()
        if self.traces is not None:
            self.traces.close()


def build_parts(settings: ServingSettings, clock: Clock | None = None) -> Parts:
    """Return the parts of one worker.

    Raises
    ------
    ConfigError
        If surfaces.yml or admission.yml is wrong, all that is wrong is named; or the file of the API keys is; or traces
        are asked for and what sends them is not installed.
    OSError
        If the data root cannot be written.
    """
    clock, metrics, folders = clock or SystemClock(), Metrics(), settings.layout
    access = Access(folders.api_keys, clock, metrics, is_required=settings.requires_keys, n_workers=settings.n_workers)
    policies, admission = read_surface_policies(), read_admission()
    watch = ReleaseWatch(
        released_ledger(folders, clock),
        folders.bundles,
        running_code(),
        lambda refusal: metrics.count_refusal(refusal.arm),
        folders.orders,
    )
    features = FeatureSource(settings.online_store, SLOW_READ_S, monotonic)
    rates = {name: policy.log_rate for name, policy in policies.items()}
    log = PredictionLogWriter(folders.prediction_log, clock, sampling_rates=rates)
    shadow_log = PredictionLogWriter(folders.shadow_log, clock, sampling_rates=rates)
    limits = Limits(
        policies,
        admission,
        drill=folders.drill,
        spent=SpentFile(folders.serving_state, settings.n_workers),
        clock=clock,
        n_workers=settings.n_workers,
    )
    service = PredictionService(lambda: watch.live, features, log, metrics, clock, is_event_time=settings.is_event_time)
    scheduler = Scheduler(policies, admission)
    traces = Traces(settings.traces, clock) if settings.traces.endpoint else None
    shadow = Shadow(shadow_log, metrics, clock)
    path = (service, scheduler, limits, shadow, metrics)
    batcher = Batcher(*path) if traces is None else TracedBatcher(*path, traces=traces)
    return Parts(access, watch, features, log, shadow_log, metrics, limits, service, scheduler, shadow, batcher, traces)
