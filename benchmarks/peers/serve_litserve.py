"""LitServe with the model in ONNX; with a batch size above 1 it gathers requests for up to 2 ms."""

import sys
from typing import Any

import litserve
from serving_model import OnnxModel, Row


class FlightApi(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self._model = OnnxModel()
        self._is_batching = self.max_batch_size > 1

    def decode_request(self, request: dict[str, Any]) -> list[Row]:
        return list(request["rows"])

    def batch(self, inputs: list[list[Row]]) -> list[list[Row]]:
        return inputs

    def unbatch(self, output: list[list[float]]) -> list[list[float]]:
        return output

    def predict(self, x: Any) -> Any:
        if not self._is_batching:
            return self._model.predict(x)
        found = iter(self._model.predict([row for rows in x for row in rows]))
        return [[next(found) for _ in rows] for rows in x]

    def encode_response(self, output: list[float]) -> dict[str, list[float]]:
        return {"probabilities": output}


if __name__ == "__main__":
    port, size = int(sys.argv[1]), int(sys.argv[2])
    api = FlightApi(max_batch_size=size, batch_timeout=0.002 if size > 1 else 0.0)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=port, num_api_servers=1, log_level="warning", generate_client_file=False)
