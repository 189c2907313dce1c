"""The service on a Redis store: the same answers, and it recovers by itself."""

import json
from pathlib import Path

import pytest

from flightdeck.events.log import EventLog
from flightdeck.features.materializer import Materializer
from flightdeck.features.stores import open_store
from pipelines.features.views import VIEWS
from tests.event_streams import NOON_US
from tests.redis_server import RedisServer
from tests.serving.process import Service, serving
from tests.serving.world import World, ask


def asked(service: Service) -> list[dict[str, object]]:
    return list(service.predict(ask(5)).json()["predictions"])


def test_redis_serves_what_the_embedded_store_serves_and_comes_back_by_itself(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.feed_store()
    world.release(world.seal())
    with serving(world.layout.root) as service:
        embedded = asked(service)
    (tmp_path / "redis").mkdir()
    redis = RedisServer(tmp_path / "redis", "--appendfsync", "always")
    redis.start()
    try:
        store = open_store(redis.url, read_only=False)
        Materializer(store, VIEWS).backfill(EventLog(world.layout.event_log), NOON_US)
        store.close()
        monkeypatch.setenv("FLIGHTDECK_ONLINE_STORE", redis.url)
        with serving(world.layout.root) as service:
            service.wait_until(lambda: asked(service) == embedded, "the same answers")
            assert {answer["mode"] for answer in embedded} == {"model"}
            redis.kill()
            assert {answer["mode"] for answer in asked(service)} == {"fallback"}
            assert "redis" in json.dumps(service.get("/readyz").json()["online_store"]).lower()
            redis.start()
            service.wait_until(lambda: asked(service) == embedded, "the features")
            assert service.get("/readyz").json()["online_store"] == "ok"
    finally:
        redis.stop()
