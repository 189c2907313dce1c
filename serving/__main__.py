"""`python -m serving`: the process that `kedro serve` becomes. No access log, drains on SIGTERM."""

import logging
import os
import sys

import click
import uvicorn
from uvicorn.config import STARTUP_FAILURE

from serving.connection import BoundedConnection
from serving.settings import WORKERS
from serving.workers import run_workers

DRAIN_S = 10
IDLE_S = 75  # longer than a load balancer keeps a connection, so that it closes first and no request meets a close


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8000, show_default=True, type=click.IntRange(1, 65535))
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 256))
def serve(host: str, port: int, workers: int) -> None:
    """Serve predictions over HTTP; several workers are kept alive by a supervisor."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    os.environ[WORKERS] = str(workers)
    config = uvicorn.Config(
        "serving.app:create_app",
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


if __name__ == "__main__":
    serve()
