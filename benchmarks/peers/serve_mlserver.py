"""MLServer with the scikit-learn pipeline behind its data frame codec, adaptive batching on. Runs its own command.

Writes the settings of server and model into a folder, then becomes `mlserver start`.
"""

import json
import os
import sys
from pathlib import Path

from mlserver import MLModel
from mlserver.codecs import NumpyCodec, PandasCodec
from mlserver.types import InferenceRequest, InferenceResponse
from serving_model import frame, load_pipeline


class FlightModel(MLModel):
    async def load(self) -> bool:
        self._pipeline = load_pipeline()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        rows = PandasCodec.decode_request(payload)
        found = self._pipeline.predict_proba(frame(rows))[:, 1]
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("probabilities", found)])


def start(port: int, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    server = {
        "host": "127.0.0.1",
        "http_port": port,
        "grpc_port": port + 1,
        "metrics_endpoint": None,
        "parallel_workers": 0,
        "debug": False,
    }
    model = {
        "name": "late",
        "implementation": "serve_mlserver.FlightModel",
        "max_batch_size": 64,
        "max_batch_time": 0.002,
    }
    (folder / "settings.json").write_text(json.dumps(server))
    (folder / "model-settings.json").write_text(json.dumps(model))
    program = Path(sys.executable).parent / "mlserver"
    os.execv(program, [str(program), "start", str(folder)])  # noqa: S606 - this process becomes the server


if __name__ == "__main__":
    start(int(sys.argv[1]), Path(sys.argv[2]))
