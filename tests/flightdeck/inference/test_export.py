"""The same fitted pipeline gives the same bytes, in whatever process it is exported."""

import os
import subprocess
import sys

EXPORT = """
import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OrdinalEncoder
from flightdeck.core.identifiers import digest_bytes
from flightdeck.inference.export import export_onnx
random = np.random.default_rng(1)
frame = pd.DataFrame({"kind": random.choice(["a", "b"], 300), "size": random.normal(size=300).astype(np.float32)})
encode = ColumnTransformer([("kind", OrdinalEncoder(dtype=np.float32), [0]), ("size", "passthrough", [1])])
pipeline = Pipeline([("encode", encode), ("boost", HistGradientBoostingClassifier(max_iter=3, random_state=1))])
pipeline.fit(frame, frame["size"] > 0)
print(digest_bytes(export_onnx(pipeline, categorical=["kind"], n_numeric=1, name="model")))
"""


def test_exported_bytes_do_not_depend_on_the_process() -> None:
    """String hashing differs from process to process; four seeds met both orders of the operator sets before."""
    digests = {
        subprocess.run(
            [sys.executable, "-c", EXPORT],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in range(4)
    }
    assert len(digests) == 1
