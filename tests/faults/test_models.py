"""Faults 9, 10 and 27, models that fail: nobody is refused, every answer says what happened.

Expected: a canary that raises, gives NaN, leaves [0, 1] or hangs costs nobody an answer; the champion answers its units
in the same request; rung and reason are on the body, in the header, in the log and in a metric. A champion that fails
is answered for by the fallback model. A shadow that hangs or raises changes nothing but its own counts.
"""

import pytest

from flightdeck.release.route_edits import set_shadow
from tests.serving.process import Service, serving
from tests.serving.world import World, ask, broken_model

PATIENT = {"Content-Type": "application/json", "X-Request-Timeout-Ms": "2000"}
WHY = {"raises": "raised", "nan": "not_finite", "2": "out_of_range", "hangs": "too_slow"}


def failures(service: Service, rung: str, why: str) -> float:
    line = f'flightdeck_ladder_failures_total{{rung="{rung}",why="{why}"}} '
    return next(
        (float(one.removeprefix(line)) for one in service.get("/metrics").content.decode().splitlines()
         if one.startswith(line)), 0.0
    )  # fmt: skip


@pytest.mark.parametrize("fault", WHY)
def test_a_failing_canary_costs_nobody_an_answer(world: World, fault: str) -> None:
    world.feed_store()
    champion = world.release(world.seal())
    canary = world.release(world.seal(model=broken_model(fault)), share=0.5)
    with serving(world.layout.root) as service:
        service.wait_for_version(canary, "canary")
        met = 0
        for n in range(30):
            reply = service.predict(ask(2, unit_id=f"unit-{n}"), PATIENT)
            assert (reply.status, reply.headers["x-flightdeck-mode"]) == (200, "model")
            for item in reply.json()["predictions"]:
                assert (item["mode"], item["model_version"]) == ("model", champion)
                assert item["reason"] == (f"canary:{WHY[fault]}" if item["arm"] == "canary" else None)
                met += item["arm"] == "canary"
        assert met > 10
        assert failures(service, "canary", WHY[fault]) == met
        assert service.get("/readyz").status == 200
    logged = [record for record in world.records() if record["arm"] == "canary"]
    assert len(logged) == met
    assert {record["reason"] for record in logged} == {f"canary:{WHY[fault]}"}


@pytest.mark.parametrize("fault", ["raises", "hangs"])
def test_a_failing_champion_is_answered_for_by_the_fallback_model(world: World, fault: str) -> None:
    world.feed_store()
    world.release(world.seal(model=broken_model(fault)))
    with serving(world.layout.root) as service:
        for surface in ("alerts", "search", "itinerary", "search"):
            reply = service.predict(ask(2, surface=surface), PATIENT)
            assert (reply.status, reply.headers["x-flightdeck-mode"]) == (200, "fallback")
            assert [item["reason"] for item in reply.json()["predictions"]] == [f"champion:{WHY[fault]}"] * 2
        assert service.metric("flightdeck_predictions_total") == 8
        assert 'mode="fallback"' in service.get("/metrics").content.decode()


@pytest.mark.parametrize("fault", ["raises", "hangs"])
def test_a_failing_shadow_changes_nothing_but_its_counts(world: World, fault: str) -> None:
    world.feed_store()
    world.release(world.seal())
    with serving(world.layout.root) as service:
        expected = [service.predict(ask(2, unit_id=f"unit-{n}"), PATIENT).json()["predictions"] for n in range(10)]
        version = world.stage(world.seal(model=broken_model(fault)))
        world.route(lambda state: set_shadow(state, version, 1.0))
        service.wait_for_version(version, "shadow")
        found = [service.predict(ask(2, unit_id=f"unit-{n}"), PATIENT).json()["predictions"] for n in range(10)]
        assert found == expected
        service.wait_until(
            lambda: (
                service.predict(ask()).status == 200
                and f'flightdeck_shadow_items_total{{fate="failed",version="{version}"}}'
                in service.get("/metrics").content.decode()
            ),
            "a counted failure",
        )
        service.stop()
    assert {record["arm"] for record in world.records()} == {"champion"}
