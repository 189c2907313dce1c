"""Large tensors lie in a file beside their graph, and a bundle can name no other file."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, compose, helper, numpy_helper

from flightdeck.core.errors import BundleRefused, ContractViolation
from flightdeck.inference.bundle import Bundle
from flightdeck.inference.datasets import DraftBundleDataset
from flightdeck.inference.export import predict_numeric, predict_onnx
from flightdeck.inference.external_data import external_locations
from flightdeck.inference.large_graph import ALIGNED_BYTES, write_graph
from flightdeck.inference.release_bundle import load_release
from pipelines.features.model_input import CATEGORICAL
from pipelines.features.views import VIEWS
from serving.use_case import running_code
from tests.graphs import joined, model_numeric, request_rows, view_rows, weighted_sum
from tests.serving.world import World, bundle_files

WEIGHTS = [0.001 * place for place in range(len(model_numeric()))]


def small_model() -> bytes:
    return joined(weighted_sum(WEIGHTS), model_numeric(), VIEWS)


def pointing_to(location: str, content: bytes | None = None) -> bytes:
    """Return the small model with its weights in a file called `location`, at byte 0."""
    model = onnx.load_from_string(content or small_model())
    tensor = next(tensor for tensor in model.graph.initializer if tensor.name.endswith("weights"))
    point(tensor, location)
    return bytes(model.SerializeToString())


def point(tensor: onnx.TensorProto, location: str) -> None:
    for values in ("float_data", "raw_data"):
        tensor.ClearField(values)
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0")):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value


def weights() -> bytes:
    return np.array(WEIGHTS, dtype="<f4").tobytes()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def seal_with(world: World, content: bytes, **beside: bytes) -> Bundle:
    """Seal a bundle of a model and of files beside it, given by name with `_` for the dot."""
    world.seal()
    draft = world.layout.draft_bundle
    (draft / "model.onnx").write_bytes(content)
    for name, values in beside.items():
        (draft / name.replace("_", ".")).write_bytes(values)
    return world.seal_draft()


def test_a_graph_without_large_tensors_is_written_byte_by_byte(tmp_path: Path) -> None:
    for name, content in bundle_files(1).items():
        if name.endswith(".onnx"):
            write_graph(tmp_path / name, content)
            write_graph(tmp_path / f"small-{name}", content, large_bytes=4096)
            assert (tmp_path / name).read_bytes() == content == (tmp_path / f"small-{name}").read_bytes()
    assert not list(tmp_path.glob("*.data"))


def test_large_tensors_lie_outside_and_mean_the_same(tmp_path: Path) -> None:
    content, request, views = small_model(), request_rows(50), view_rows(50)
    write_graph(tmp_path / "model.onnx", content, large_bytes=64)
    assert external_locations(tmp_path / "model.onnx") == ("model.onnx.data",)
    again = onnx.load(str(tmp_path / "model.onnx"))
    for ours, theirs in zip(onnx.load_from_string(content).graph.initializer, again.graph.initializer, strict=True):
        np.testing.assert_array_equal(numpy_helper.to_array(ours), numpy_helper.to_array(theirs))
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    feed = {node.name: views if node.name == "views" else request[node.name] for node in session.get_inputs()}
    answered = session.run(["probabilities"], feed)[0][:, 1]
    np.testing.assert_allclose(answered, predict_onnx(content, request, views).probability, atol=1e-6)


def test_each_tensor_begins_at_a_page(tmp_path: Path) -> None:
    tensors = [numpy_helper.from_array(np.full(100, place, np.int64), f"t{place}") for place in range(3)]
    graph = helper.make_graph([], "three", [], [], tensors)
    write_graph(tmp_path / "model.onnx", helper.make_model(graph).SerializeToString(), large_bytes=800)
    found = onnx.load(str(tmp_path / "model.onnx"), load_external_data=False).graph.initializer
    offsets = [int(next(entry.value for entry in t.external_data if entry.key == "offset")) for t in found]
    assert offsets == [0, ALIGNED_BYTES, 2 * ALIGNED_BYTES]
    with pytest.raises(ContractViolation, match="there already"):
        write_graph(tmp_path / "model.onnx", helper.make_model(graph).SerializeToString(), large_bytes=800)


def test_a_draft_takes_files_that_are_too_large_for_memory(tmp_path: Path) -> None:
    (tmp_path / "made").write_bytes(weights())
    draft = DraftBundleDataset(filepath=str(tmp_path / "draft"))
    draft.save({"model.onnx": pointing_to("w.bin"), "w.bin": tmp_path / "made", "runbook.md": b"# Serving"})
    assert (tmp_path / "draft" / "w.bin").read_bytes() == weights()
    assert draft.load()["path"] == str(tmp_path / "draft")


def test_a_model_whose_tensors_lie_outside_is_joined_opened_and_taken_apart(world: World) -> None:
    core = pointing_to("w.bin", weighted_sum(WEIGHTS))
    content, request, views = joined(core, model_numeric(), VIEWS), request_rows(50), view_rows(50)
    bundle = seal_with(world, content, w_bin=weights())
    release = load_release(bundle.path, digest=bundle.digest, version=1, code=running_code())
    expected = predict_onnx(small_model(), request, views)
    scores = release.score_model(request, views)
    np.testing.assert_allclose(scores.probability, expected.probability, atol=1e-6)
    whole = predict_onnx(content, request, views, beside=bundle.path)
    np.testing.assert_allclose(whole.probability, expected.probability, atol=1e-6)
    np.testing.assert_array_equal(whole.numeric, expected.numeric)
    texts = {name: request[name] for name in CATEGORICAL}
    alone = predict_numeric(content, texts, scores.numeric, beside=bundle.path)
    np.testing.assert_allclose(alone, expected.probability, atol=1e-6)


@pytest.mark.parametrize(
    "location",
    [
        "../w.bin",
        "/etc/hostname",
        "reference/w.bin",
        "./w.bin",
        "..",
        "",
        "other.bin",
        "*/_ORT_MEM_ADDR_/*",
        "..\\w.bin",
    ],
)
def test_a_location_that_is_no_listed_file_beside_the_graph_is_refused(world: World, location: str) -> None:
    (world.layout.root / "06_models").mkdir(parents=True)
    (world.layout.root / "06_models" / "w.bin").write_bytes(weights())
    with pytest.raises(BundleRefused, match=r"tensors of model\.onnx lie in .*only a plain name"):
        seal_with(world, pointing_to(location), w_bin=weights())


def test_a_location_that_is_a_link_is_refused(world: World) -> None:
    bundle = seal_with(world, pointing_to("w.bin"), w_bin=weights())
    elsewhere = world.layout.root / "elsewhere"
    (bundle.path / "w.bin").rename(elsewhere)
    (bundle.path / "w.bin").symlink_to(elsewhere)
    with pytest.raises(BundleRefused, match=r"w\.bin is a link"):
        load_release(bundle.path, digest=bundle.digest, version=1, code=running_code())


def test_tensors_that_are_cut_short_are_refused(world: World) -> None:
    bundle = seal_with(world, pointing_to("w.bin"), w_bin=weights()[:-8])
    with pytest.raises(BundleRefused, match="onnxruntime refuses it"):
        load_release(bundle.path, digest=bundle.digest, version=1, code=running_code())


def everywhere() -> Iterator[tuple[str, onnx.ModelProto]]:
    """Yield models with a tensor outside at each place where ONNX allows one."""

    def outside() -> onnx.TensorProto:
        tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1])
        point(tensor, "there.bin")
        return tensor

    def model(graph: onnx.GraphProto) -> onnx.ModelProto:
        return helper.make_model(graph, doc_string="location")

    def within(**attribute: object) -> onnx.ModelProto:
        return model(helper.make_graph([helper.make_node("If", ["location"], ["y"], **attribute)], "g", [], []))

    inner = helper.make_graph([], "inner", [], [], [outside()])
    sparse = onnx.SparseTensorProto(values=outside(), indices=outside(), dims=[1])
    yield "initializer", model(helper.make_graph([], "g", [], [], [outside()]))
    yield "sparse", model(helper.make_graph([], "g", [], [], sparse_initializer=[sparse]))
    yield "attribute", within(value=outside())
    yield "attributes", within(values=[outside(), outside()])
    yield "branch", within(then_branch=inner)
    yield "branches", within(branches=[inner])
    yield "sparse attribute", within(value=sparse)
    function = helper.make_function("d", "f", [], ["y"], [helper.make_node("Constant", [], ["y"], value=outside())], [])
    yield "function", helper.make_model(helper.make_graph([], "g", [], []), functions=[function])
    training = helper.make_model(helper.make_graph([], "g", [], []))
    training.training_info.append(onnx.TrainingInfoProto(initialization=inner))
    yield "training", training
    yield "prefixed", compose.add_prefix(model(helper.make_graph([], "g", [], [], [outside()])), "model/")


@pytest.mark.parametrize(("where", "model"), everywhere(), ids=[where for where, _ in everywhere()])
def test_tensors_are_found_wherever_they_are(tmp_path: Path, where: str, model: onnx.ModelProto) -> None:
    path = tmp_path / f"{where}.onnx"
    path.write_bytes(model.SerializeToString())
    assert external_locations(path) == ("there.bin",)


def test_a_column_called_location_is_no_tensor(tmp_path: Path) -> None:
    column = helper.make_tensor_value_info("location", TensorProto.FLOAT, ["n"])
    node = helper.make_node("Identity", ["location"], ["y"])
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])
    (tmp_path / "model.onnx").write_bytes(
        helper.make_model(helper.make_graph([node], "g", [column], [output])).SerializeToString()
    )
    assert external_locations(tmp_path / "model.onnx") == ()


@pytest.mark.parametrize("content", [b"\x3a\x7flocation", b"\x3b location", b"\xff" * 12 + b"location"])
def test_what_is_no_graph_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(BundleRefused, match="no ONNX graph"):
        external_locations(tmp_path / "model.onnx")
