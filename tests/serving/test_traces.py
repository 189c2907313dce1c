"""Traces as a collector gets them from a running service: whose they are, what is in them, and that nobody waits."""

import json
import signal
import sys
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest

from flightdeck.core.clock import SystemClock
from flightdeck.core.errors import ConfigError
from flightdeck.inference.drill import Drill, write_drill
from flightdeck.inference.modes import Mode
from serving.traces import ENDPOINT, Traces, TraceSettings, read_traces
from tests.serving.collector import Collector, Span, collecting
from tests.serving.process import JSON_HEADERS, Service, free_port, serving
from tests.serving.worker import question
from tests.serving.world import World, ask

TRACE_ID, CLIENT_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED, NOT_SAMPLED = (f"00-{TRACE_ID}-{CLIENT_ID}-{flags}" for flags in ("01", "00"))
STEPS = ["admit", "wait", "read features", "plan champion", "answer"]


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as found:
        yield found


@pytest.fixture(scope="module")
def traced(live_world: World, collector: Collector) -> Iterator[Service]:
    """A service with a champion and a fed store that sends traces."""
    with serving(live_world.layout.root, variables={ENDPOINT: collector.endpoint}) as service:
        yield service


def asked(service: Service, collector: Collector, status: int = 200, **request: object) -> Span:
    """Ask with a sampled parent; return the span of the request."""
    n = len(collector.roots())
    reply = service.predict(ask(**request), {**JSON_HEADERS, "traceparent": SAMPLED})  # type: ignore[arg-type]
    assert reply.status == status, reply.content
    return collector.wait_for_roots(n + 1)[-1]


def test_a_clients_trace_goes_on_with_every_step_of_its_request(traced: Service, collector: Collector) -> None:
    before_ns = time.time_ns()
    root = asked(traced, collector, n_flights=3, surface="itinerary")
    after_ns = time.time_ns()
    assert (root.trace_id, root.parent_id, root.kind, root.service) == (TRACE_ID, CLIENT_ID, 2, "flightdeck")
    assert before_ns - 1_000_000 <= root.began_ns < root.ended_ns <= after_ns + 1_000_000
    facts = root.facts
    assert facts["flightdeck.surface"] == "itinerary"
    assert facts["flightdeck.items"] == 3
    assert facts["flightdeck.mode"] == "model"
    assert facts["flightdeck.model_version"] == [1]
    assert facts["flightdeck.arm"] == ["champion"]
    assert facts["http.response.status_code"] == 200
    steps = collector.steps(root)
    assert list(steps) == STEPS
    assert {step.trace_id for step in steps.values()} == {TRACE_ID}
    assert steps["plan champion"].facts["flightdeck.model_version"] == 1
    assert steps["plan champion"].facts["flightdeck.batch_items"] == 3
    edges = [edge for step in steps.values() for edge in (step.began_ns, step.ended_ns)]
    assert edges == sorted(edges), "one step after the other"
    assert root.began_ns <= edges[0]
    assert edges[-1] <= root.ended_ns


def test_a_client_that_does_not_sample_is_not_traced(traced: Service, collector: Collector) -> None:
    n = len(collector.roots())
    for _ in range(5):
        assert traced.predict(ask(unit_id="unseen"), {**JSON_HEADERS, "traceparent": NOT_SAMPLED}).status == 200
    asked(traced, collector, surface="alerts")
    assert len(collector.roots()) == n + 1


def test_a_declared_route_is_traced_too(traced: Service, collector: Collector) -> None:
    n = len(collector.roots())
    body = json.dumps(ask()).encode()
    headers = {"Content-Type": "application/json;charset=UTF-8", "traceparent": SAMPLED}
    assert traced.send("POST", "/v1/predictions", body, headers).status == 200
    assert list(collector.steps(collector.wait_for_roots(n + 1)[-1])) == STEPS


def test_a_lower_rung_says_why_and_what_was_tried(world: World, collector: Collector) -> None:
    world.release(world.seal())  # and no store
    with serving(world.layout.root, variables={ENDPOINT: collector.endpoint}) as service:
        root = asked(service, collector)
    assert root.facts["flightdeck.mode"] == "fallback"
    assert root.facts["flightdeck.reason"] == ["champion:store_unavailable"]
    steps = collector.steps(root)
    assert list(steps) == ["admit", "wait", "read features", "plan fallback", "answer"]
    assert steps["read features"].facts["flightdeck.unusable"] == ["store_unavailable"]


def test_a_refused_request_is_an_error_that_names_its_code(world: World, collector: Collector) -> None:
    world.release(world.seal())
    until = SystemClock().now() + timedelta(minutes=5)
    write_drill(world.layout.drill, Drill(Mode.REFUSED, until))
    with serving(world.layout.root, variables={ENDPOINT: collector.endpoint}) as service:
        root = asked(service, collector, 503)
    assert root.is_error
    assert root.facts["flightdeck.refused"] == "drill"
    assert root.facts["http.response.status_code"] == 503
    assert list(collector.steps(root)) == ["admit"]


def test_a_collector_that_is_gone_costs_no_answer_and_no_end(live_world: World) -> None:
    nobody = f"http://127.0.0.1:{free_port()}/v1/traces"
    with serving(live_world.layout.root, variables={ENDPOINT: nobody}) as service:
        for _ in range(50):
            assert service.predict(ask(), {**JSON_HEADERS, "traceparent": SAMPLED}).status == 200
        service.stop()
        assert "Application shutdown complete" in service.log.read_text("utf-8")


def test_without_an_endpoint_nothing_of_it_is_imported(world: World) -> None:
    world.feed_store()
    world.release(world.seal())
    with serving(world.layout.root, module="tests.serving.list_modules") as service:
        assert service.predict(ask(), {**JSON_HEADERS, "traceparent": SAMPLED}).status == 200
        service.stop(signal.SIGINT)
    modules = json.loads((world.layout.root / "modules.json").read_text("utf-8"))
    assert [name for name in modules if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter"))] == []


def test_a_share_of_those_without_a_parent_is_traced(collector: Collector) -> None:
    draws = iter([0.05, 0.1, 0.5, 0.09])
    traces = Traces(TraceSettings(collector.endpoint, 0.1), SystemClock(), lambda: next(draws))
    try:
        found = [
            traces.begin(question(ask()), headers) is not None for headers in ({}, {}, {b"traceparent": b"no"}, {})
        ]
    finally:
        traces.close()
    assert found == [True, False, False, True]


def test_what_sends_them_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(ConfigError, match="opentelemetry-exporter-otlp-proto-http is not installed") as refused:
        Traces(TraceSettings("http://127.0.0.1:4318/v1/traces"), SystemClock())
    assert "pip install 'flightdeck[traces]'" in (refused.value.next_step or "")


@pytest.mark.parametrize("endpoint", ["localhost:4318", "grpc://localhost:4317", "http:///v1/traces"])
def test_an_endpoint_that_is_none_is_refused(endpoint: str) -> None:
    with pytest.raises(ConfigError, match=f"and {ENDPOINT}"):
        read_traces({ENDPOINT: endpoint})


def test_traces_are_off_as_shipped() -> None:
    assert read_traces({}).endpoint is None
