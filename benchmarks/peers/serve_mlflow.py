"""`mlflow models serve`: saves the model with its signature, as flavour sklearn or onnx, then becomes the command."""

import json
import os
import sys
from pathlib import Path

import mlflow
import numpy as np
import onnx
from mlflow.models import infer_signature
from serving_model import CATEGORICAL, FOLDER, NUMERIC, frame, load_pipeline


def save(flavour: str, folder: Path) -> None:
    rows = json.loads((FOLDER / "sample.json").read_text())
    if flavour == "sklearn":
        pipeline = load_pipeline()
        inputs = frame(rows)
        mlflow.sklearn.save_model(
            pipeline,
            folder,
            signature=infer_signature(inputs, pipeline.predict_proba(inputs)),
            pyfunc_predict_fn="predict_proba",
            serialization_format="cloudpickle",
        )
        return
    tensors = {name: np.array([[row[name]] for row in rows]) for name in CATEGORICAL}
    tensors["numeric"] = np.array([[row[name] for name in NUMERIC] for row in rows], dtype=np.float32)
    mlflow.onnx.save_model(
        onnx.load(FOLDER / "model.onnx"),
        folder,
        signature=infer_signature(tensors),
        onnx_session_options={"intra_op_num_threads": 1, "inter_op_num_threads": 1},
        onnx_execution_providers=["CPUExecutionProvider"],
    )


if __name__ == "__main__":
    port, flavour, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    save(flavour, folder)
    program = Path(sys.executable).parent / "mlflow"
    os.environ["PATH"] = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    command = ["models", "serve", "-m", str(folder), "--env-manager", "local", "-h", "127.0.0.1", "-p", port, "-w", "1"]
    os.execv(program, [str(program), *command])  # noqa: S606 - this process becomes the server
