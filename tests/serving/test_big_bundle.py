"""A real bundle of 2.1 GB: delivered, opened and answering, in about the memory that it is large."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from flightdeck.core.layout import PROJECT
from flightdeck.core.memory import available_bytes
from flightdeck.inference.bundle import Bundle
from flightdeck.inference.bundle_memory import needed_bytes
from flightdeck.inference.delivery import fetch_bundle
from pipelines.features.views import VIEWS
from tests.graphs import joined, model_numeric
from tests.serving.world import World

WEIGHT = 1e-6
N_BYTES = 2_100_000_000
FREE_DISK, FREE_MEMORY = 10 << 30, 6 << 30
BESIDES = 450_000_000  # interpreter, libraries, and the 66 MB row that the model multiplies into, a few times over
CODE = """
import json, sys
from pathlib import Path
import numpy as np
from flightdeck.inference.release_bundle import load_release
from serving.use_case import running_code
from tests.graphs import request_rows, view_rows

release = load_release(Path(sys.argv[1]), digest=sys.argv[2], version=1, code=running_code())
scores = [release.score_model(request_rows(1, seed), view_rows(1, seed=seed)) for seed in (1, 2)]
answers = [(float(score.probability[0]), float(np.nansum(score.numeric, dtype=float))) for score in scores]
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
peak = {name: int(status[name].split()[0]) * 1024 for name in ("VmHWM", "RssAnon", "RssFile")}
print(json.dumps({"answers": answers, **peak}))
"""


def wide_model(n_numeric: int, n_columns: int) -> bytes:
    """Return a model with weights `(n_numeric, n_columns)` outside: the mean of all that they give is the logit."""
    weights = TensorProto(name="weights", data_type=TensorProto.FLOAT, dims=[n_numeric, n_columns])
    weights.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "weights.bin"), ("offset", "0"), ("length", str(4 * n_numeric * n_columns))):
        entry = weights.external_data.add()
        entry.key, entry.value = key, value
    tensors = [
        weights,
        helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0]),
        helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0]),
        helper.make_tensor("axis", TensorProto.INT64, [1], [1]),
    ]
    nodes = [
        helper.make_node("IsNaN", ["numeric"], ["missing"]),
        helper.make_node("Where", ["missing", "zero", "numeric"], ["known"]),
        helper.make_node("MatMul", ["known", "weights"], ["many"]),
        helper.make_node("ReduceMean", ["many", "axis"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["late"]),
        helper.make_node("Sub", ["one", "late"], ["punctual"]),
        helper.make_node("Concat", ["punctual", "late"], ["probabilities"], axis=1),
    ]
    numeric = helper.make_tensor_value_info("numeric", TensorProto.FLOAT, ["n", n_numeric])
    output = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 2])
    graph = helper.make_graph(nodes, "wide", [numeric], [output], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return bytes(model.SerializeToString())


def seal_wide(world: World) -> Bundle:
    n_numeric = len(model_numeric())
    n_columns = N_BYTES // (4 * n_numeric)
    world.seal()
    draft = world.layout.draft_bundle
    core = wide_model(n_numeric, n_columns)
    (draft / "model.onnx").write_bytes(joined(core, model_numeric(), VIEWS))
    row = np.random.default_rng(0).normal(WEIGHT, WEIGHT, n_columns).astype("<f4")
    with (draft / "weights.bin").open("wb") as stream:
        for place in range(n_numeric):
            stream.write(np.roll(row, place).tobytes())
    bundle = world.seal_draft()
    shutil.rmtree(draft)
    return bundle


@pytest.mark.slow
def test_a_bundle_of_2_gb_is_delivered_opened_and_answers(tmp_path: Path) -> None:
    memory = available_bytes()
    if shutil.disk_usage(tmp_path).free < FREE_DISK or (memory is not None and memory < FREE_MEMORY):
        pytest.skip("10 GB of disk and 6 GB of memory are needed")
    sealed = seal_wide(World(tmp_path / "trainer"))
    n_bytes = sum(entry.n_bytes for entry in sealed.manifest.files.values())
    assert n_bytes > 2_000_000_000
    done = fetch_bundle(sealed.path.parent, tmp_path / "server", digest=sealed.digest)
    assert done.n_copied_bytes == n_bytes
    shutil.rmtree(sealed.path.parent)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(PROJECT / "src"), str(PROJECT)])}
    command = [sys.executable, "-c", CODE, str(done.bundle.path), sealed.digest]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, cwd=PROJECT)
    found = json.loads(ran.stdout)
    shutil.rmtree(tmp_path / "server")
    print(f"\nbundle {n_bytes / 1e6:,.0f} MB; peak RSS {found['VmHWM'] / 1e6:,.0f} MB")
    print(f"of it private {found['RssAnon'] / 1e6:,.0f} MB, mapped files {found['RssFile'] / 1e6:,.0f} MB")
    answered, sums = np.array(found["answers"]).T
    np.testing.assert_allclose(answered, 1 / (1 + np.exp(-WEIGHT * sums)), atol=2e-3)
    assert abs(answered[0] - answered[1]) > 0.005, "far more than the tolerance above"
    assert found["VmHWM"] <= 1.15 * n_bytes + BESIDES
    assert found["VmHWM"] <= needed_bytes(sealed.manifest) + BESIDES, "what was asked for is enough"
    assert found["RssAnon"] < BESIDES, "the weights are pages of the file, which workers share"
