import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.serving.process import Service, serving
from tests.serving.world import World, ask, broken_model


def one(service: Service, unit_id: str = "unit-1") -> dict[str, Any]:
    return dict(service.predict(ask(unit_id=unit_id)).json()["predictions"][0])


def flip_a_byte(path: Path) -> None:
    content = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(bytes([content[0] ^ 1]) + content[1:])


def test_nothing_released_is_503_with_what_to_do_and_the_first_release_is_picked_up(world: World) -> None:
    with serving(world.layout.root) as service:
        ready = service.get("/readyz")
        assert (ready.status, ready.json()["ready"]) == (503, False)
        assert "kedro run" in ready.json()["next_step"]
        reply = service.predict(ask())
        assert (reply.status, reply.headers["retry-after"]) == (503, "5")
        assert reply.json()["error"]["code"] == "no_release"
        assert service.get("/healthz").status == 200
        world.feed_store()
        version = world.release(world.seal())
        service.wait_for_version(version)
        assert one(service)["model_version"] == version
        assert service.get("/readyz").status == 200


def test_a_new_release_and_a_rollback_are_picked_up_without_a_restart(world: World) -> None:
    world.feed_store()
    first = world.release(world.seal(seed=1))
    with serving(world.layout.root) as service:
        before = one(service)
        second = world.release(world.seal(seed=2))
        service.wait_for_version(second)
        after = one(service)
        assert (before["model_version"], after["model_version"]) == (first, second)
        assert before["probability"] != after["probability"]
        detail = {"from": second, "to": first, "stage": "prod", "reason": "test"}
        world.ledger.append("rolled_back", actor="test", subject=str(second), detail=detail)
        service.wait_for_version(first)
        assert one(service) == before


def test_a_flipped_byte_is_refused_and_the_old_release_goes_on(world: World) -> None:
    world.feed_store()
    first = world.release(world.seal(seed=1))
    bundle = world.seal(seed=2)
    flip_a_byte(bundle.path / "model.onnx")
    with serving(world.layout.root) as service:
        world.release(bundle)
        service.wait_until(lambda: bool(service.get("/readyz").json()["refused"]), "the refusal")
        ready = service.get("/readyz")
        assert ready.status == 200
        assert "altered: model.onnx" in ready.json()["refused"][0]["reason"]
        assert "rollback" in ready.json()["refused"][0]["next_step"]
        assert one(service)["model_version"] == first
        assert 'flightdeck_refused_bundles_total{arm="champion"} 1.0' in service.get("/metrics").content.decode()
        n_records = world.ledger.head()
        flip_a_byte(bundle.path / "model.onnx")
        service.wait_for_version(2)
        assert service.get("/readyz").json()["refused"] == []
        assert world.ledger.head() == n_records


def test_a_byte_flipped_under_the_running_release_is_noticed_and_it_goes_on_from_memory(world: World) -> None:
    world.feed_store()
    bundle = world.seal()
    world.release(bundle)
    with serving(world.layout.root) as service:
        before = one(service)
        flip_a_byte(bundle.path / "fallback.onnx")
        service.wait_until(lambda: bool(service.get("/readyz").json()["refused"]), "the refusal")
        assert service.get("/readyz").status == 200
        assert one(service) == before
        service.stop()
    with serving(world.layout.root) as service:
        ready = service.get("/readyz")
        assert ready.status == 503
        assert "altered: fallback.onnx" in ready.json()["reason"]
        assert service.predict(ask()).status == 503


def test_a_restart_with_a_refused_champion_goes_on_with_the_former_one(world: World) -> None:
    world.feed_store()
    former = world.release(world.seal(seed=1))
    bundle = world.seal(seed=2)
    live = world.release(bundle)
    flip_a_byte(bundle.path / "model.onnx")
    with serving(world.layout.root) as service:
        service.wait_for_version(former)
        ready = service.get("/readyz")
        assert ready.status == 200
        assert ready.json()["refused"][0]["model_version"] == live
        assert one(service)["mode"] == "model"
        flip_a_byte(bundle.path / "model.onnx")
        service.wait_for_version(live)


def test_a_deleted_bundle_says_what_to_do(world: World) -> None:
    bundle = world.seal()
    world.release(bundle)
    shutil.rmtree(bundle.path)
    with serving(world.layout.root) as service:
        error = service.predict(ask()).json()["error"]
        assert "no manifest.json" in error["message"]
        assert "rollback" in error["next_step"]


def test_a_lost_or_damaged_ledger_changes_nothing_for_who_is_served(world: World) -> None:
    world.feed_store()
    world.release(world.seal())
    with serving(world.layout.root) as service:
        before = one(service)
        for path in world.layout.ledger.parent.glob("ledger.sqlite*"):
            path.unlink()
        service.wait_until(lambda: service.get("/readyz").json()["ledger"] != "ok", "the problem")
        assert "backup" in service.get("/readyz").json()["ledger"]
        assert service.get("/readyz").status == 200
        assert one(service) == before
    world.layout.ledger.write_bytes(b"this is no database")
    with serving(world.layout.root) as service:
        ready = service.get("/readyz")
        assert ready.status == 503
        assert ready.json()["next_step"]


def test_a_replaced_ledger_changes_nothing_for_who_is_served(world: World) -> None:
    world.feed_store()
    world.release(world.seal(seed=1))
    with serving(world.layout.root) as service:
        before = one(service)
        for path in world.layout.ledger.parent.glob("ledger.sqlite*"):
            path.unlink()
        other = World(world.layout.root)
        other.release(other.seal(seed=2))
        other.release(other.seal(seed=3))
        service.wait_until(lambda: "was replaced" in service.get("/readyz").json()["ledger"], "the problem")
        assert service.get("/readyz").status == 200
        assert one(service) == before


def test_a_canary_answers_its_share_and_always_the_same_units(world: World) -> None:
    world.feed_store()
    champion = world.release(world.seal(seed=1))
    bundle = world.seal(seed=2)
    canary = world.release(bundle, share=0.1)
    units = [f"unit-{n}" for n in range(120)]

    def arms(service: Service) -> dict[str, str]:
        answers = {unit: one(service, unit) for unit in units}
        versions = {"champion": champion, "canary": canary}
        assert all(answer["model_version"] == versions[answer["arm"]] for answer in answers.values())
        return {unit: answer["arm"] for unit, answer in answers.items()}

    with serving(world.layout.root) as service:
        small = arms(service)
        assert set(small.values()) == {"champion", "canary"}
        assert arms(service) == small
        world.raise_share(canary, bundle, 0.5)
        service.wait_until(lambda: service.get("/readyz").json()["canary_share"] == 0.5, "the larger share")
        large = arms(service)
        moved_in = {unit for unit in units if large[unit] == "canary"}
        assert {unit for unit in units if small[unit] == "canary"} < moved_in
    with serving(world.layout.root) as service:
        assert arms(service) == large


@pytest.mark.parametrize(("value", "why"), [("nan", "not_finite"), ("2", "out_of_range")])
def test_a_canary_that_fails_is_answered_by_the_champion(world: World, value: str, why: str) -> None:
    world.feed_store()
    champion = world.release(world.seal())
    canary = world.release(world.seal(model=broken_model(value)), share=0.5)
    with serving(world.layout.root) as service:
        service.wait_for_version(canary, "canary")
        answers = [one(service, f"unit-{n}") for n in range(20)]
        on_canary = [answer for answer in answers if answer["arm"] == "canary"]
        assert on_canary
        assert {answer["reason"] for answer in on_canary} == {f"canary:{why}"}
        assert {answer["model_version"] for answer in answers} == {champion}
        assert {answer["mode"] for answer in answers} == {"model"}
        text = service.get("/metrics").content.decode()
        assert f'flightdeck_ladder_failures_total{{rung="canary",why="{why}"}}' in text


def test_a_champion_that_fails_steps_down_to_the_fallback(world: World) -> None:
    world.feed_store()
    world.release(world.seal(model=broken_model("nan")))
    with serving(world.layout.root) as service:
        answer = one(service)
        assert (answer["mode"], answer["reason"]) == ("fallback", "champion:not_finite")
        assert 0 <= answer["probability"] <= 1


def test_a_refused_canary_leaves_everybody_with_the_champion(world: World) -> None:
    world.feed_store()
    champion = world.release(world.seal(seed=1))
    bundle = world.seal(seed=2)
    flip_a_byte(bundle.path / "rules.json")
    world.release(bundle, share=0.5)
    with serving(world.layout.root) as service:
        assert {one(service, f"unit-{n}")["model_version"] for n in range(20)} == {champion}
        assert service.get("/readyz").json()["refused"][0]["arm"] == "canary"
        assert service.get("/readyz").json()["canary_share"] == 0.0
