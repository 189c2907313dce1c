"""Every route of the running service against every kind of key: nobody gets in who may not."""

import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from fastapi.routing import APIRoute

from flightdeck.core.clock import SystemClock
from flightdeck.core.layout import PROJECT, Layout
from flightdeck.inference.api_keys import Role, add_key, plan_key, revoke_key
from serving.app import create_app
from serving.guard import OPEN, needed_roles
from serving.settings import ServingSettings
from tests.serving.process import JSON_HEADERS, Reply, Service, free_port, serving
from tests.serving.protocols.asked import PARAMETERS, ROWS, V1, tensors
from tests.serving.world import World, ask

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
PLACES = {"{name}": "flight-delay", "{version}": "1"}
SURFACES = ("search", "itinerary", "alerts")


@dataclass
class Guarded:
    """A service that asks for keys, and keys of each kind."""

    service: Service
    keys: dict[str, str]
    layout: Layout

    def send(self, method: str, path: str, who: str, body: bytes | None = None) -> Reply:
        key = {"X-API-Key": self.keys[who]} if who != "nobody" else {}
        return self.service.send(method, path, body, {**JSON_HEADERS, **key})


def make_key(layout: Layout, name: str, role: str = "predict", **more: object) -> str:
    now = SystemClock().now()
    key, kept = plan_key(name, role, now=now, known_surfaces=SURFACES, **more)  # type: ignore[arg-type]
    add_key(layout.api_keys, kept, now)
    return key


@pytest.fixture(scope="module")
def guarded(live_world: World) -> Iterator[Guarded]:
    layout = live_world.layout
    keys = {role: make_key(layout, role, role) for role in ("predict", "operate")}
    keys |= {"revoked": make_key(layout, "revoked"), "limited": make_key(layout, "limited", surfaces=["search"])}
    keys["slow"] = make_key(layout, "slow", rate_per_s=0.001)
    keys["wrong"] = keys["predict"][:-4] + "AAAA"
    revoke_key(layout.api_keys, "revoked", SystemClock().now())
    with serving(layout.root, options=["--require-keys"]) as service:
        yield Guarded(service, keys, layout)


@pytest.fixture(scope="module")
def routes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Return the methods of each path that the application declares."""
    app = create_app(ServingSettings(Layout(tmp_path_factory.mktemp("routes"))))
    found: dict[str, set[str]] = {}
    for route in app.routes:
        path, methods = getattr(route, "path"), getattr(route, "methods")  # noqa: B009 - all kinds of routes have them
        for name, value in PLACES.items():
            path = path.replace(name, value)
        found[path] = found.get(path, set()) | methods
        assert isinstance(route, APIRoute) or path == "/openapi.json"
    return found


def test_no_role_meets_an_answer_that_it_may_not_have(guarded: Guarded, routes: dict[str, set[str]]) -> None:
    unexpected = []
    for path, methods in {**routes, "/nowhere": set[str](), "/v2/nowhere": set[str]()}.items():
        for method in METHODS:
            for who in ("nobody", "wrong", "revoked", "predict", "operate"):
                status = guarded.send(method, path, who, b"{}" if method == "POST" else None).status
                allowed = _allowed(method, path, who, methods)
                if status not in allowed:
                    unexpected.append((method, path, who, status, sorted(allowed)))
    assert unexpected == []
    assert {"/docs", "/openapi.json", "/metrics", "/readyz", "/v2", "/invocations"} <= set(routes)


def _allowed(method: str, path: str, who: str, methods: set[str]) -> set[int]:
    """Return the statuses that are right: of access where it fails, else of the route."""
    if path not in OPEN:
        if who not in ("predict", "operate"):
            return {401}
        if Role(who) not in needed_roles(method, path):
            return {403}
    if method not in methods:
        return {405} if methods else {404}
    return {400, 415, 422} if method == "POST" else {200}


@pytest.mark.parametrize(
    "path", ["//metrics", "/metrics/", "/%6detrics", "/v1/../metrics", "/METRICS", "/metrics?x=/healthz"]
)
def test_no_spelling_of_a_path_goes_around_the_guard(guarded: Guarded, path: str) -> None:
    assert guarded.send("GET", path, "nobody").status == 401
    assert guarded.send("GET", path, "predict").status == 403


def test_a_key_predicts_by_each_road(guarded: Guarded) -> None:
    body = ask()
    for headers in ({"Authorization": f"Bearer {guarded.keys['predict']}"}, {"X-API-Key": guarded.keys["predict"]}):
        assert guarded.service.predict(body, {**JSON_HEADERS, **headers}).status == 200
        slow_road = {"Content-Type": "Application/JSON;charset=utf-8", **headers}
        assert guarded.service.predict(body, slow_road).status == 200


@pytest.mark.parametrize(("who", "status"), [("nobody", 401), ("wrong", 401), ("operate", 403), ("predict", 200)])
def test_a_question_is_answered_to_whoever_may_ask(guarded: Guarded, who: str, status: int) -> None:
    rows = {"instances": ROWS, "params": PARAMETERS}
    for path, body in (("/v1/predictions", V1), ("/v2/models/flight-delay/infer", tensors()), ("/invocations", rows)):
        assert guarded.send("POST", path, who, json.dumps(body).encode()).status == status


def test_a_surface_is_refused_by_each_protocol(guarded: Guarded) -> None:
    rows = {"instances": ROWS, "params": PARAMETERS}
    for path, body in (("/v1/predictions", V1), ("/v2/models/flight-delay/infer", tensors()), ("/invocations", rows)):
        for surface, status in (("alerts", 403), ("search", 200)):
            text = json.dumps(body).replace("alerts", surface)
            assert guarded.send("POST", path, "limited", text.encode()).status == status


def test_a_surface_is_refused_by_each_road(guarded: Guarded) -> None:
    key = {"X-API-Key": guarded.keys["limited"]}
    for kind in ("application/json", "Application/JSON;charset=utf-8"):
        headers = {"Content-Type": kind, **key}
        assert guarded.service.predict(ask(), headers).status == 200
        reply = guarded.service.predict(ask(surface="alerts"), headers)
        assert (reply.status, reply.json()["error"]["code"]) == (403, "wrong_surface")


def test_a_rate_is_counted_once_whatever_road_a_request_takes(guarded: Guarded) -> None:
    headers = {**JSON_HEADERS, "X-API-Key": guarded.keys["slow"]}
    assert guarded.service.predict(b"{}", headers).status == 422, "the hot path hands it on: counted once"
    reply = guarded.service.predict(ask(), headers)
    assert reply.status == 429 and int(reply.headers["retry-after"]) > 900


def test_the_details_of_readyz_are_for_whoever_operates(guarded: Guarded) -> None:
    for who in ("nobody", "wrong", "predict"):
        assert guarded.send("GET", "/readyz", who).json() == {"ready": True}
    assert guarded.send("GET", "/readyz", "operate").json()["releases"]


def test_errors_have_the_form_of_their_protocol(guarded: Guarded) -> None:
    assert isinstance(guarded.send("GET", "/v2", "nobody").json()["error"], str)
    for path in ("/metrics", "/v1/predictions", "/invocations"):
        error = guarded.send("POST", path, "nobody", b"{}").json()["error"]
        assert set(error) == {"code", "message", "next_step", "violations"}
        assert error["code"] == "no_valid_key" and "kedro serve keys add" in error["next_step"]


def test_whoever_may_not_ask_does_not_get_their_body_read(guarded: Guarded) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(8000):
            yield b" " * 16_384

    connection = http.client.HTTPConnection("127.0.0.1", guarded.service.port, timeout=30)
    status = 401
    try:
        connection.request("POST", "/v1/predictions", endless(), JSON_HEADERS, encode_chunked=True)
        status = connection.getresponse().status
    except (BrokenPipeError, ConnectionResetError):
        pass
    finally:
        connection.close()
    assert status == 401
    assert guarded.send("POST", "/v1/predictions", "nobody", b"x" * 200_000).status == 401


def test_refusals_are_counted_and_no_key_is_written_anywhere(guarded: Guarded) -> None:
    metrics = guarded.send("GET", "/metrics", "operate").content.decode()
    assert 'flightdeck_access_refused_total{key="",why="key"}' in metrics
    assert f'flightdeck_access_refused_total{{key="{guarded.keys["predict"][3:11]}",why="role"}}' in metrics
    written = [metrics.encode(), guarded.service.log.read_bytes()]
    written += [
        path.read_bytes() for path in guarded.layout.root.rglob("*") if path.is_file() and path.suffix != ".lock"
    ]
    for who, key in guarded.keys.items():
        secret = key[12:].encode()
        assert not any(secret in content for content in written), who


def test_keys_made_while_it_runs_are_known_and_revoked_ones_forgotten(guarded: Guarded) -> None:
    key = {"X-API-Key": make_key(guarded.layout, "late", "operate")}

    def status() -> int:
        return guarded.service.send("GET", "/metrics", None, key).status

    guarded.service.wait_until(lambda: status() == 200, "the new key")
    revoke_key(guarded.layout.api_keys, "late", SystemClock().now())
    guarded.service.wait_until(lambda: status() == 401, "the end of the new key")


@pytest.mark.parametrize("options", [["--host", "0.0.0.0"], ["--host", ""], ["--require-keys"]])  # noqa: S104
def test_without_a_key_it_does_not_start_where_keys_are_required(tmp_path: Path, options: list[str]) -> None:
    environment = {**os.environ, "FLIGHTDECK_DATA": str(tmp_path), "FLIGHTDECK_KEYS": "off"}
    command = [sys.executable, "-m", "serving", "--port", str(free_port()), *options]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=PROJECT, timeout=60)
    assert found.returncode == 1
    assert "kedro serve keys add" in found.stderr and "Traceback" not in found.stderr
