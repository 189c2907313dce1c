"""The joined graph: the same bytes in every process, and its model can be taken out again."""

import os
import subprocess
import sys

import numpy as np

from flightdeck.inference.export import predict_numeric, predict_onnx
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
    alone = predict_numeric(content, {name: request[name] for name in CATEGORICAL}, whole.numeric)
    np.testing.assert_array_equal(alone, whole.probability)
