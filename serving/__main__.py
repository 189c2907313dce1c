"""`python -m serving`: the process that `kedro serve` becomes. One worker, no access log, drains on SIGTERM."""

import logging

import click
import uvicorn

DRAIN_S = 10


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8000, show_default=True, type=click.IntRange(1, 65535))
def serve(host: str, port: int) -> None:
    """Serve predictions over HTTP."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    uvicorn.run(
        "serving.app:create_app",
        factory=True,
        host=host,
        port=port,
        workers=1,
        access_log=False,
        log_level="info",
        timeout_graceful_shutdown=DRAIN_S,
    )


if __name__ == "__main__":
    serve()
