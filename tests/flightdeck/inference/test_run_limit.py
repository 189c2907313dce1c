"""A run that never ends is ended, and its model is left alone until it may be tried again."""

from pathlib import Path
from time import monotonic

import numpy as np
import onnxruntime as ort
import pytest

from flightdeck.core.errors import BundleRefused
from flightdeck.inference import run_limit
from flightdeck.inference.ladder import Rung, descend
from flightdeck.inference.onnx_model import NUMERIC as OUTPUT
from flightdeck.inference.onnx_model import PROBABILITIES, OnnxModel
from flightdeck.inference.release_bundle import load_release
from flightdeck.inference.run_limit import LimitedRuns
from pipelines.features.model_input import NUMERIC
from pipelines.features.views import VIEWS
from serving.use_case import running_code
from tests.graphs import endless, joined, raising, request_rows, view_columns, view_rows
from tests.serving.world import World


def opened(folder: Path, core: bytes) -> OnnxModel:
    path = folder / "model.onnx"
    path.write_bytes(joined(core, NUMERIC, VIEWS))
    return OnnxModel.open(path, n_views=len(view_columns()), n_numeric=len(NUMERIC))


def test_a_model_that_never_ends_is_ended_and_the_next_rung_answers(tmp_path: Path) -> None:
    model = opened(tmp_path, endless(len(NUMERIC)))
    request, views = request_rows(3), view_rows(3)
    request["distance_miles"][:] = 0
    assert model.predict(request, views).probability.tolist() == [0.5] * 3
    request["distance_miles"][1] = 900
    with pytest.raises(TimeoutError, match="ended after"):
        model.predict(request, views)
    rungs = [
        Rung("champion", lambda rows: model.predict(request, views).probability[rows]),
        Rung("rules", lambda rows: np.full(len(rows), 0.25)),
    ]
    found = descend(rungs, 3)
    assert found.failures == [("champion:too_slow",)] * 3
    assert found.probability.tolist() == [0.25] * 3
    with pytest.raises(TimeoutError, match="left alone"):
        model.predict(request, views)
    assert run_limit._running == {}


def test_a_model_that_raises_is_not_left_alone(tmp_path: Path) -> None:
    model = opened(tmp_path, raising(len(NUMERIC)))
    request, views = request_rows(2), view_rows(2)
    for _ in range(5):
        with pytest.raises(Exception, match=r"(?i)indices element out of data bounds"):
            model.predict(request, views)
    request["distance_miles"][:] = 0
    assert model.predict(request, views).probability.tolist() == [0.5] * 2


def test_a_model_is_tried_again_after_its_pause_and_trusted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(joined(endless(len(NUMERIC)), NUMERIC, VIEWS))
    runs = LimitedRuns(ort.InferenceSession(str(path)), ort.RunOptions, limit_s=0.5)
    request, views = request_rows(1), view_rows(1)

    def ask(distance: int) -> float:
        names = {node.name for node in runs._session.get_inputs()} - {"views"}
        feed = {name: request[name] for name in names} | {"views": views, "distance_miles": np.array([distance])}
        return float(runs.run([PROBABILITIES, OUTPUT], feed)[0][0, 1])

    with pytest.raises(TimeoutError):
        ask(900)
    later_s = monotonic() + 2 * run_limit.MAX_PAUSE_S
    monkeypatch.setattr(run_limit, "monotonic", lambda: later_s)
    assert ask(0) == 0.5
    assert ask(0) == 0.5
    assert runs._breaker.state(later_s).value == "closed"


def test_a_bundle_whose_model_hangs_is_refused_when_it_is_opened(world: World) -> None:
    bundle = world.seal(model=joined(endless(len(NUMERIC), beyond=-1.0), NUMERIC, VIEWS))
    with pytest.raises(BundleRefused, match=r"model\.onnx raised on a row of unknown values: TimeoutError"):
        load_release(bundle.path, digest=bundle.digest, version=1, code=running_code())


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)
