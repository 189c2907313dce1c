"""A bundle outlives the code: whatever the column functions become, a sealed bundle answers as on its first day."""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from kedro.pipeline import node
from kedro.pipeline.node import Node

from flightdeck.core import columns
from flightdeck.core.columns import column_functions
from flightdeck.inference.bundle import Bundle
from flightdeck.inference.release_bundle import LoadedRelease, load_release
from pipelines.features import nodes
from pipelines.features.column_nodes import column_nodes
from pipelines.features.model_input import NUMERIC
from serving.use_case import running_code
from tests.graphs import request_rows, view_rows
from tests.serving.world import World

OLD_FORMULA = "xp.astype(scheduled_departure_us - request_us, xp.float64) / MINUTE_US"
NEW_FORMULA = "xp.astype(scheduled_departure_us - request_us, xp.float64) / MINUTE_US + 30.0"
N_ROWS = 500
REQUEST, VIEWS = request_rows(N_ROWS), view_rows(N_ROWS)


@pytest.fixture
def changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Give the module of the column functions with one formula changed, as the next commit would have it."""
    source = Path(str(nodes.__file__)).read_text("utf-8")
    assert OLD_FORMULA in source
    path = tmp_path / "changed_nodes.py"
    path.write_text(source.replace(OLD_FORMULA, NEW_FORMULA), "utf-8")
    monkeypatch.setattr(columns, "_registered", {})
    spec = importlib.util.spec_from_file_location("changed_nodes", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def nodes_of(module: ModuleType) -> tuple[Node, ...]:
    return tuple(
        node(declared.function, list(declared.inputs), [output.name for output in declared.outputs])
        for declared in column_functions(module.__name__)
    )


def load(bundle: Bundle) -> LoadedRelease:
    return load_release(bundle.path, digest=bundle.digest, version=1, code=running_code())


def test_an_old_bundle_answers_bit_by_bit_as_before_under_changed_column_functions(
    tmp_path: Path, changed: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path)
    old = world.seal()
    before, fallback = load(old).score_model(REQUEST, VIEWS), load(old).score_fallback(REQUEST)

    deployed = nodes_of(changed)
    assert {step.func.__name__ for step in deployed} == {step.func.__name__ for step in column_nodes()}
    new = world.seal(nodes=deployed)
    for name in ("lead_time", "local_departure", "aircraft_rotation"):
        monkeypatch.setattr(nodes, name, getattr(changed, name))
    assert new.digest != old.digest
    again, changed_answers = load(old).score_model(REQUEST, VIEWS), load(new).score_model(REQUEST, VIEWS)

    assert again.probability.tobytes() == before.probability.tobytes()
    assert again.numeric.tobytes() == before.numeric.tobytes()
    assert load(old).score_fallback(REQUEST).probability.tobytes() == fallback.probability.tobytes()
    place = NUMERIC.index("horizon_min")
    np.testing.assert_allclose(changed_answers.numeric[:, place] - before.numeric[:, place], 30.0, atol=1e-3)


def test_an_old_bundle_needs_no_column_function_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = World(tmp_path).seal()
    before = load(bundle).score_model(REQUEST, VIEWS)
    for name in [declared.name for declared in column_functions(nodes.__name__)]:
        monkeypatch.delattr(nodes, name)
    after = load(bundle).score_model(REQUEST, VIEWS)
    assert after.probability.tobytes() == before.probability.tobytes()
