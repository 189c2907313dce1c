"""A client that has gone before its turn costs no computing, whatever route it asked by."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.serving.protocols.asked import V1, tensors
from tests.serving.worker import Asked, application
from tests.serving.world import World

DECLARED = {"content-type": "application/json;charset=utf-8"}
ROUTES: dict[str, tuple[str, Any, dict[str, str]]] = {
    "v1, declared": ("/v1/predictions", V1, DECLARED),
    "v2": ("/v2/models/flight-delay/infer", tensors(), {}),
    "invocations": ("/invocations", {"dataframe_records": V1["flights"], "params": tensors()["parameters"]}, {}),
}


@pytest.fixture
def served(world: World) -> Iterator[Asked]:
    world.release(world.seal())
    with application(world) as asked:
        yield asked


@pytest.mark.parametrize("route", ROUTES)
def test_who_has_gone_is_neither_computed_nor_counted(world: World, served: Asked, route: str) -> None:
    path, body, headers = ROUTES[route]
    content = json.dumps(body).encode()
    gone = served.predict(content, headers, path=path, is_gone=True)
    assert gone.status == 499, "which nobody hears"
    assert world.records() == []
    shown = served.get("/metrics").content.decode()
    assert "flightdeck_predictions_total{" not in shown
    assert "flightdeck_requests_total{" not in shown
    assert served.predict(content, headers, path=path).status == 200
    assert len(world.records()) == 3
