"""`python -m serving`: the process that `kedro serve` becomes. No access log, drains on SIGTERM."""

import ipaddress
import logging
import os
import sys

import click
import uvicorn
from uvicorn.config import STARTUP_FAILURE

from flightdeck.core.clock import SystemClock
from flightdeck.core.errors import ConfigError, FlightdeckError
from flightdeck.core.layout import layout
from flightdeck.inference.api_keys import read_keys
from serving.connection import BoundedConnection
from serving.settings import KEYS, KEYS_OFF, KEYS_REQUIRED, WORKERS
from serving.workers import run_workers

DRAIN_S = 10
IDLE_S = 75  # longer than a load balancer keeps a connection, so that it closes first and no request meets a close


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8000, show_default=True, type=click.IntRange(1, 65535))
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 256))
@click.option("--require-keys", is_flag=True, help="Ask for API keys on loopback too; elsewhere they always are.")
def serve(host: str, port: int, workers: int, require_keys: bool) -> None:
    """Serve predictions over HTTP; several workers are kept alive by a supervisor."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    is_required = require_keys or not is_loopback(host)
    try:
        if is_required:
            require_a_key(host)
    except FlightdeckError as error:
        click.secho(f"error: {error}", fg="red", err=True)
        sys.exit(error.exit_code)
    os.environ.update({WORKERS: str(workers), KEYS: KEYS_REQUIRED if is_required else KEYS_OFF})
    config = uvicorn.Config(
        "serving.app:start_app",
        factory=True,
        host=host,
        port=port,
        workers=workers,
        http=BoundedConnection,
        ws="none",
        loop="uvloop",
        proxy_headers=False,
        server_header=False,
        access_log=False,
        log_level="info",
        timeout_keep_alive=IDLE_S,
        timeout_graceful_shutdown=DRAIN_S,
    )
    if workers > 1:
        if not run_workers(config):
            sys.exit(STARTUP_FAILURE)
        return
    server = uvicorn.Server(config)
    server.run()
    if not server.started:
        sys.exit(STARTUP_FAILURE)


def is_loopback(host: str) -> bool:
    """Tell whether only this machine reaches an address; a name other than localhost may mean anything.

    Examples
    --------
    >>> [is_loopback(host) for host in ("127.0.0.1", "localhost", "::1", "0.0.0.0", "", "example.org")]
    [True, True, True, False, False, False]
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def require_a_key(host: str) -> None:
    """Refuse to start where nobody could ask anything.

    Raises
    ------
    ConfigError
        If there is no valid API key.
    """
    path, now = layout().api_keys, SystemClock().now()
    if not any(key.state(now) == "valid" for key in read_keys(path)):
        raise ConfigError(
            f"starting the service on {host}: requests need an API key there, and {path} has no valid one",
            next_step="make one: kedro serve keys add NAME, or bind to loopback: --host 127.0.0.1",
        )


if __name__ == "__main__":
    serve()
