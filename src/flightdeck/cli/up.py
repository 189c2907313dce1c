"""`kedro up`: the whole loop on one machine, what `make run` calls.

Golden path (or what an earlier one left), release, service, dashboard, MLflow, controller, replay of one day,
monitoring, summary. Beside a champion a new version begins as shadow; the controller moves it on by what it shows.
Everything that it starts ends with it: on Ctrl-C, on SIGTERM, and also where it is killed without a word.
"""

import signal
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import click
from rich.console import Console
from rich.panel import Panel

from flightdeck.cli import services
from flightdeck.cli.demo_release import release_version
from flightdeck.cli.errors import reports_errors
from flightdeck.cli.golden import (
    describe_progress,
    project_digest,
    record_run,
    require_success,
    reusable_version,
    start_golden_path,
)
from flightdeck.cli.replay import ReplayOptions, describe, replay_day
from flightdeck.cli.services import Service
from flightdeck.cli.summary import Report, summarise
from flightdeck.core.clock import SystemClock
from flightdeck.core.errors import FlightdeckError
from flightdeck.core.layout import PROJECT, Layout, layout
from flightdeck.core.processes import Process, Processes
from flightdeck.release.ledger import Ledger
from flightdeck.release.ledger_config import released_ledger
from flightdeck.release.state import fold

WATCH_S = 0.5
LINE_EVERY_S = 15.0
INTERRUPTED = 130


class LoopUnhealthy(FlightdeckError):
    """The loop ran, and something in it is wrong."""


@dataclass
class Loop:
    """One run of the loop.

    Parameters
    ----------
    project
        Folder of the project.
    where
        Where data lies.
    console
        Where people read.
    """

    project: Path
    where: Layout
    console: Console
    processes: Processes = field(default_factory=Processes)

    @property
    def logs(self) -> Path:
        """Folder of the output of all processes."""
        return self.where.root / "logs"

    @property
    def ledger(self) -> Ledger:
        """The release ledger."""
        return released_ledger(self.where, SystemClock())

    def say(self, line: str) -> None:
        """Print a line."""
        self.console.print(line, highlight=False, soft_wrap=True, markup=False)

    def train(self) -> int:
        """Run the golden path, or reuse what it left; return the version."""
        version = reusable_version(self.project, self.where, fold(self.ledger.records()))
        if version is not None:
            self.say(f"golden path: nothing changed since it made version {version}, reused")
            return version
        environment = services.child_environment()
        project = project_digest(self.project)
        process = start_golden_path(self.processes, self.project, self.logs / "golden.log", environment)
        self._follow("golden path", process)
        require_success(process)
        self.processes.stop(process)
        return record_run(project, self.where, fold(self.ledger.records()))

    def serve(self, ports: dict[str, int]) -> list[Service]:
        """Start the services, wait until all are ready and print where they are."""
        started = services.start_services(self.processes, self.project, self.where, self.logs, ports=ports)
        with self.console.status("starting the services") as status:
            for service in started:
                status.update(f"starting {service.process.name}")
                service.process.wait_until_ready(service.ready_url, services.READY_WITHIN_S)
                if not self.console.is_terminal:
                    self.say(f"{service.process.name} is ready")
        places = [f"{service.title:<12} {service.url}" for service in started]
        if len(started) < len(ports):
            places.append(f"{'MLflow':<12} {self.where.mlflow_uri}")
        places.append(f"{'Kedro-Viz':<12} run: .venv/bin/kedro viz run")
        self.console.print(Panel.fit("\n".join(places), title="Flightdeck is up"), highlight=False)
        return started

    def replay(self, options: ReplayOptions) -> Report:
        """Replay one day and print its report."""
        report = replay_day(options, self.where, SystemClock(), self.console)
        self.say(describe(report))
        self.processes.require_running()
        return report

    def monitor(self) -> None:
        """Run the monitoring once."""
        command = [services.program("kedro"), "monitor"]
        process = self.processes.start(
            "monitoring",
            command,
            log_path=self.logs / "monitor.log",
            environment=services.child_environment(),
            folder=self.project,
        )
        self._follow("monitoring", process)
        if process.exit_code != 0:
            process.require_running()
        self.processes.stop(process)

    def wait(self) -> None:
        """Return never; raises when a process ends."""
        while True:
            self.processes.require_running()
            time.sleep(WATCH_S)

    def _follow(self, title: str, process: Process) -> None:
        """Show what a kedro command is doing until it ends."""
        begun_s = next_line_s = time.monotonic()
        with self.console.status(title) as status:
            while process.exit_code is None:
                time.sleep(WATCH_S)
                log = process.log_path.read_text(encoding="utf-8", errors="replace")
                said = f"{title}: {time.monotonic() - begun_s:.0f} s, {describe_progress(log)}"
                status.update(said)
                if not self.console.is_terminal and time.monotonic() >= next_line_s + LINE_EVERY_S:
                    next_line_s = time.monotonic()
                    self.say(said)
        self.say(f"{title}: ended with exit code {process.exit_code} after {time.monotonic() - begun_s:.0f} s")


def run_loop(loop: Loop, options: ReplayOptions, ports: dict[str, int], *, once: bool) -> None:
    """Run the loop; with `once` to its summary, else until Ctrl-C.

    Raises
    ------
    FlightdeckError
        If a part failed; with `once` also if the summary shows something wrong.
    """
    version = loop.train()
    release_version(loop.ledger, version, project=loop.project, where=loop.where, say=loop.say)
    started = loop.serve(ports)
    url = started[0].ready_url.removesuffix("/readyz")
    replayed = loop.replay(ReplayOptions(options.day, options.speed, url, options.seed, options.max_requests))
    loop.monitor()
    summary = summarise(loop.where, fold(loop.ledger.records()), replayed)
    loop.console.print(summary.table())
    loop.processes.require_running()
    for problem in summary.problems:
        loop.console.print(f"problem: {problem}", style="red", highlight=False, markup=False, soft_wrap=True)
    if not once:
        loop.say("running; Ctrl-C stops everything")
        loop.wait()
    if summary.problems:
        raise LoopUnhealthy(
            f"the loop ran, with {len(summary.problems)} problems: {'; '.join(summary.problems)}",
            next_step=f"read the logs in {loop.logs}",
        )


@click.command("up", short_help="Run the whole loop: train, release, serve, replay, watch.")
@click.option("--once", is_flag=True, help="End with a summary after the replayed day instead of staying up.")
@click.option(
    "--day", type=click.DateTime(["%Y-%m-%d"]), default="2013-09-12", show_default=True, help="Day to replay."
)
@click.option("--speed", type=click.FloatRange(min=0), default=720.0, show_default=True, help="0: as fast as possible.")
@click.option("--seed", type=int, default=7, show_default=True, help="Seed of the traffic.")
@click.option("--max-requests", type=click.IntRange(min=0), default=None, help="Send only the first so many requests.")
@click.option("--port", type=int, default=services.SERVICE_PORT, show_default=True, help="First port of the service.")
@click.option("--dashboard-port", type=int, default=services.DASHBOARD_PORT, show_default=True, help="Likewise.")
@click.option("--mlflow-port", type=int, default=services.MLFLOW_PORT, show_default=True, help="Likewise.")
@reports_errors
def up(
    once: bool,
    day: datetime,
    speed: float,
    seed: int,
    max_requests: int | None,
    port: int,
    dashboard_port: int,
    mlflow_port: int,
) -> None:
    """Run the whole loop on this machine and show it.

    Runs the golden path if its inputs changed, releases what it made, starts the service, the dashboard, MLflow and
    the controller, replays one day, and watches. Ctrl-C stops everything. Ports that are taken are passed over.
    """
    ports = {"service": port, "dashboard": dashboard_port, "mlflow": mlflow_port}
    loop = Loop(PROJECT, layout(), Console())
    _end_like_ctrl_c(signal.SIGTERM, signal.SIGHUP)
    options = ReplayOptions(day.date(), speed, seed=seed, max_requests=max_requests)
    try:
        run_loop(loop, options, ports, once=once)
    except KeyboardInterrupt:
        loop.say("stopping")
        raise click.exceptions.Exit(INTERRUPTED) from None
    finally:
        loop.processes.stop_all()


def _end_like_ctrl_c(*numbers: signal.Signals) -> None:
    """Let these signals do what Ctrl-C does, also where a shell started this process with Ctrl-C ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in numbers:
        signal.signal(number, lambda *_: signal.raise_signal(signal.SIGINT))
