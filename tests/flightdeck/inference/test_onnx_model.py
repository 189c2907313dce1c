from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from flightdeck.core.errors import BundleRefused
from flightdeck.inference.onnx_model import OnnxModel
from pipelines.features.model_input import CATEGORICAL, NUMERIC
from tests.serving.world import bundle_files

TEXTS = {"carrier": ["UA", "??"], "origin": ["EWR", "JFK"], "dest": ["IAH", "MIA"]}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "model.onnx").write_bytes(bundle_files(1)["model.onnx"])
    return tmp_path / "model.onnx"


def open_model(path: Path) -> OnnxModel:
    return OnnxModel.open(path, categorical=CATEGORICAL, n_numeric=len(NUMERIC))


def test_predicts_a_probability_for_known_unseen_and_missing_values(path: Path) -> None:
    numeric = np.full((2, len(NUMERIC)), np.nan, dtype=np.float32)
    numeric[0] = 100
    found = open_model(path).predict(TEXTS, numeric)
    assert found.shape == (2,)
    assert found.dtype == np.float64
    assert ((found > 0) & (found < 1)).all()


def test_row_by_row_equals_batch_and_no_rows_give_none(path: Path) -> None:
    model = open_model(path)
    numeric = np.random.default_rng(0).normal(100, 80, (2, len(NUMERIC))).astype(np.float32)
    batch = model.predict(TEXTS, numeric)
    rows = [model.predict({k: v[i : i + 1] for k, v in TEXTS.items()}, numeric[i : i + 1])[0] for i in range(2)]
    assert batch.tolist() == rows
    assert model.predict({name: [] for name in TEXTS}, numeric[:0]).shape == (0,)


def test_wrong_shapes_raise(path: Path) -> None:
    model = open_model(path)
    with pytest.raises(ValueError, match="numeric has shape"):
        model.predict(TEXTS, np.zeros((2, 3), np.float32))
    with pytest.raises(ValueError, match="rows"):
        model.predict(TEXTS, np.zeros((3, len(NUMERIC)), np.float32))


def test_a_signature_that_differs_from_the_declaration_is_refused_with_every_difference(path: Path) -> None:
    with pytest.raises(BundleRefused, match=r"'gate' is missing.*'carrier' is not declared.*'numeric'"):
        OnnxModel.open(path, categorical=("origin", "dest", "gate"), n_numeric=2)


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
    secret.write_bytes(np.zeros((len(NUMERIC), 2), np.float32).tobytes())
    (folder / "link.bin").symlink_to(secret)
    weights = helper.make_tensor("weights", TensorProto.FLOAT, [len(NUMERIC), 2], [0.0] * 2 * len(NUMERIC))
    weights.ClearField("float_data")
    weights.data_location = TensorProto.EXTERNAL
    entry = weights.external_data.add()
    entry.key, entry.value = "location", location.format(absolute=secret)
    strings = [helper.make_tensor_value_info(name, TensorProto.STRING, [None, 1]) for name in CATEGORICAL]
    numeric = helper.make_tensor_value_info("numeric", TensorProto.FLOAT, [None, len(NUMERIC)])
    output = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 2])
    node = helper.make_node("MatMul", ["numeric", "weights"], ["probabilities"])
    graph = helper.make_graph([node], "external", [*strings, numeric], [output], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(BundleRefused):
        open_model(folder / "model.onnx")
