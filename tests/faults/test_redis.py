"""Fault 13, a Redis behind a bad network: every question is answered and flagged, and the features come back.

Expected: no failed request, the fallback model where features are missing, `store_unavailable` in the reason, the mode
in the header and in the metric, an open breaker within a few questions, and the model again once the network is well.
"""

from collections.abc import Iterator

import pytest

from flightdeck.events.log import EventLog
from flightdeck.features.materializer import Materializer
from flightdeck.features.stores import open_store
from pipelines.features.views import VIEWS
from tests.event_streams import NOON_US
from tests.faults.proxy import HEALTHY, Proxy, Toxic, proxied
from tests.redis_server import RedisServer, redis_server
from tests.serving.process import Service, serving
from tests.serving.world import World, ask

PARTS = {"model": 3}
FALLBACK = {"fallback": 3}


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture(scope="module")
def proxy(redis: RedisServer) -> Iterator[Proxy]:
    with proxied(redis.port) as found:
        yield found


@pytest.fixture(scope="module")
def service(redis: RedisServer, proxy: Proxy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    world = World(tmp_path_factory.mktemp("redis"))
    world.feed_store()
    world.release(world.seal())
    store = open_store(redis.url, read_only=False)
    Materializer(store, VIEWS).backfill(EventLog(world.layout.event_log), NOON_US)
    store.close()
    address = f"redis://127.0.0.1:{proxy.port}/0"
    with serving(world.layout.root, variables={"FLIGHTDECK_ONLINE_STORE": address}) as running:
        yield running


def modes(service: Service) -> dict[str, int]:
    """Ask once; return how many items which rung answered, after looking at everything that must say so."""
    reply = service.predict(ask(3), {"Content-Type": "application/json", "X-Request-Timeout-Ms": "2000"})
    assert reply.status == 200, reply.content
    items = reply.json()["predictions"]
    found: dict[str, int] = {}
    for item in items:
        found[item["mode"]] = found.get(item["mode"], 0) + 1
        assert 0 <= item["probability"] <= 1
        if item["mode"] == "fallback":
            assert "champion:store_unavailable" in item["reason"]
            assert item["feature_ages_s"] == {}
    assert reply.headers["x-flightdeck-mode"] == max(found, key=["model", "fallback", "rules", "refused"].index)
    return found


TOXICS = {
    "down": Toxic(is_down=True),
    "two seconds late": Toxic(latency_s=2.0),
    "reset": Toxic(is_reset=True),
    "sliced": Toxic(slice_bytes=1, latency_s=0.002),
    "limited": Toxic(limit_bytes=100),
    "silent": Toxic(is_silent=True),
}


@pytest.mark.parametrize("name", TOXICS)
def test_every_question_is_answered_while_the_network_is_bad_and_the_model_comes_back(
    service: Service, proxy: Proxy, name: str
) -> None:
    service.wait_until(lambda: modes(service) == PARTS, "the features")
    before = service.metric("flightdeck_predictions_total")
    proxy.set(TOXICS[name])
    try:
        found = [modes(service) for _ in range(6)]
        assert found[-1] == FALLBACK, "the breaker is open: nobody asks the store any more"
        service.wait_until(lambda: service.metric("flightdeck_store_breaker_open") == 1, "the breaker's metric")
        n_connections = proxy.n_connections
        assert [modes(service) for _ in range(3)] == [FALLBACK] * 3
        assert proxy.n_connections <= n_connections + 1, "a probe at most"
        assert 'flightdeck_ladder_failures_total{rung="champion",why="store_unavailable"}' in (
            service.get("/metrics").content.decode()
        )
        assert service.metric("flightdeck_predictions_total") - before >= 9 * 3
        assert service.get("/readyz").status == 200
    finally:
        proxy.set(HEALTHY)
    service.wait_until(lambda: modes(service) == PARTS, "the features")
    service.wait_until(
        lambda: modes(service) == PARTS and service.metric("flightdeck_store_breaker_open") == 0, "a closed breaker"
    )


def test_a_value_of_the_wrong_type_is_no_feature(service: Service, redis: RedisServer, proxy: Proxy) -> None:
    proxy.set(HEALTHY)
    service.wait_until(lambda: modes(service) == PARTS, "the features")
    with redis.client() as client:
        saved = {key: (client.dump(key), key) for key in client.keys("*")}
        for key in saved:
            client.delete(key)
            client.set(key, b"not what was there")
    try:
        assert modes(service) == FALLBACK
    finally:
        with redis.client() as client:
            for key, (content, _) in saved.items():
                client.restore(key, 0, content, replace=True)
    service.wait_until(lambda: modes(service) == PARTS, "the features")
