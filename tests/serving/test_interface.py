"""The OpenAPI document held against the service: what it does not say is not done, what it says is true."""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    allow_header_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from tests.serving.process import serving
from tests.serving.world import World

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    unsupported_method,
    allow_header_conformance,
]
N_EXAMPLES = 40


LIMITS = settings(
    max_examples=N_EXAMPLES,
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def hold(operation: Any, mode: GenerationMode) -> None:
    """Call an operation with what the document allows, or with what it does not, and hold the answers against it."""

    @LIMITS
    @given(case=operation.as_strategy(generation_mode=mode))
    def call(case: schemathesis.Case[Any]) -> None:
        case.headers.pop("X-Request-Timeout-Ms", None)  # too short a time is answered by 503, rightly
        case.call_and_validate(checks=CHECKS)

    call()


@pytest.fixture(scope="module")
def schema(live_world: World) -> Iterator[Any]:
    """The document of a service on its own clock: the examples carry no time."""
    with serving(live_world.layout.root, clock="system") as service:
        yield schemathesis.openapi.from_url(f"http://127.0.0.1:{service.port}/openapi.json")
        assert service.process.poll() is None
        assert b"Traceback" not in service.log.read_bytes()


def test_what_the_document_says_is_what_happens(schema: Any) -> None:
    held: list[str] = []
    for found in schema.get_all_operations():
        operation = found.ok()
        for mode in GenerationMode:
            with suppress(Unsatisfiable):  # an operation without parameters has nothing that could be wrong
                hold(operation, mode)
        held.append(operation.label)
    assert {"POST /v1/predictions", "POST /v2/models/{name}/infer", "POST /invocations", "GET /readyz"} <= set(held)


def test_every_example_is_answered_as_described(schema: Any) -> None:
    n_examples = 0
    for path, operations in schema.raw_schema["paths"].items():
        content = operations.get("post", {}).get("requestBody", {}).get("content", {})
        for media_type, described in content.items():
            name = {"path_parameters": {"name": "flight-delay"}} if "{name}" in path else {}
            case = schema[path]["POST"].Case(body=described["example"], media_type=media_type, **name)
            assert case.call_and_validate(checks=CHECKS).status_code == 200
            n_examples += 1
    assert n_examples == 4
