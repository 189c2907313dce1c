"""Peers that we measure ourselves against: each in an environment and a process of its own.

A peer's libraries would bend the versions of ours, so nothing of theirs is imported here. `environment(name)` makes
`.cache/bench/<name>` from `benchmarks/requirements/<name>.txt`, once, and again when that file changes. `Peer` starts a
script of `benchmarks/peers` in it and speaks with it in JSON, one line a question and one line an answer; the script's
half is `benchmarks/peers/lines.py`. Only making the environment needs the package index, never a measurement.

    with Peer("polars", "polars_join.py") as peer:
        peer.ask("load", path="/tmp/x.parquet")
        peer.ask("run")["cpu_s"]    # every answer carries cpu_s and wall_s of the process and its children

Alone: `python -m benchmarks.peer feast` makes one environment and prints its interpreter.
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

from flightdeck.core.errors import FlightdeckError, NotFoundError
from flightdeck.core.layout import PROJECT

ENVIRONMENTS = PROJECT / ".cache" / "bench"
REQUIREMENTS = PROJECT / "benchmarks" / "requirements"
SCRIPTS = PROJECT / "benchmarks" / "peers"
QUIET = {"DO_NOT_TRACK": "true", "FEAST_USAGE": "False", "PYTHONWARNINGS": "ignore", "TQDM_DISABLE": "1"}
INSTALL_TIMEOUT_S = 1200


def environment(name: str) -> Path:
    """Return the interpreter of a peer's environment, made first where it is missing or its requirements changed.

    Raises
    ------
    FlightdeckError
        If there is no such requirement file, or its packages cannot be installed.
    """
    requirements = REQUIREMENTS / f"{name}.txt"
    if not requirements.is_file():
        raise NotFoundError(f"measuring against {name}: there is no {requirements.relative_to(PROJECT)}")
    folder = ENVIRONMENTS / name
    ready = folder / ".ready"
    python = folder / "bin" / "python"
    wanted = hashlib.sha256(requirements.read_bytes()).hexdigest()
    ENVIRONMENTS.mkdir(parents=True, exist_ok=True)
    with (ENVIRONMENTS / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if python.exists() and ready.is_file() and ready.read_text() == wanted:
            return python
        print(f"peer: making {folder.relative_to(PROJECT)} from {requirements.relative_to(PROJECT)}", file=sys.stderr)
        shutil.rmtree(folder, ignore_errors=True)
        _run(name, [sys.executable, "-m", "venv", "--without-pip", str(folder)])
        _install(name, python, requirements)
        ready.write_text(wanted)
    return python


class Peer:
    """A peer's script in its own process; a context manager that ends it.

    Parameters
    ----------
    name
        Its environment: `benchmarks/requirements/<name>.txt`.
    script
        File below `benchmarks/peers`.

    Raises
    ------
    FlightdeckError
        If the environment cannot be made.
    """

    def __init__(self, name: str, script: str) -> None:
        self._script = script
        self._process = subprocess.Popen(
            [str(environment(name)), str(SCRIPTS / script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **QUIET},
            cwd=ENVIRONMENTS,
        )

    def __enter__(self) -> "Peer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Return the answer to one command: what the script's function returned, and `cpu_s` and `wall_s` of the call.

        Raises
        ------
        FlightdeckError
            If the script failed or ended; its traceback is on stderr.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"command": command, "arguments": arguments}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        answer: dict[str, Any] = json.loads(line) if line else {"error": f"it ended, code {self._process.wait()}"}
        if "error" in answer:
            raise FlightdeckError(
                f"asking the peer {self._script} to {command}: {answer['error']}", next_step="read its traceback above"
            )
        return answer

    def close(self) -> None:
        """End the process: the end of its input is its sign."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None and not pipe.closed:
                pipe.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _install(name: str, python: Path, requirements: Path) -> None:
    """Install the pinned packages with uv, or with pip where there is no uv or it cannot reach the index."""
    uv = [sys.executable, "-m", "uv", "pip", "sync", "--quiet", "--compile-bytecode", "--python", str(python)]
    try:
        _run(name, [*uv, str(requirements)])
    except FlightdeckError:
        _run(name, [str(python), "-m", "ensurepip"])
        _run(name, [str(python), "-m", "pip", "install", "--quiet", "--requirement", str(requirements)])


def _run(name: str, command: list[str]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired, OSError) as error:
        told = str(getattr(error, "stderr", "") or error).strip().splitlines()[-3:]
        raise FlightdeckError(
            f"making the environment of the peer {name}: {' '.join(told)}",
            next_step=f"see that the package index is reachable, then: python -m benchmarks.peer {name}",
        ) from error


if __name__ == "__main__":
    try:
        for peer_name in sys.argv[1:]:
            print(environment(peer_name))
    except FlightdeckError as error:
        sys.exit(f"error: {error}")
