"""The sides of bench_serving: our server, its peers and the empty answer; one model, one set of flights.

We are asked about flights and read their features ourselves. A peer is given the finished features: the 25 columns that
our model reads of those flights. All must answer what scikit-learn answers for them.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd

from benchmarks.peer import SCRIPTS, environment
from benchmarks.server_process import Server, free_port, our_server, running
from benchmarks.serving_world import COLUMNS, FOUR, NUMERIC, Model, World
from flightdeck.core.errors import FlightdeckError
from flightdeck.features.online import OnlineReader
from flightdeck.features.store import OnlineStore
from flightdeck.inference.bundle import Bundle
from flightdeck.inference.release_bundle import load_release
from pipelines.features.model_input import CATEGORICAL
from pipelines.inference.request import request_columns
from serving.use_case import running_code
from serving.wire import decode

LIMIT = 1e-5  # float32 sums of 250 trees differ by 3e-7
Row = dict[str, Any]


@dataclass(frozen=True)
class Asked:
    """Some requests, as we and as peers are asked them.

    Parameters
    ----------
    questions
        Bodies of our requests.
    rows
        Finished features of the items of each request.
    expected
        Probabilities of the items of each request.
    """

    questions: list[Any]
    rows: list[list[Row]]
    expected: list[list[float]]


@dataclass(frozen=True)
class Side:
    """Something that answers.

    Parameters
    ----------
    name
        What it is called.
    path, headers
        Where it is asked.
    body
        What it is asked, made of a question of ours and the finished rows.
    answers
        Probabilities in its answer; None where it has none to give.
    start
        Runs it in a scratch folder.
    """

    name: str
    path: str
    start: Callable[[Path], Any]
    body: Callable[[Any, list[Row]], Any]
    answers: Callable[[Any], list[float]] | None
    headers: Mapping[str, str] = field(default_factory=dict)

    def bodies(self, asked: Asked) -> list[Any]:
        """Return the bodies of all requests."""
        return [self.body(question, rows) for question, rows in zip(asked.questions, asked.rows, strict=True)]

    def require_right(self, server: Server, asked: Asked) -> None:
        """Refuse to measure a side that answers something else than the model.

        Raises
        ------
        FlightdeckError
            If a probability differs by more than 1e-5, or is missing.
        """
        if self.answers is None:
            return
        for body, expected in zip(self.bodies(asked), asked.expected, strict=True):
            got = self.answers(server.post(self.path, body, self.headers))
            if len(got) != len(expected) or not np.allclose(got, expected, rtol=0, atol=LIMIT):
                raise FlightdeckError(f"checking {self.name}: it answers {got[:3]}, the model says {expected[:3]}")


def asked_of(world: World, bundle: Bundle, model: Model, questions: list[Any]) -> Asked:
    """Return questions with the features that our store gives for them, and scikit-learn's probabilities."""
    release = load_release(bundle.path, digest=bundle.digest, version=1, code=running_code())
    store = OnlineStore.open(world.layout.online_store, read_only=True)
    reader = OnlineReader(store, FOUR)
    rows, expected = [], []
    for question in questions:
        ask = decode(json.dumps(question).encode())
        assert ask.request_timestamp is not None
        columns = request_columns(ask.flights, round(ask.request_timestamp.timestamp() * 1e6))
        read = reader.read(columns, columns["request_us"])
        numeric = release.score_model(columns, read.values).numeric
        frame = pd.DataFrame(numeric, columns=[*NUMERIC])
        for place, name in enumerate(CATEGORICAL):
            frame.insert(place, name, columns[name])
        if bool(frame.isna().to_numpy().any()):
            raise FlightdeckError("preparing the questions: a feature is missing, peers could not be asked fairly")
        expected.append(model.pipeline.predict_proba(frame)[:, 1].tolist())
        rows.append(frame.astype(dict.fromkeys(NUMERIC, float)).to_dict("records"))
    store.close()
    return Asked(questions, rows, expected)  # type: ignore[arg-type]  # the columns are text


def write_model(folder: Path, model: Model, sample: list[Row]) -> None:
    """Write what peers serve: see `peers/serving_model.py`."""
    folder.mkdir()
    (folder / "columns.json").write_text(json.dumps([CATEGORICAL, NUMERIC]))
    (folder / "sample.json").write_text(json.dumps(sample))
    (folder / "model.onnx").write_bytes(model.core)
    joblib.dump(model.pipeline, folder / "pipeline.joblib")


def all_sides(data: Path, model: Path) -> list[Side]:
    """Return every side; ours first, the empty answer last.

    Parameters
    ----------
    data
        Our data root.
    model
        Folder of the peers' model.
    """
    return [
        Side("flightdeck", "/v1/predictions", lambda _: our_server(data), lambda question, _: question, _ours),
        _peer(
            "mlflow_sklearn", model, "mlflow", _own("serve_mlflow.py", "sklearn", "{scratch}/saved"), _split, _second
        ),
        _peer("mlflow_onnx", model, "mlflow", _own("serve_mlflow.py", "onnx", "{scratch}/saved"), _tensors, _second),
        _peer("bentoml", model, "bentoml", _bento("Plain"), _rows, _list),
        _peer("bentoml_adaptive", model, "bentoml", _bento("Adaptive"), _rows, _list),
        _peer("litserve", model, "litserve", _own("serve_litserve.py", "1"), _rows, _named),
        _peer("litserve_batch", model, "litserve", _own("serve_litserve.py", "64"), _rows, _named),
        _peer("mlserver_adaptive", model, "mlserver", _own("serve_mlserver.py", "{scratch}/settings"), _v2, _outputs),
        _peer("fastapi_sklearn", model, "fastapi", _own("serve_fastapi.py"), _rows, _named),
        Side("empty_asgi", "/", _empty, lambda question, _: question, None),
    ]


_PATHS = {"mlflow": ("/invocations", "/ping"), "bentoml": ("/predict", "/readyz"), "litserve": ("/predict", "/health")}
_PATHS |= {"mlserver": ("/v2/models/late/infer", "/v2/models/late/ready"), "fastapi": ("/predict", "/ready")}
Command = Callable[[Path, int, Path], list[str]]


def _peer(
    name: str,
    model: Path,
    kind: str,
    command: Command,
    body: Callable[[Any, list[Row]], Any],
    answers: Callable[[Any], list[float]],
) -> Side:
    path, ready = _PATHS[kind]

    @contextmanager
    def start(scratch: Path) -> Iterator[Server]:
        python, port = environment(f"serve_{kind}"), free_port()
        scratch.mkdir()
        variables = {
            "FLIGHT_MODEL": str(model),
            "PYTHONPATH": str(SCRIPTS),
            "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
            "BENTOML_HOME": str(scratch / "bentoml"),
        }
        with running(command(python, port, scratch), port, scratch, ready=ready, environment=variables) as server:
            yield server

    return Side(name, path, start, body, answers)


def _own(script: str, *arguments: str) -> Command:
    return lambda python, port, scratch: [
        str(python),
        str(SCRIPTS / script),
        str(port),
        *(argument.format(scratch=scratch) for argument in arguments),
    ]


def _bento(service: str) -> Command:
    return lambda python, port, _: [
        *(str(python.parent / "bentoml"), "serve", f"serve_bentoml:{service}"),
        *("--host", "127.0.0.1", "--port", str(port), "--working-dir", str(SCRIPTS)),
    ]


@contextmanager
def _empty(scratch: Path) -> Iterator[Server]:
    port = free_port()
    scratch.mkdir()
    command = [sys.executable, str(Path(__file__).parent / "empty_asgi.py"), str(port)]
    with running(command, port, scratch, ready="/") as server:
        yield server


def _rows(_: Any, rows: list[Row]) -> Any:
    return {"rows": rows}


def _split(_: Any, rows: list[Row]) -> Any:
    return {"dataframe_split": {"columns": COLUMNS, "data": [[row[name] for name in COLUMNS] for row in rows]}}


def _tensors(_: Any, rows: list[Row]) -> Any:
    tensors: dict[str, Any] = {name: [[row[name]] for row in rows] for name in CATEGORICAL}
    return {"inputs": {**tensors, "numeric": [[row[name] for name in NUMERIC] for row in rows]}}


def _v2(_: Any, rows: list[Row]) -> Any:
    inputs = [
        {
            "name": name,
            "shape": [len(rows), 1],
            "datatype": "BYTES" if name in CATEGORICAL else "FP32",
            "data": [row[name] for row in rows],
            **({"parameters": {"content_type": "str"}} if name in CATEGORICAL else {}),
        }
        for name in COLUMNS
    ]
    return {"parameters": {"content_type": "pd"}, "inputs": inputs}


def _ours(answer: Any) -> list[float]:
    return [item["probability"] for item in answer["predictions"] if item["mode"] == "model"]


def _named(answer: Any) -> list[float]:
    return list(answer["probabilities"])


def _list(answer: Any) -> list[float]:
    return list(answer)


def _outputs(answer: Any) -> list[float]:
    return list(answer["outputs"][0]["data"])


def _second(answer: Any) -> list[float]:
    """Return the probabilities of mlflow's answer: pairs, or outputs by name where the model has several."""
    found = answer["predictions"]
    pairs: Sequence[Sequence[float]] = found["probabilities"] if isinstance(found, dict) else found
    return [pair[1] for pair in pairs]
