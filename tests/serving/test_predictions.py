import math
import shutil
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from flightdeck.core.clock import SystemClock, to_us
from flightdeck.features.online import OnlineReader
from flightdeck.features.store import OnlineStore
from pipelines.features.model_input import NUMERIC
from pipelines.features.views import VIEW_COLUMNS, VIEWS
from tests.event_streams import NOON_US
from tests.serving.process import Service, serving
from tests.serving.world import AT, FLIGHT, World, ask


def only(body: dict[str, Any]) -> dict[str, Any]:
    predictions = body["predictions"]
    assert len(predictions) == 1
    return dict(predictions[0])


def test_answers_with_everything_that_was_promised(service: Service) -> None:
    reply = service.predict(ask())
    body = reply.json()
    found = only(body)
    assert reply.status == 200
    assert reply.headers["x-request-id"] == body["request_id"]
    assert reply.headers["x-flightdeck-mode"] == "model"
    assert 0 <= found["probability"] <= 1
    assert found["decision"] in ("low", "moderate", "high")
    assert (found["mode"], found["reason"], found["arm"], found["model_version"]) == ("model", None, "champion", 1)
    assert found["flight_id"] == "2013-09-12:UA:1:EWR"
    assert set(found["feature_ages_s"]) == {view.name for view in VIEWS}


@pytest.mark.parametrize("surface", ["search", "itinerary", "alerts"])
def test_every_surface_decides_by_its_own_thresholds(service: Service, surface: str) -> None:
    assert only(service.predict(ask(surface=surface)).json())["decision"] is not None


def test_500_flights_are_answered_in_the_order_of_the_request(service: Service) -> None:
    found = service.predict(ask(500)).json()["predictions"]
    assert [item["flight_id"] for item in found] == [f"2013-09-12:UA:{n}:EWR" for n in range(1, 501)]


def test_a_batch_answers_what_single_requests_answer(service: Service) -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"tailnum": None},
        {"origin": "LGA", "dest": "BOS"},
        {"carrier": "DL"},
        {"distance_miles": 17},
    ]
    body = {**ask(), "flights": [{**FLIGHT, **change} for change in changes]}
    batch = service.predict(body).json()["predictions"]
    singles = [only(service.predict({**ask(), "flights": [flight]}).json()) for flight in body["flights"]]
    assert batch == singles


def test_every_answer_is_in_the_log_with_the_features_as_served(service: Service, live_world: World) -> None:
    body = service.predict(ask(3, unit_id="logged-unit")).json()
    records = [record for record in live_world.records() if record["request_id"] == body["request_id"]]
    store = OnlineStore.open(live_world.layout.online_store, read_only=True)
    entities = {name: np.array([FLIGHT[name]], dtype=object) for name in ("carrier", "origin", "dest", "tailnum")}
    expected = OnlineReader(store, VIEWS).read(entities, NOON_US).columns
    store.close()
    assert [record["item"] for record in records] == [0, 1, 2]
    for record, item in zip(records, body["predictions"], strict=True):
        assert record["unit_id"] == "logged-unit"
        assert record["request_us"] == record["feature_us"] == record["watermark_us"] == NOON_US
        for name in ("flight_id", "probability", "decision", "mode", "reason", "arm", "model_version"):
            assert record[name] == item[name]
        assert record["flight"]["scheduled_departure_us"] == NOON_US + 125 * 60_000_000
        assert len(record["bundle_digest"]) == 64
        for name in VIEW_COLUMNS:
            served, value = record["features"][NUMERIC.index(name)], np.float32(expected[name][0])
            assert served == value or (served is None and math.isnan(value))


def test_the_request_id_of_the_client_is_kept_if_it_is_one(service: Service) -> None:
    headers = {"Content-Type": "application/json", "X-Request-ID": "replay-0000-4711"}
    assert service.predict(ask(), headers).json()["request_id"] == "replay-0000-4711"
    headers["X-Request-ID"] = "drop table; " * 20
    assert len(service.predict(ask(), headers).json()["request_id"]) == 32


@pytest.mark.parametrize(
    ("change", "flags"),
    [
        ({"origin": "DEL"}, "unseen:origin"),
        ({"carrier": "ZZ", "dest": "XXX"}, "unseen:carrier; unseen:dest"),
        ({"distance_miles": 12_500, "flight_number": 9999}, None),
    ],
)
def test_what_training_never_saw_is_answered_and_flagged(
    service: Service, change: dict[str, Any], flags: str | None
) -> None:
    found = only(service.predict({**ask(), "flights": [{**FLIGHT, **change}]}).json())
    assert (found["mode"], found["reason"]) == ("model", flags)
    assert 0 <= found["probability"] <= 1


def test_a_store_that_is_behind_is_flagged_and_beyond_its_limit_not_used(service: Service) -> None:
    def at(minutes: int) -> dict[str, Any]:
        asked = datetime.fromisoformat(AT) + timedelta(minutes=minutes)
        return only(service.predict(ask(at=asked.isoformat())).json())

    assert (at(4)["mode"], at(4)["reason"]) == ("model", None)
    assert (at(10)["mode"], at(10)["reason"]) == ("model", "features_late")
    assert (at(31)["mode"], at(31)["reason"]) == ("fallback", "champion:features_stale")
    assert (at(-4)["mode"], at(-4)["reason"]) == ("model", None)
    assert (at(-10)["mode"], at(-10)["reason"]) == ("fallback", "champion:store_ahead_of_question")


def test_without_a_store_the_fallback_answers_and_a_new_store_is_found(world: World) -> None:
    world.release(world.seal())
    with serving(world.layout.root) as service:
        found = only(service.predict(ask()).json())
        assert (found["mode"], found["reason"]) == ("fallback", "champion:store_unavailable")
        assert found["feature_ages_s"] == {}
        assert "kedro" in service.get("/readyz").json()["online_store"]
        assert world.records()[0]["features"] is None
        world.feed_store()
        assert only(service.predict(ask()).json())["mode"] == "model"
        shutil.rmtree(world.layout.online_store)
        assert only(service.predict(ask()).json())["mode"] == "fallback"
        world.feed_store()
        assert only(service.predict(ask()).json())["mode"] == "model"


def test_on_event_time_a_request_says_when_it_is_asked(service: Service) -> None:
    reply = service.predict(ask(at=None))
    assert reply.status == 422
    assert "required" in reply.json()["error"]["violations"][0]["rule"]


def test_on_its_own_clock_the_service_refuses_a_time_and_takes_the_present(world: World) -> None:
    world.feed_store(to_us(SystemClock().now()))
    world.release(world.seal())
    with serving(world.layout.root, clock="system") as service:
        refused = service.predict(ask())
        assert (refused.status, refused.json()["error"]["violations"][0]["where"]) == (422, "request_timestamp")
        before = to_us(datetime.now(UTC))
        assert only(service.predict(ask(at=None)).json())["mode"] == "model"
        assert before <= world.records()[0]["request_us"] <= to_us(datetime.now(UTC))


def test_metrics_tell_what_happened_with_bounded_labels(service: Service) -> None:
    service.predict(ask(2, surface="alerts", unit_id="metric-unit"))
    service.predict(b"{}")
    text = service.get("/metrics").content.decode()
    assert 'flightdeck_predictions_total{arm="champion",mode="model",surface="alerts"}' in text
    assert 'flightdeck_requests_total{status="200",surface="alerts"}' in text
    assert 'flightdeck_requests_total{status="422",surface="none"}' in text
    assert 'flightdeck_loaded_release{arm="champion",digest="' in text
    assert 'flightdeck_feature_age_seconds{view="origin_departures"}' in text
    assert "metric-unit" not in text
    assert "flightdeck_prediction_log_dropped_total 0.0" in text


def test_health_and_readiness(service: Service) -> None:
    assert service.get("/healthz").json() == {"status": "ok"}
    ready = service.get("/readyz")
    assert ready.status == 200
    assert ready.json()["releases"][0]["model_version"] == 1
