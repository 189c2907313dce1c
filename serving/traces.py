"""Which requests are traced, and the way of their spans to a collector: the one door of OpenTelemetry.

Off unless `conf/*/traces.yml` or `FLIGHTDECK_TRACES` names an endpoint; then nothing of it is imported. A client's W3C
`traceparent` is continued: its spans and ours are one trace, and its sampled flag decides. Spans wait in a bounded
queue for a thread that sends them; when the collector is slow or gone they are dropped, and no answer is later for it.
"""

import random
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic_ns
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from flightdeck.core.clock import Clock, to_us
from flightdeck.core.config import read_settings
from flightdeck.core.errors import ConfigError
from flightdeck.core.layout import PROJECT
from serving.trace import Fact, Trace
from serving.work import Question

PACKAGE = "opentelemetry-exporter-otlp-proto-http"
ENDPOINT = "FLIGHTDECK_TRACES"
SEND_S = 2.0
CLOSE_S = 2.0
DELAY_MS = 1_000
PARENT, STATE = b"traceparent", b"tracestate"


class TraceSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What conf/base/traces.yml says."""

    endpoint: Annotated[str, Meta(pattern="^https?://[^/]")] | None = None
    share: Annotated[float, Meta(ge=0, le=1)] = 0.01


def read_traces(environment: Mapping[str, str], *, conf: Path = PROJECT / "conf") -> TraceSettings:
    """Return the settings of an environment; `FLIGHTDECK_TRACES` names the endpoint before the file does.

    Raises
    ------
    ConfigError
        If the settings break their rule.
    """
    variables = {"endpoint": ENDPOINT}
    return read_settings("traces.yml", TraceSettings, variables=variables, conf=conf, environment=environment)


class Traces:
    """Sampled requests as spans, on their way to a collector.

    Parameters
    ----------
    settings
        With an endpoint.
    clock
        Time of the spans.
    draw
        Gives numbers from 0 to 1 for the choice of who is traced.

    Raises
    ------
    ConfigError
        If the package that sends them is not installed.
    """

    def __init__(self, settings: TraceSettings, clock: Clock, draw: Callable[[], float] = random.random) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        except ImportError as error:
            raise ConfigError(
                f"sending traces to {settings.endpoint}: {PACKAGE} is not installed",
                next_step="install it: pip install 'flightdeck[traces]', or leave out endpoint in conf/*/traces.yml",
            ) from error
        from opentelemetry.context import Context
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ALWAYS_ON
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._share, self._clock, self._draw = settings.share, clock, draw
        self._nothing = Context()
        self._propagator = TraceContextTextMapPropagator()
        resource = Resource.create({"service.name": "flightdeck"})
        self._provider = TracerProvider(ALWAYS_ON, resource, shutdown_on_exit=False)  # who is traced is decided here
        exporter = OTLPSpanExporter(endpoint=settings.endpoint, timeout=SEND_S)
        self._provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=DELAY_MS))
        self._tracer = self._provider.get_tracer("flightdeck.serving")

    def begin(self, question: Question, headers: Mapping[bytes, bytes]) -> Trace | None:
        """Return the trace of a request; None if it is not traced."""
        parent, is_sampled = self._parent(headers) if PARENT in headers else (self._nothing, None)
        if not (self._draw() < self._share if is_sampled is None else is_sampled):
            return None
        facts: dict[str, Fact] = {
            "flightdeck.request_id": question.request_id,
            "flightdeck.surface": question.ask.surface,
            "flightdeck.items": len(question.ask.flights),
        }
        return Trace(parent, int(question.arrived_s * 1e9), facts)

    def _parent(self, headers: Mapping[bytes, bytes]) -> tuple[Any, bool | None]:
        """Return the context of the client's span, and whether it is sampled; None where it is no valid one."""
        from opentelemetry.trace import get_current_span

        carried = {name.decode(): headers.get(name, b"").decode("latin-1") for name in (PARENT, STATE)}
        parent = self._propagator.extract(carried, self._nothing)
        client = get_current_span(parent).get_span_context()
        return parent, client.trace_flags.sampled if client.is_valid else None

    def end(self, trace: Trace, ended_ns: int, status: int) -> None:
        """Hand the spans of a request that was answered with `status` to the thread that sends them."""
        from opentelemetry.trace import SpanKind, StatusCode, set_span_in_context

        begin_ns = to_us(self._clock.now()) * 1000 - monotonic_ns()
        facts = {**trace.facts, "http.response.status_code": status}
        began_ns = begin_ns + trace.began_ns
        root = self._tracer.start_span("predict", trace.parent, SpanKind.SERVER, facts, start_time=began_ns)
        if status >= 500:
            root.set_status(StatusCode.ERROR)
        inside = set_span_in_context(root, trace.parent)
        for step in trace.steps(ended_ns):
            began_ns = begin_ns + step.began_ns
            span = self._tracer.start_span(step.name, inside, attributes=step.facts, start_time=began_ns)
            span.end(begin_ns + step.ended_ns)
        root.end(begin_ns + ended_ns)

    def close(self) -> None:
        """Send what waits, for as long as the end of a process may take."""
        sender = threading.Thread(target=self._provider.shutdown, name="last-traces", daemon=True)
        sender.start()
        sender.join(CLOSE_S)
