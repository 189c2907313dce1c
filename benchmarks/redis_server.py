"""A Redis server of a benchmark's own: the installed program on a free loopback port, nothing on disk."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

from flightdeck.core.errors import NotFoundError

START_TIMEOUT_S = 10.0


@contextmanager
def redis_server(*options: str) -> Iterator[int]:
    """Yield the port of a fresh server, ended with the block.

    Raises
    ------
    NotFoundError
        If there is no redis-server, or it does not answer.
    """
    program = shutil.which("redis-server")
    if program is None:
        raise NotFoundError(
            "measuring Redis: there is no redis-server here", next_step="install it: apt-get install redis-server"
        )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd="/")
    try:
        _wait(port, process)
        yield port
    finally:
        process.terminate()
        process.wait()


def _wait(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1) as client:
                client.sendall(b"PING\r\n")
                if client.recv(16).startswith(b"+PONG"):
                    return
        except OSError:
            time.sleep(0.02)
    raise NotFoundError(f"measuring Redis: the server on port {port} did not answer within {START_TIMEOUT_S:g} s")
