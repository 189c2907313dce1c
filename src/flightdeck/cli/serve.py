"""`kedro serve`: become the serving process; `drill`: have it answer from a lower rung; `keys`: say who may ask.

The kedro command line has imported Kedro's session, MLflow and their pickle readers by the time a command runs. None of
them may be in the process that answers, so this replaces itself by a fresh interpreter; the process id stays, and with
it whoever signals it.
"""

import os
import sys

import click

from flightdeck.cli.errors import reports_errors
from flightdeck.cli.serve_keys import keys
from flightdeck.core.clock import SystemClock
from flightdeck.core.errors import ConfigError, NotFoundError
from flightdeck.core.layout import PROJECT, layout
from flightdeck.inference.drill import plan_drill, stop_drill, write_drill
from flightdeck.inference.surface_policy import read_surface_policies


@click.group(invoke_without_command=True)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(1, 65535), help="Port to listen on.")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 256), help="Processes that answer.")
@click.option("--require-keys", is_flag=True, help="Ask for API keys on loopback too; elsewhere they always are.")
@click.pass_context
@reports_errors
def serve(context: click.Context, host: str, port: int, workers: int, require_keys: bool) -> None:
    """Serve predictions over HTTP until SIGTERM or Ctrl-C, or, with a command, steer the servers that run."""
    if context.invoked_subcommand is None:
        options = ["--host", host, "--port", str(port), "--workers", str(workers)]
        _become_server(*options, *(["--require-keys"] if require_keys else []))


serve.add_command(keys)


@serve.command()
@click.option("--mode", help="The highest rung that may answer: fallback, rules, or refused.")
@click.option("--for", "length", default="60s", show_default=True, help="How long: 30s, 5m, at most 1h.")
@click.option("--surface", help="Only this surface.  [default: all]")
@click.option("--stop", is_flag=True, help="End the drill that is on.")
@reports_errors
def drill(mode: str | None, length: str, surface: str | None, stop: bool) -> None:
    """Have requests answered from a lower rung for a while; every answer says so. A new drill replaces the one on."""
    path = layout().drill
    if stop == (mode is not None):
        raise ConfigError("a drill is begun with --mode, or ended with --stop", next_step="give one of the two")
    if mode is None:
        click.echo("the drill has ended" if stop_drill(path) else "there was no drill")
        return
    planned = plan_drill(mode, length, surface, surfaces=read_surface_policies(), now=SystemClock().now())
    write_drill(path, planned)
    click.echo(f"{surface or 'every surface'}: at best {mode} until {planned.until.isoformat(timespec='seconds')}")


def _become_server(*options: str) -> None:
    if not (PROJECT / "serving" / "__main__.py").is_file():
        raise NotFoundError(
            f"starting the service: no folder serving in {PROJECT}",
            next_step="run from a checkout of the project, installed with pip install --editable",
        )
    path = os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH", "")]))
    command = [sys.executable, "-m", "serving", *options]
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, command, {**os.environ, "PYTHONPATH": path})  # noqa: S606 - our own interpreter, no shell
