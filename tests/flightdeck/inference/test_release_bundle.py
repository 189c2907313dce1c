import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from flightdeck.core.errors import BundleRefused, NotFoundError
from flightdeck.core.identifiers import canonical_json, digest_bytes
from flightdeck.inference.bundle import MANIFEST
from flightdeck.inference.plan import compile_plan
from flightdeck.inference.release_bundle import LoadedRelease, load_release
from pipelines.features.model_input import FALLBACK_NUMERIC, NUMERIC, REQUEST_COLUMNS
from pipelines.features.views import VIEW_COLUMNS, VIEWS
from pipelines.inference.pipeline import create_pipeline
from serving.use_case import running_code
from tests.graphs import request_rows, view_rows
from tests.serving.world import World, broken_model, bundle_files


def load(world: World, **files: Any) -> LoadedRelease:
    bundle = world.seal(**files)
    return load_release(bundle.path, digest=bundle.digest, version=3, code=running_code())


def sealed_features() -> Any:
    return json.loads(bundle_files(1)["features.json"])


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_all_three_ways_answer(world: World) -> None:
    release, request = load(world), request_rows(40)
    model, fallback = release.score_model(request, view_rows(40)), release.score_fallback(request)
    for found in (model.probability, fallback.probability, release.score_rules(request)):
        assert found.shape == (40,) and found.dtype == np.float64
        assert ((found >= 0) & (found <= 1)).all()
    assert (release.numeric, release.fallback_numeric) == (NUMERIC, FALLBACK_NUMERIC)
    assert model.numeric.shape == (40, len(NUMERIC)) and fallback.numeric.shape == (40, len(FALLBACK_NUMERIC))
    assert (release.version, release.feature_views) == (3, VIEWS)
    assert set(release.request_inputs) == set(REQUEST_COLUMNS) - {"flight_number"}


def test_what_the_model_reads_is_what_the_column_functions_compute_bit_by_bit(world: World) -> None:
    release, request, views = load(world), request_rows(5_000), view_rows(5_000)
    columns = request | dict(zip(VIEW_COLUMNS, views.T, strict=True))
    for numeric, found in (
        (NUMERIC, release.score_model(request, views)),
        (FALLBACK_NUMERIC, release.score_fallback(request)),
    ):
        computed = compile_plan(create_pipeline().nodes, columns, numeric)(columns)
        expected = np.stack([computed[name].astype(np.float64) for name in numeric], axis=1).astype(np.float32)
        np.testing.assert_array_equal(found.numeric, expected)


def test_unseen_categories_are_named(world: World) -> None:
    given = request_rows(1) | {name: np.array([v], dtype=object) for name, v in (("carrier", "UA"), ("origin", "EWR"))}
    given["dest"] = np.array(["XXX"], dtype=object)
    assert load(world).unseen_categories(given) == [("dest",)]
    assert load(world, features=sealed_features() | {"categories": {}}).unseen_categories(given) == [()]


def test_a_declaration_that_means_something_else_than_what_was_sealed_is_refused_by_name(world: World) -> None:
    sealed = sealed_features()
    sealed["views"]["origin_departures"] = "0" * 64
    with pytest.raises(BundleRefused, match="origin_departures means something else") as found:
        load(world, features=sealed)
    assert "kedro run" in found.value.next_step


def test_a_bundle_reads_the_views_that_it_declares(world: World) -> None:
    views = (replace(VIEWS[0], ttl_s=1), *VIEWS[2:])
    assert load(world, views=views).feature_views == views


@pytest.mark.parametrize("change", ["kind", "order", "names"])
def test_a_damaged_declaration_is_refused(world: World, change: str) -> None:
    sealed = sealed_features()
    if change == "kind":
        del sealed["declarations"][0]["kind"]
    elif change == "order":
        sealed["view_columns"].reverse()
    else:
        sealed["view_columns"][-1] = "moon_phase"
    expected = {"kind": "declaration of a feature view", "order": "another order", "names": "moon_phase"}[change]
    with pytest.raises(BundleRefused, match=expected):
        load(world, features=sealed)


def test_a_model_of_other_features_than_the_list_says_is_refused(world: World) -> None:
    sealed = sealed_features()
    sealed["numeric"].append("moon_phase")
    with pytest.raises(BundleRefused, match="output 'numeric'"):
        load(world, features=sealed)


def test_a_fallback_that_needs_the_store_is_refused(world: World) -> None:
    bundle = world.seal(model=bundle_files(1)["model.onnx"])
    draft = world.layout.draft_bundle
    (draft / "fallback.onnx").write_bytes((bundle.path / "model.onnx").read_bytes())
    sealed = world.seal_draft()
    with pytest.raises(BundleRefused, match=r"'views' is .* declared none"):
        load_release(sealed.path, digest=sealed.digest, version=1, code=running_code())


def test_a_column_that_the_server_does_not_give_is_named_at_load(world: World) -> None:
    bundle = world.seal()
    for lost in ("request_us", "carrier", "tailnum"):
        given = {name: kind for name, kind in REQUEST_COLUMNS.items() if name != lost}
        with pytest.raises(BundleRefused, match=f"needs the request column {lost}, which") as found:
            load_release(
                bundle.path, digest=bundle.digest, version=1, code=replace(running_code(), request_columns=given)
            )
        assert "rollback" in found.value.next_step
    numbered = {**REQUEST_COLUMNS, "carrier": "int64"}
    with pytest.raises(BundleRefused, match="carrier as string"):
        load_release(
            bundle.path, digest=bundle.digest, version=1, code=replace(running_code(), request_columns=numbered)
        )
    unread = {name: kind for name, kind in REQUEST_COLUMNS.items() if name != "flight_number"}
    load_release(bundle.path, digest=bundle.digest, version=1, code=replace(running_code(), request_columns=unread))


@pytest.mark.parametrize(("found", "step"), [(1, "seal it again"), (3, "deploy the code that sealed it")])
def test_a_bundle_of_another_format_is_refused_with_what_to_do(world: World, found: int, step: str) -> None:
    bundle = world.seal()
    manifest = canonical_json(msgspec.json.decode((bundle.path / MANIFEST).read_bytes()) | {"format_version": found})
    (bundle.path / MANIFEST).chmod(0o644)
    (bundle.path / MANIFEST).write_bytes(manifest)
    with pytest.raises(BundleRefused, match=f"of format {found}, this code reads format 2") as refused:
        load_release(bundle.path, digest=digest_bytes(manifest), version=1, code=running_code())
    assert step in refused.value.next_step


@pytest.mark.parametrize(
    "files",
    [
        {"features": {"numeric": 3}},
        {"surfaces": {"search": {"decisions": {"low": 0.5}}}},
        {"surfaces": {"search": {"decisions": {"low": 0.0}}}},
        {"rules": {}},
        {"rules": {"rate": 2.0, "rates": {}, "keys": [{"kind": "column", "column": "carrier"}]}},
        {"rules": {"rate": 0.2, "rates": {}, "keys": [{"kind": "column", "column": "moon_phase"}]}},
        {"rules": {"rate": 0.2, "rates": {}, "keys": [{"kind": "integer", "weights": {}, "modulus": 1}]}},
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
