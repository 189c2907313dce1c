import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flightdeck.core.errors import BundleRefused, NotFoundError
from flightdeck.inference.release_bundle import LoadedRelease, load_release
from pipelines.features.model_input import FALLBACK_NUMERIC, NUMERIC, REQUEST_COLUMNS
from pipelines.features.views import VIEW_COLUMNS, VIEWS
from serving.use_case import running_code
from tests.serving.world import World, broken_model, bundle_files


def load(world: World, **files: Any) -> LoadedRelease:
    bundle = world.seal(**files)
    return load_release(bundle.path, digest=bundle.digest, version=3, code=running_code())


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def columns(n_rows: int) -> dict[str, Any]:
    random = np.random.default_rng(0)
    found: dict[str, Any] = {name: random.integers(1, 10**9, n_rows) for name in REQUEST_COLUMNS}
    found |= {name: np.array(["UA"] * n_rows, dtype=object) for name in ("carrier", "origin", "dest", "tailnum")}
    return found | {name: random.normal(10, 5, n_rows) for name in VIEW_COLUMNS}


def test_all_three_ways_answer(world: World) -> None:
    release = load(world)
    given = columns(4)
    numeric = release.model_features(given)
    request = {name: given[name] for name in REQUEST_COLUMNS}
    assert numeric.shape == (4, len(NUMERIC))
    np.testing.assert_array_equal(numeric[:, NUMERIC.index("distance_miles")], given["distance_miles"])
    for found in (release.score_model(given, numeric), release.score_fallback(request), release.score_rules(request)):
        assert found.shape == (4,)
        assert ((found >= 0) & (found <= 1)).all()
    assert len(FALLBACK_NUMERIC) == release.fallback.n_numeric


def test_unseen_categories_are_named(world: World) -> None:
    given = columns(1) | {"origin": np.array(["EWR"], dtype=object)}
    assert load(world).unseen_categories(given) == [("dest",)]
    without = json.loads(bundle_files(1)["features.json"]) | {"categories": {}}
    assert load(world, features=without).unseen_categories(given) == [()]


@pytest.mark.parametrize(("part", "name"), [("views", "origin_departures"), ("nodes", "lead_time")])
@pytest.mark.parametrize("is_declared", [True, False])
def test_code_that_means_something_else_than_what_was_sealed_is_refused_by_name(
    world: World, part: str, name: str, *, is_declared: bool
) -> None:
    sealed = json.loads(bundle_files(1)["features.json"])
    sealed[part][name] = "0" * 64
    if not is_declared:
        del sealed["declarations"]
    with pytest.raises(BundleRefused, match=rf"the code has changed since it was sealed: .* {name} ") as found:
        load(world, features=sealed)
    assert "kedro run" in found.value.next_step


def test_column_functions_that_are_gone_are_refused(world: World) -> None:
    bundle = world.seal()
    with pytest.raises(BundleRefused, match="is gone"):
        load_release(bundle.path, digest=bundle.digest, version=1, code=replace(running_code(), fingerprints={}))


def test_a_bundle_reads_the_views_that_it_declares_whatever_the_code_declares_now(world: World) -> None:
    bundle = world.seal()
    code = replace(running_code(), views=(replace(VIEWS[0], ttl_s=1), *VIEWS[2:]))
    assert load_release(bundle.path, digest=bundle.digest, version=1, code=code).feature_views == VIEWS


def test_a_bundle_without_declarations_is_opened_where_the_code_declares_the_same(world: World) -> None:
    sealed = json.loads(bundle_files(1)["features.json"])
    del sealed["declarations"]
    assert load(world, features=sealed).feature_views == VIEWS
    bundle = world.seal(features=sealed)
    code = replace(running_code(), views=(replace(VIEWS[0], ttl_s=1), *VIEWS[2:]))
    with pytest.raises(BundleRefused, match="carrier_departures, origin_departures"):
        load_release(bundle.path, digest=bundle.digest, version=1, code=code)


def test_a_damaged_declaration_is_refused(world: World) -> None:
    sealed = json.loads(bundle_files(1)["features.json"])
    del sealed["declarations"][0]["kind"]
    with pytest.raises(BundleRefused, match="declaration of a feature view"):
        load(world, features=sealed)


def test_a_feature_that_no_node_makes_is_refused(world: World) -> None:
    sealed = json.loads(bundle_files(1)["features.json"])
    sealed["numeric"][-1] = "moon_phase"
    with pytest.raises(BundleRefused, match="moon_phase"):
        load(world, features=sealed)


def test_a_fallback_that_needs_the_store_is_refused(world: World) -> None:
    sealed = json.loads(bundle_files(1)["features.json"])
    sealed["fallback_numeric"][-1] = VIEW_COLUMNS[0]
    with pytest.raises(BundleRefused, match=VIEW_COLUMNS[0]):
        load(world, features=sealed)


@pytest.mark.parametrize(
    "files",
    [
        {"features": {"numeric": 3}},
        {"surfaces": {"search": {"decisions": {"low": 0.5}}}},
        {"surfaces": {"search": {"decisions": {"low": 0.0}}}},
        {"rules": {}},
        {"rules": {"rate": 2.0, "by_carrier_hour": {}}},
        {"model": b"not a model"},
        {"model": broken_model("nan").replace(b"\x00\x00\x00\x3f", b"\x00\x00\xc0\x7f")},
    ],
)
def test_a_bundle_that_cannot_answer_is_refused(world: World, files: dict[str, Any]) -> None:
    with pytest.raises(BundleRefused):
        load(world, **files)


def test_another_digest_or_no_folder_is_refused(world: World, tmp_path: Path) -> None:
    bundle = world.seal()
    with pytest.raises(BundleRefused, match="digest"):
        load_release(bundle.path, digest="0" * 64, version=1, code=running_code())
    with pytest.raises(NotFoundError):
        load_release(tmp_path / "nowhere", digest=bundle.digest, version=1, code=running_code())


def test_any_flipped_byte_of_any_file_is_refused(world: World) -> None:
    bundle = world.seal()
    for path in sorted(path for path in bundle.path.rglob("*") if path.is_file() and path.stat().st_size):
        whole = path.read_bytes()
        path.chmod(0o644)
        path.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
        with pytest.raises(BundleRefused):
            load_release(bundle.path, digest=bundle.digest, version=1, code=running_code())
        path.write_bytes(whole)
    load_release(bundle.path, digest=bundle.digest, version=1, code=running_code())
