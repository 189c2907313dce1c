import json
import os
import signal
import subprocess
import sys

import pytest

from tests.serving.process import PATIENCE_S, Service, free_port, serving
from tests.serving.world import World, ask

FORBIDDEN = (
    "mlflow",
    "sklearn",
    "skops",
    "kedro.framework.session",
    "kedro.framework.project",
    "kedro.runner",
    "joblib",
    "evidently",
    "streamlit",
    "pandas",
    "pandera",
    "papermill",
    "flightdeck.monitoring",
    "flightdeck.gates",
    "dashboards",
)


def test_the_process_that_answers_imports_no_pickle_reader_and_no_workbench(world: World) -> None:
    world.feed_store()
    world.release(world.seal())
    with serving(world.layout.root, module="tests.serving.list_modules") as service:
        assert service.predict(ask()).json()["predictions"][0]["mode"] == "model"
        service.get("/docs")
        service.stop(signal.SIGINT)
    modules = set(json.loads((world.layout.root / "modules.json").read_text("utf-8")))
    assert "onnxruntime" in modules
    assert sorted(modules & set(FORBIDDEN)) == []


def test_sigterm_stops_it_cleanly(world: World) -> None:
    world.feed_store()
    world.release(world.seal())
    with serving(world.layout.root) as service:
        service.predict(ask(5))
        service.stop()
        assert "Application shutdown complete" in service.log.read_text("utf-8")
    assert len(world.records()) == 5


def test_a_wrong_clock_is_refused_at_the_start(world: World) -> None:
    environment = {**os.environ, "FLIGHTDECK_CLOCK": "evnt", "FLIGHTDECK_DATA": str(world.layout.root)}
    found = subprocess.run(
        [sys.executable, "-m", "serving", "--port", str(free_port())], env=environment, capture_output=True, text=True
    )
    assert found.returncode != 0
    assert "did you mean 'event'" in found.stderr


def test_kedro_serve_becomes_the_service_under_its_own_process_id(world: World) -> None:
    world.release(world.seal())
    port = free_port()
    log = world.layout.root / "kedro-serve.log"
    code = f"from flightdeck.cli.serve import serve; serve(['--port', '{port}'])"
    environment = {**os.environ, "FLIGHTDECK_DATA": str(world.layout.root), "FLIGHTDECK_CLOCK": "event"}
    with log.open("wb") as stream:
        process = subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=stream, stderr=stream)
    service = Service(process, port, log)
    try:
        service.wait_until(lambda: f"Started server process [{process.pid}]" in log.read_text("utf-8"), "the start")
        service.wait_until(lambda: "Uvicorn running" in log.read_text("utf-8"), "the service to listen")
        assert service.predict(ask()).status == 200
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


@pytest.mark.parametrize("port", ["0", "65536", "http"])
def test_an_impossible_port_is_refused(port: str) -> None:
    found = subprocess.run([sys.executable, "-m", "serving", "--port", port], capture_output=True, text=True)
    assert found.returncode == 2
    assert "--port" in found.stderr
