"""Several worker processes on one port, kept alive: uvicorn's supervisor, with what it leaves to its users.

A worker that dies is replaced; one that hangs (a stopped process, a model that holds the interpreter) is killed and
replaced. SIGHUP replaces them one after the other, each only once its successor serves. What a dead worker counted
stays counted (`serving.metric_files`).
"""

import logging
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from socket import socket

import uvicorn
from uvicorn.supervisors import Multiprocess

from serving.metric_files import FOLDER, fold

UNRESPONSIVE_S = 2  # a worker that does not answer the supervisor for so long is killed
BOOT_S = 180  # a worker that opens bundles of gigabytes takes its time
LOOP_STUCK_S = 10.0
LOOK_S = 0.5
_log = logging.getLogger(__name__)


class Supervisor(Multiprocess):
    """Keeps workers alive and their metrics whole.

    Parameters
    ----------
    config
        uvicorn's configuration, with the number of workers.
    sockets
        Listening sockets that all workers share.
    metrics
        Folder of the workers' metric files.
    """

    def __init__(self, config: uvicorn.Config, sockets: list[socket], metrics: Path) -> None:
        super().__init__(config, sockets)
        self._metrics = metrics
        self._seen: set[int] = set()

    def keep_subprocess_alive(self) -> None:
        """Replace workers that are dead or hang, and fold the metrics of those that went."""
        super().keep_subprocess_alive()
        alive = {process.pid for process in self.processes if process.pid is not None}
        if self._seen - alive:
            fold(self._metrics, alive)
        self._seen = alive

    def restart_all(self) -> None:
        """Replace each worker once its successor serves; opening bundles may take longer than a sign of life."""
        patience_s = self.config.timeout_worker_healthcheck
        self.config.timeout_worker_healthcheck = BOOT_S
        try:
            super().restart_all()
        finally:
            self.config.timeout_worker_healthcheck = patience_s


def run_workers(config: uvicorn.Config) -> None:
    """Serve with `config.workers` processes until SIGTERM or SIGINT; SIGHUP restarts them one by one."""
    config.timeout_worker_healthcheck = UNRESPONSIVE_S
    metrics = Path(tempfile.mkdtemp(prefix="flightdeck-metrics-"))
    os.environ[FOLDER] = str(metrics)
    listening = config.bind_socket()
    try:
        Supervisor(config, [listening], metrics).run()
    finally:
        listening.close()
        shutil.rmtree(metrics, ignore_errors=True)


def watch_loop(beat_s: Callable[[], float], supervisor: int) -> threading.Thread:
    """Watch this worker from a thread: end it where its event loop hangs, drain it where its supervisor is gone.

    The supervisor's own question is answered by a thread, which goes on where the loop hangs without holding the
    interpreter.

    Parameters
    ----------
    beat_s
        Gives when the event loop last came round, `time.monotonic`.
    supervisor
        Process id of the supervisor.
    """

    def watch() -> None:
        while True:
            time.sleep(LOOK_S)
            if os.getppid() != supervisor:
                os.kill(os.getpid(), signal.SIGTERM)
                return
            stuck_s = time.monotonic() - beat_s()
            if stuck_s > LOOP_STUCK_S:
                _log.critical("the event loop has been stuck for %.1f s: this worker ends and is replaced", stuck_s)
                os.kill(os.getpid(), signal.SIGKILL)

    thread = threading.Thread(target=watch, name="watch-loop", daemon=True)
    thread.start()
    return thread
