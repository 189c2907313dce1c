"""A collector of traces: takes OTLP over HTTP on a free port and keeps the decoded spans."""

import contextlib
import gzip
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

PATH = "/v1/traces"
PATIENCE_S = 30.0


@dataclass
class Span:
    """A span as it was sent; ids in hexadecimal, empty for no parent."""

    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    began_ns: int
    ended_ns: int
    is_error: bool
    facts: dict[str, Any]
    service: str


@dataclass
class Collector:
    """What was sent."""

    endpoint: str
    spans: list[Span] = field(default_factory=list)

    def wait_for_roots(self, n: int) -> list[Span]:
        """Wait until `n` requests have arrived whole: a root is sent after its steps; return them in order."""
        deadline = time.monotonic() + PATIENCE_S
        while len(self.roots()) < n:
            if time.monotonic() > deadline:
                raise AssertionError(f"waited for {n} requests, got {self.spans}")
            time.sleep(0.02)
        return self.roots()

    def roots(self) -> list[Span]:
        """Return the spans of requests."""
        return [span for span in self.spans if span.name == "predict"]

    def steps(self, root: Span) -> dict[str, Span]:
        """Return the steps of a request by name, in the order of their beginning."""
        found = [span for span in self.spans if span.parent_id == root.span_id]
        return {span.name: span for span in sorted(found, key=lambda span: span.began_ns)}


@contextlib.contextmanager
def collecting() -> Iterator[Collector]:
    """Collect until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            if self.path != PATH or self.headers["Content-Type"] != "application/x-protobuf":
                self.send_error(404)
                return
            collector.spans.extend(_spans(ExportTraceServiceRequest.FromString(body)))
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector = Collector(f"http://127.0.0.1:{server.server_port}{PATH}")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _spans(request: Any) -> Iterator[Span]:
    for of_service in request.resource_spans:
        service = _facts(of_service.resource.attributes)["service.name"]
        for scope in of_service.scope_spans:
            for span in scope.spans:
                yield Span(
                    span.name,
                    span.kind,
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    span.start_time_unix_nano,
                    span.end_time_unix_nano,
                    span.status.code == 2,
                    _facts(span.attributes),
                    service,
                )


def _facts(attributes: Any) -> dict[str, Any]:
    return {attribute.key: _value(attribute.value) for attribute in attributes}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    return [_value(each) for each in value.array_value.values] if kind == "array_value" else getattr(value, kind)
