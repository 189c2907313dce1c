"""The joined graph: the same bytes in every process, and its model can be taken out again."""

import os
import subprocess
import sys

import numpy as np
import onnxruntime

from flightdeck.inference.export import predict_onnx
from flightdeck.inference.graph import model_part
from pipelines.features.model_input import CATEGORICAL
from tests.graphs import request_rows, view_rows
from tests.serving.world import bundle_files

DIGESTS = """
from flightdeck.core.identifiers import digest_bytes
from tests.serving.world import bundle_files
files = bundle_files(1)
print(digest_bytes(files["model.onnx"]), digest_bytes(files["fallback.onnx"]))
"""


def test_trained_traced_and_joined_bytes_do_not_depend_on_the_process() -> None:
    """Hashes of texts and addresses of objects differ from process to process; names and order must not."""
    found = {
        subprocess.run(
            [sys.executable, "-c", DIGESTS],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "2", "random", "random")
    }
    assert len(found) == 1 and len(next(iter(found)).split()) == 2


def test_the_model_alone_predicts_the_same_from_what_it_has_read() -> None:
    request, views, content = request_rows(200), view_rows(200), bundle_files(1)["model.onnx"]
    whole = predict_onnx(content, request, views)
    session = onnxruntime.InferenceSession(model_part(content, categorical=CATEGORICAL))
    texts = {name: request[name].reshape(-1, 1) for name in CATEGORICAL}
    both = session.run(["probabilities"], {**texts, "numeric": whole.numeric})[0]
    np.testing.assert_array_equal(both[:, 1].astype(np.float64), whole.probability)
