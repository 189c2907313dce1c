"""The processes of `kedro up`: service, dashboard, MLflow, compaction of the prediction log, controller of rollouts."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flightdeck.core.layout import Layout
from flightdeck.core.processes import Process, Processes, free_port

LOOPBACK = "127.0.0.1"
SERVICE_PORT, DASHBOARD_PORT, MLFLOW_PORT = 8000, 8501, 5000
READY_WITHIN_S = 180.0
COMPACT = ("predictions", "compact", "--follow", "--delete-segments")
ROLLOUT = ("release", "rollout", "--follow")
ALL = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PYTHONUNBUFFERED": "1",
    "COLUMNS": "220",  # logs in files are not cut at 80 columns
}


@dataclass(frozen=True)
class Service:
    """A running process that people can visit.

    Parameters
    ----------
    title
        What it is called.
    process
        Its process.
    url
        Address to visit.
    ready_url
        Address that answers 200 when it is ready.
    """

    title: str
    process: Process
    url: str
    ready_url: str


def child_environment(**more: str) -> dict[str, str]:
    """Return the environment of child processes: ours, without telemetry and without a bound on threads."""
    kept = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    return {**kept, **ALL, **more}


def start_services(
    processes: Processes, project: Path, where: Layout, logs: Path, *, ports: Mapping[str, int]
) -> list[Service]:
    """Start the service, the dashboard and, where its database is ours, MLflow; return without waiting for them.

    What makes the prediction log Parquet is started too, and the controller of rollouts; nobody visits them.

    Parameters
    ----------
    processes
        What they are started in.
    project
        Folder of the project.
    where
        Where data lies.
    logs
        Folder for their output.
    ports
        First port to try, by `service`, `dashboard` and `mlflow`; taken ones are passed over.
    """
    started = [_prediction_service(processes, project, logs, ports["service"])]
    started.append(_dashboard(processes, project, logs, ports["dashboard"]))
    if where.mlflow_uri.startswith("sqlite:"):
        started.append(_mlflow(processes, where, logs, ports["mlflow"]))
    _in_background(processes, project, logs, "the compaction of the prediction log", "compaction", COMPACT)
    _in_background(processes, project, logs, "the controller of rollouts", "rollout", ROLLOUT)
    return started


def _prediction_service(processes: Processes, project: Path, logs: Path, first_port: int) -> Service:
    port = free_port(first_port)
    url = f"http://{LOOPBACK}:{port}"
    process = processes.start(
        "the prediction service",
        [program("kedro"), "serve", "--port", str(port)],
        log_path=logs / "service.log",
        environment=child_environment(FLIGHTDECK_CLOCK="event"),
        folder=project,
    )
    return Service("Predictions", process, f"{url}/docs", f"{url}/readyz")


def _dashboard(processes: Processes, project: Path, logs: Path, first_port: int) -> Service:
    port = free_port(first_port)
    url = f"http://{LOOPBACK}:{port}"
    options = {
        "server.headless": "true",
        "server.port": str(port),
        "server.address": LOOPBACK,
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": "false",
    }
    arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
    process = processes.start(
        "the dashboard",
        [program("streamlit"), "run", "dashboards/app.py", *arguments],
        log_path=logs / "dashboard.log",
        environment=child_environment(),
        folder=project,
    )
    return Service("Dashboard", process, url, f"{url}/_stcore/health")


def _mlflow(processes: Processes, where: Layout, logs: Path, first_port: int) -> Service:
    port = free_port(first_port)
    url = f"http://{LOOPBACK}:{port}"
    arguments = ["--backend-store-uri", where.mlflow_uri, "--artifacts-destination", str(where.mlflow_artifacts)]
    process = processes.start(
        "MLflow",
        [program("mlflow"), "server", *arguments, "--host", LOOPBACK, "--port", str(port), "--workers", "1"],
        log_path=logs / "mlflow.log",
        environment=child_environment(MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false"),
        folder=where.root,
    )
    return Service("MLflow", process, url, f"{url}/health")


def _in_background(
    processes: Processes, project: Path, logs: Path, title: str, log: str, command: tuple[str, ...]
) -> None:
    processes.start(
        title,
        [program("kedro"), *command],
        log_path=logs / f"{log}.log",
        environment=child_environment(),
        folder=project,
    )


def program(name: str) -> str:
    """Return the path of a program of this virtual environment."""
    return str(Path(sys.executable).with_name(name))
