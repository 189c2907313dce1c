"""A bundle's model for people who know MLflow: copied into MLflow as it stands, imported by nothing here.

MLflow runs this file when somebody loads the registered version (`mlflow.pyfunc.load_model`). It needs no package of
this project, only the graph beside it, so two versions live in one process and neither depends on the code that it was
trained with. One thread a call, as the service.
"""

import json
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import onnxruntime
import pandas as pd

_TYPES: dict[str, Any] = {"tensor(int64)": np.int64, "tensor(string)": object}


class BundleModel(mlflow.pyfunc.PythonModel):
    """Takes one row a request: its columns and those of the feature views; gives `probability`."""

    def load_context(self, context: Any) -> None:
        """Open the graph."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        model, features = context.artifacts["model"], context.artifacts["features"]
        self._session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        self._view_columns = json.loads(Path(features).read_text("utf-8"))["view_columns"]

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:
        """Return the probability of the positive class for each row, in order."""
        del context, params
        feed = {
            entry.name: model_input[self._view_columns].to_numpy(np.float64)
            if entry.name == "views"
            else model_input[entry.name].to_numpy(_TYPES[entry.type])
            for entry in self._session.get_inputs()
        }
        both = self._session.run(["probabilities"], feed)[0]
        return pd.DataFrame({"probability": both[:, 1].astype(np.float64)}, index=model_input.index)


mlflow.models.set_model(BundleModel())
