from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from flightdeck.core.errors import BundleRefused
from flightdeck.inference.onnx_model import OnnxModel
from pipelines.features.model_input import NUMERIC
from pipelines.features.views import VIEW_COLUMNS
from tests.graphs import request_rows, view_rows
from tests.serving.world import bundle_files

N_VIEWS = len(VIEW_COLUMNS)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "model.onnx").write_bytes(bundle_files(1)["model.onnx"])
    return tmp_path / "model.onnx"


def open_model(path: Path) -> OnnxModel:
    return OnnxModel.open(path, n_views=N_VIEWS, n_numeric=len(NUMERIC))


def test_predicts_a_probability_for_known_unseen_and_missing_values(path: Path) -> None:
    views = view_rows(9)
    views[0] = np.nan
    found = open_model(path).predict(request_rows(9), views)
    assert found.probability.shape == (9,) and found.probability.dtype == np.float64
    assert ((found.probability > 0) & (found.probability < 1)).all()
    assert found.numeric.shape == (9, len(NUMERIC)) and found.numeric.dtype == np.float32
    np.testing.assert_array_equal(found.numeric[:, -N_VIEWS:], views.astype(np.float32))


def test_row_by_row_equals_batch_and_no_rows_give_none(path: Path) -> None:
    model, request, views = open_model(path), request_rows(30), view_rows(30)
    batch = model.predict(request, views)
    for row in range(30):
        one = slice(row, row + 1)
        single = model.predict({name: column[one] for name, column in request.items()}, views[one])
        assert single.probability[0] == batch.probability[row]
        np.testing.assert_array_equal(single.numeric[0], batch.numeric[row])
    nothing = model.predict({name: column[:0] for name, column in request.items()}, views[:0])
    assert nothing.probability.shape == (0,) and nothing.numeric.shape == (0, len(NUMERIC))


def test_wrong_shapes_and_missing_columns_raise(path: Path) -> None:
    model, request = open_model(path), request_rows(2)
    with pytest.raises(ValueError, match="views has shape"):
        model.predict(request, np.zeros((2, 3)))
    with pytest.raises(ValueError, match="views has shape None"):
        model.predict(request)
    with pytest.raises(ValueError, match="rows"):
        model.predict(request, view_rows(3))
    with pytest.raises(KeyError, match="carrier"):
        model.predict({name: column for name, column in request.items() if name != "carrier"}, view_rows(2))


def test_a_signature_that_differs_from_the_declaration_is_refused_with_every_difference(path: Path) -> None:
    with pytest.raises(
        BundleRefused, match=r"'views' is .*, declared none.*'numeric' is .*, declared float32 \(n, 2\)"
    ):
        OnnxModel.open(path, n_views=0, n_numeric=2)
    (path.parent / "fallback.onnx").write_bytes(bundle_files(1)["fallback.onnx"])
    with pytest.raises(BundleRefused, match="'views' is missing"):
        OnnxModel.open(path.parent / "fallback.onnx", n_views=2, n_numeric=5)


def test_a_graph_that_waits_for_numeric_features_is_refused(path: Path) -> None:
    numeric = helper.make_tensor_value_info("numeric_features", TensorProto.FLOAT, [None, 2])
    output = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2])
    node = helper.make_node("Identity", ["numeric_features"], ["probabilities"])
    graph = helper.make_graph([node], "old", [numeric], [output])
    path.write_bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()
    )
    with pytest.raises(BundleRefused, match=r"'numeric_features' is tensor.*'numeric' is missing"):
        OnnxModel.open(path, n_views=0, n_numeric=2)


@pytest.mark.parametrize("content", [b"", b"not onnx", "half"])
def test_a_damaged_file_is_refused(path: Path, content: bytes | str) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if isinstance(content, str) else content)
    with pytest.raises(BundleRefused):
        open_model(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleRefused):
        open_model(tmp_path / "model.onnx")


@pytest.mark.parametrize("location", ["../secret.bin", "{absolute}", "link.bin"])
def test_external_data_outside_the_folder_is_refused(tmp_path: Path, location: str) -> None:
    folder = tmp_path / "bundle"
    folder.mkdir()
    secret = tmp_path / "secret.bin"
    secret.write_bytes(np.zeros((2, 2), np.float32).tobytes())
    (folder / "link.bin").symlink_to(secret)
    weights = helper.make_tensor("weights", TensorProto.FLOAT, [2, 2], [0.0] * 4)
    weights.ClearField("float_data")
    weights.data_location = TensorProto.EXTERNAL
    entry = weights.external_data.add()
    entry.key, entry.value = "location", location.format(absolute=secret)
    views = helper.make_tensor_value_info("views", TensorProto.DOUBLE, [None, 2])
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 2]) for name in ("probabilities", "numeric")
    ]
    nodes = [
        helper.make_node("Cast", ["views"], ["numeric"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["numeric", "weights"], ["probabilities"]),
    ]
    graph = helper.make_graph(nodes, "external", [views], outputs, [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(BundleRefused, match=r"external|onnxruntime refuses"):
        OnnxModel.open(folder / "model.onnx", n_views=2, n_numeric=2)
    weights.ClearField("external_data")
    weights.ClearField("data_location")
    weights.float_data.extend([0.0] * 4)
    graph = helper.make_graph(nodes, "inside", [views], outputs, [weights])
    inside = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    (folder / "model.onnx").write_bytes(inside.SerializeToString())
    assert OnnxModel.open(folder / "model.onnx", n_views=2, n_numeric=2).n_views == 2
