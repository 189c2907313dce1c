"""BentoML with the model in ONNX: `Plain` answers each request, `Adaptive` batches by its own estimate."""

from typing import Any

import bentoml
from serving_model import OnnxModel, Row

SETTINGS: dict[str, Any] = {"workers": 1, "traffic": {"timeout": 60}, "metrics": {"enabled": False}}


@bentoml.service(**SETTINGS)
class Plain:
    def __init__(self) -> None:
        self._model = OnnxModel()

    @bentoml.api
    def predict(self, rows: list[dict[str, Any]]) -> list[float]:
        return self._model.predict(rows)


@bentoml.service(**SETTINGS)
class Adaptive:
    def __init__(self) -> None:
        self._model = OnnxModel()

    @bentoml.api(batchable=True, max_batch_size=512, max_latency_ms=100)
    def predict(self, rows: list[dict[str, Any]]) -> list[float]:
        found: list[Row] = rows
        return self._model.predict(found)
