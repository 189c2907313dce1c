"""`kedro serve`: become the serving process.

The kedro command line has imported Kedro's session, MLflow and their pickle readers by the time a command runs. None of
them may be in the process that answers, so this replaces itself by a fresh interpreter; the process id stays, and with
it whoever signals it.
"""

import os
import sys

import click

from flightdeck.cli.errors import reports_errors
from flightdeck.core.errors import NotFoundError
from flightdeck.core.layout import PROJECT


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(1, 65535), help="Port to listen on.")
@reports_errors
def serve(host: str, port: int) -> None:
    """Serve predictions over HTTP until SIGTERM or Ctrl-C."""
    if not (PROJECT / "serving" / "__main__.py").is_file():
        raise NotFoundError(
            f"starting the service: no folder serving in {PROJECT}",
            next_step="run from a checkout of the project, installed with pip install --editable",
        )
    path = os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH", "")]))
    command = [sys.executable, "-m", "serving", "--host", host, "--port", str(port)]
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, command, {**os.environ, "PYTHONPATH": path})  # noqa: S606 - our own interpreter, no shell
