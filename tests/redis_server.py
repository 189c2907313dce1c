"""Real Redis for tests: the installed redis-server on free loopback ports, thrown away afterwards.

One server with an append-only file in a folder of the test's own, or a cluster of three nodes without replicas. Where
the program is absent, the test is skipped and says so.
"""

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import redis

WAIT_S = 20.0
N_SLOTS = 16384


class RedisServer:
    """One redis-server; it can be killed and started again on the same files.

    Parameters
    ----------
    folder
        Where it keeps its files.
    options
        Further options of the program.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        program = shutil.which("redis-server")
        if program is None:
            pytest.skip("redis-server is not installed (Debian package redis-server)")
        self.port = _free_port()
        self.folder = folder
        bus = ["--cluster-port", str(_free_port())] if "--cluster-enabled" in options else []
        self._command = [
            *(program, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""),
            *("--appendonly", "yes", "--appendfsync", "everysec", *bus, *options),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Address of the server."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """Process of the server."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start the server and wait until it answers."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, cwd=self.folder)
        wait_for(self._answers, f"redis-server on port {self.port}")

    def kill(self) -> None:
        """End the server by SIGKILL."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """End the server; ending it again does nothing."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait()

    def client(self) -> "redis.Redis":
        """Return a plain client, for looking."""
        return redis.Redis(port=self.port, protocol=2)

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"redis-server ended with code {self._process.returncode}")
        try:
            with self.client() as client:
                return bool(client.execute_command("PING"))
        except redis.RedisError:
            return False


@contextmanager
def redis_server(*options: str) -> Iterator[RedisServer]:
    """Yield a running server, ended with the block."""
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:
        server = RedisServer(Path(folder), *options)
        server.start()
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def redis_url(*options: str) -> Iterator[str]:
    """Yield the address of a running server, ended with the block."""
    with redis_server(*options) as server:
        yield server.url


@contextmanager
def redis_cluster_url(n_nodes: int = 3) -> Iterator[str]:
    """Yield the address of a running cluster without replicas, ended with the block."""
    with ExitStack() as stack:
        options = ("--cluster-enabled", "yes")
        servers = [stack.enter_context(redis_server(*options)) for _ in range(n_nodes)]
        clients = [stack.enter_context(server.client()) for server in servers]
        edges = [N_SLOTS * number // n_nodes for number in range(n_nodes + 1)]
        for number, client in enumerate(clients):
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", edges[number], edges[number + 1] - 1)
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for server in servers[1:]:
            bus = server._command[server._command.index("--cluster-port") + 1]
            clients[0].execute_command("CLUSTER", "MEET", "127.0.0.1", server.port, bus)
        wait_for(lambda: all(_agrees(server.port, n_nodes) for server in servers), "the cluster")
        yield f"redis+cluster://127.0.0.1:{servers[0].port}"


def wait_for(is_so: "object", what: str, pause_s: float = 0.02) -> None:
    """Wait until a condition holds; look again after each pause.

    Raises
    ------
    TimeoutError
        If it does not hold in time.
    """
    assert callable(is_so)
    deadline = time.monotonic() + WAIT_S
    while not is_so():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} was not ready within {WAIT_S:g} s")
        time.sleep(pause_s)


def _agrees(port: int, n_nodes: int) -> bool:
    """Tell whether a node sees all nodes and slots."""
    with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
        connection.sendall(b"CLUSTER INFO\r\n")
        told = connection.recv(4096).decode()
    return "cluster_state:ok" in told and f"cluster_known_nodes:{n_nodes}" in told


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
