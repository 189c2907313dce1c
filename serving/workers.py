"""Several worker processes on one port, kept alive: uvicorn's supervisor, with what it leaves to its users.

A worker that dies is replaced; one that hangs (a stopped process, a model that holds the interpreter) is killed and
replaced. SIGHUP replaces them one after the other, each only once its successor serves. What a dead worker counted
stays counted (`serving.metric_files`).
"""

import logging
import multiprocessing
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from socket import socket

import uvicorn
from uvicorn.supervisors import Multiprocess
from uvicorn.supervisors.multiprocess import Process

from serving.metric_files import FOLDER, fold

UNRESPONSIVE_S = 2  # a worker that does not answer the supervisor for so long is killed
BOOT_S = 180  # a worker that opens bundles of gigabytes takes its time
MAX_RETRY_S = 30.0
EXIT_S = 5.0  # beyond the time to drain
SILENT_S = 20.0  # the same while it starts: imports and bundles hold the interpreter
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
        self.has_served = False
        self._metrics = metrics
        self._seen: set[int] = set()
        self._begun_s: dict[Process, float] = {}
        self._heard_s: dict[Process, float] = {}
        self._serving: set[Process] = set()
        self._n_failures = 0
        self._retry_at_s = 0.0

    def keep_subprocess_alive(self) -> None:
        """Replace workers that are dead or hang, and fold the metrics of those that went.

        A worker that fails before it serves ends the service if none has ever served; else the others go on, and it is
        tried again at growing intervals: what broke may be mended meanwhile.
        """
        now_s = time.monotonic()
        for place, process in enumerate(self.processes):
            if self._is_well(process, now_s):
                continue
            if process.process.is_alive():
                _log.error("worker %s does not answer: it is killed and replaced", process.pid)
                process.kill()
                process.join()
            if process not in self._serving:
                if not self.has_served and (process.exitcode or 0) > 0:
                    _log.critical("worker %s ended with code %s before it served", process.pid, process.exitcode)
                    self.should_exit.set()
                    return
                if not self._is_time_to_retry(now_s):
                    continue
            _log.warning("worker %s ended with code %s: it is replaced", process.pid, process.exitcode)
            self.processes[place] = Process(self.config, self.sockets)
            self.processes[place].start()
        self._serving &= set(self.processes)
        for times in (self._begun_s, self._heard_s):
            for process in times.keys() - set(self.processes):
                del times[process]
        self._fold_metrics()

    def restart_all(self) -> None:
        """Replace each worker once its successor serves; opening bundles may take longer than a sign of life."""
        patience_s = self.config.timeout_worker_healthcheck
        self.config.timeout_worker_healthcheck = BOOT_S
        try:
            super().restart_all()
        finally:
            self.config.timeout_worker_healthcheck = patience_s

    def terminate_all(self) -> None:
        """Tell all workers to end, and take no more connections: whoever comes is refused at once, not kept waiting."""
        for listening in self.sockets:
            listening.close()
        super().terminate_all()

    def join_all(self) -> None:
        """Wait for workers that were told to end, and kill one that does not: stopped, or with a loop that hangs."""
        end_s = time.monotonic() + (self.config.timeout_graceful_shutdown or 0) + EXIT_S
        for process in self.processes:
            process.process.join(max(end_s - time.monotonic(), 0.0))
            if process.process.is_alive():
                _log.error("worker %s does not end: it is killed", process.pid)
                process.process.kill()
            process.join()

    def _is_well(self, process: Process, now_s: float) -> bool:
        """Tell whether a worker serves and answers, or still starts within its time."""
        if not process.process.is_alive():
            return False
        if process in self._serving:
            return process.ping(UNRESPONSIVE_S)
        _forget_answers(process)
        has_started = process._healthcheck(LOOK_S)
        if has_started is not None:
            self._heard_s[process] = now_s
        if has_started:
            _forget_answers(process)
            self._serving.add(process)
            self.has_served, self._n_failures = True, 0
            _log.info("worker %s serves", process.pid)
        begun_s = self._begun_s.setdefault(process, now_s)
        return now_s - begun_s < BOOT_S and now_s - self._heard_s.get(process, begun_s) < SILENT_S

    def _is_time_to_retry(self, now_s: float) -> bool:
        if now_s < self._retry_at_s:
            return False
        self._n_failures += 1
        self._retry_at_s = now_s + min(2.0**self._n_failures, MAX_RETRY_S)
        return True

    def _fold_metrics(self) -> None:
        alive = {process.pid for process in self.processes if process.pid is not None}
        if self._seen - alive:
            fold(self._metrics, alive)
        self._seen = alive


def run_workers(config: uvicorn.Config) -> bool:
    """Serve with `config.workers` processes until SIGTERM or SIGINT; SIGHUP restarts them one by one.

    Returns
    -------
    bool
        Whether any worker has ever served.
    """
    metrics = Path(tempfile.mkdtemp(prefix="flightdeck-metrics-"))
    os.environ[FOLDER] = str(metrics)
    listening = config.bind_socket()
    try:
        supervisor = Supervisor(config, [listening], metrics)
        supervisor.run()
    finally:
        listening.close()
        shutil.rmtree(metrics, ignore_errors=True)
    return supervisor.has_served


def supervisor_pid() -> int:
    """Return the process that started this worker, also where it is gone already."""
    parent = multiprocessing.parent_process()
    return os.getppid() if parent is None or parent.pid is None else parent.pid


def _forget_answers(process: Process) -> None:
    """Drop answers to questions that nobody waits for any more: the next one answers the next question."""
    with suppress(OSError, EOFError):
        while process.parent_conn.poll():
            process.parent_conn.recv()


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
