"""Real PostgreSQL for tests: the installed server on a free loopback port, its folder thrown away afterwards.

It refuses to run as root, so root's tests run it as the user `postgres` or `nobody`. Where the program is absent, the
test is skipped and says so.
"""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.redis_server import wait_for

ROLE = "flightdeck"


class PostgresServer:
    """One server; it can be killed and started again on the same files.

    Parameters
    ----------
    folder
        Where it keeps its files; given to the user that runs it.
    """

    def __init__(self, folder: Path) -> None:
        self.port = _free_port()
        self._data = folder / "data"
        self._log = folder / "log"
        self._as = _other_user(folder)
        self._n_databases = 0
        self._process: subprocess.Popen[bytes] | None = None
        made = subprocess.run(
            [_program("initdb"), "-D", str(self._data), "-U", ROLE, "-A", "trust", "-E", "UTF8", "--no-sync"],
            capture_output=True, cwd=folder, check=False, **self._as,
        )  # fmt: skip
        if made.returncode:
            raise RuntimeError(f"initdb failed: {made.stderr.decode()}")

    def url(self, database: str = "postgres") -> str:
        """Return the address of a database."""
        return f"postgresql://{ROLE}@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        """Make an empty database and return its address."""
        self._n_databases += 1
        name = f"house_{self._n_databases}"
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.url(name)

    def start(self) -> None:
        """Start the server and wait until it answers."""
        settings = ("unix_socket_directories=", "max_connections=40", "fsync=off")  # no test cuts the power
        options = ["-p", str(self.port), "-h", "127.0.0.1", *(word for name in settings for word in ("-c", name))]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [_program("postgres"), "-D", str(self._data), *options],
                stdout=log, stderr=log, cwd=self._data, **self._as,
            )  # fmt: skip
        wait_for(self._answers, f"postgres on port {self.port}")

    def kill(self) -> None:
        """End the server at once, as a power cut would its sessions."""
        assert self._process is not None
        self._process.send_signal(3)  # SIGQUIT: its children end too, nothing is written any more
        self._process.wait()

    def stop(self) -> None:
        """End the server; ending it again does nothing."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(2)  # SIGINT: sessions are cut
            self._process.wait()

    def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"postgres ended: {self._log.read_text()[-2000:]}")
        with suppress(psycopg.OperationalError):
            psycopg.connect(self.url(), connect_timeout=2).close()
            return True
        return False


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """Yield a running server, ended with the block."""
    _program("initdb")
    with tempfile.TemporaryDirectory(prefix="postgres-", ignore_cleanup_errors=True) as folder:
        server = PostgresServer(Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.stop()


def _program(name: str) -> str:
    """Return the path of a program of the newest installed PostgreSQL."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: path.parent.name.zfill(4))
    found = shutil.which(name, path=os.pathsep.join([*map(str, reversed(folders)), os.environ.get("PATH", "")]))
    if found is None:
        pytest.skip(f"{name} is not installed (Debian package postgresql)")
    return found


def _other_user(folder: Path) -> Mapping[str, Any]:
    """Return the options of `subprocess` that run a program as somebody else than root, who gets the folder."""
    if os.getuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            user = pwd.getpwnam(name)
            os.chown(folder, user.pw_uid, user.pw_gid)
            return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    raise RuntimeError("PostgreSQL cannot run as root, and there is neither a user postgres nor nobody")


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
