"""What the serving peers share: the model's files, and rows of a request as their libraries want them.

The folder that `FLIGHT_MODEL` names holds `columns.json` (names of the columns), `model.onnx` (inputs: each
category, and `numeric` as one matrix), `pipeline.joblib` (scikit-learn) and `sample.json` (some rows).
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(os.environ["FLIGHT_MODEL"])
CATEGORICAL, NUMERIC = json.loads((FOLDER / "columns.json").read_text())
Row = dict[str, Any]


class OnnxModel:
    """The model in onnxruntime, one thread: its default thread pool is slower at these sizes."""

    def __init__(self) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(FOLDER / "model.onnx", options, providers=["CPUExecutionProvider"])

    def predict(self, rows: list[Row]) -> list[float]:
        """Return the probability of each row."""
        feed: dict[str, Any] = {name: np.array([[row[name]] for row in rows], dtype=object) for name in CATEGORICAL}
        feed["numeric"] = np.array([[row[name] for name in NUMERIC] for row in rows], dtype=np.float32)
        answer: list[float] = self._session.run(["probabilities"], feed)[0][:, 1].tolist()
        return answer


def load_pipeline() -> Any:
    """Return the fitted scikit-learn pipeline."""
    import joblib

    return joblib.load(FOLDER / "pipeline.joblib")


def frame(rows: list[Row]) -> Any:
    """Return rows as the data frame that the pipeline was fitted with."""
    import pandas as pd

    return pd.DataFrame(rows, columns=[*CATEGORICAL, *NUMERIC]).astype(dict.fromkeys(NUMERIC, "float32"))
