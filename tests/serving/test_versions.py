"""Versions of a view side by side: each release reads the declarations of its own bundle, at the same moment."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from flightdeck.events.log import EventLog
from flightdeck.events.offset import versions_of
from flightdeck.features.audit import recompute
from flightdeck.features.view import FeatureView, Windowed
from flightdeck.inference.bundle import Bundle
from pipelines.features.views import VIEWS
from tests.serving.process import Service, serving
from tests.serving.world import World, ask

OLD = VIEWS[0]
assert isinstance(OLD.compute, Windowed)
NEW = replace(OLD, compute=replace(OLD.compute, windows_s=(600, *OLD.compute.windows_s[1:])))
NEW_VIEWS = (NEW, *VIEWS[1:])
UNITS = [f"unit-{n}" for n in range(20)]


def seal_new(world: World, seed: int = 2) -> Bundle:
    """Seal a bundle whose model reads ten minutes where the running code declares thirty."""
    return world.seal(seed=seed, views=NEW_VIEWS)


def answers(service: Service) -> list[dict[str, Any]]:
    return [dict(service.predict(ask(3, unit_id=unit)).json()["predictions"][0]) for unit in UNITS]


def require_own_features(
    world: World, names: Mapping[str, list[str]], views: Mapping[str, tuple[FeatureView, ...]]
) -> int:
    """Compare what each record says it was served with the offline engine; return how many were compared."""
    log, n_compared = EventLog(world.layout.event_log), 0
    for record in world.records():
        if record["features"] is None:
            continue
        digest = record["bundle_digest"]
        view = views[digest][0]
        entity = {name: np.array([record[name]], dtype=object) for name in view.entity}
        at_us, known_us = np.array([record["feature_us"]]), np.array([record["watermark_us"]])
        again = recompute([view], log, entity, at_us, known_us, versions_of(record["feature_offset"]))
        served = dict(zip(names[digest], record["features"], strict=True))
        for column in view.columns:
            np.testing.assert_equal(np.float32(served[column]), np.float32(again[column][0]))
            n_compared += 1
    return n_compared


def test_champion_and_canary_read_different_versions_and_a_rollback_finds_its_own(world: World) -> None:
    world.feed_store(views=(*VIEWS, NEW))
    old, new = world.seal(seed=1), seal_new(world)
    first, second = world.release(old), world.release(new, share=0.5)
    with serving(world.layout.root) as service:
        service.wait_for_version(second, "canary")
        both = answers(service)
        assert {answer["model_version"] for answer in both} == {first, second}
        assert {answer["mode"] for answer in both} == {"model"}
        assert {answer["features_known_until"] for answer in both} == {"2013-09-12T12:00:00+00:00"}
        assert all(versions_of(answer["feature_offset"])["departed"] == 0 for answer in both)
        world.promote_canary(second, new)
        service.wait_for_version(second)
        assert {answer["model_version"] for answer in answers(service)} == {second}
        world.roll_back(second, first)
        service.wait_for_version(first)
        again = answers(service)
        assert {(answer["model_version"], answer["mode"]) for answer in again} == {(first, "model")}
        assert service.get("/readyz").json()["online_store"] == "ok"
    names = {bundle.digest: json.loads((bundle.path / "features.json").read_text())["numeric"] for bundle in (old, new)}
    assert f"{OLD.name}__count_10m" in names[new.digest]
    n_compared = require_own_features(world, names, {old.digest: VIEWS, new.digest: NEW_VIEWS})
    assert n_compared == 3 * 3 * len(UNITS) * len(OLD.columns)


def test_a_version_that_is_not_fed_costs_its_own_release_the_model_and_no_other(world: World) -> None:
    world.feed_store()
    champion = world.release(world.seal(seed=1))
    bundle = seal_new(world)
    canary = world.release(bundle, share=0.5)
    with serving(world.layout.root) as service:
        service.wait_for_version(canary, "canary")
        found = answers(service)
        on_canary = [answer for answer in found if answer["arm"] == "canary"]
        assert {answer["reason"] for answer in on_canary} == {"canary:store_unavailable"}
        assert {(answer["model_version"], answer["mode"]) for answer in found} == {(champion, "model")}
        assert NEW.version in service.get("/readyz").json()["online_store"]
        world.feed_store(views=(NEW,))
        service.wait_until(lambda: any(a["model_version"] == canary for a in answers(service)), "the canary's model")
        assert service.get("/readyz").json()["online_store"] == "ok"
