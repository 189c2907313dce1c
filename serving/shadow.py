"""Shadows: versions that score a copy of the traffic and never answer.

They are scored after the answers are out, in a thread of low priority, from a queue that is bounded in items: what does
not fit is dropped and counted. A shadow that hangs keeps its thread and its queue, and nothing else; one that raises is
counted. What they predict goes to a log of its own, so that nobody takes it for an answer.
"""

import logging
import os
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flightdeck.core.clock import Clock, to_us
from flightdeck.inference.onnx_model import Scores
from flightdeck.inference.prediction_log import PredictionLogWriter
from flightdeck.inference.release_bundle import LoadedRelease
from serving.batch import Columns, Rows
from serving.log_records import shadow_batch
from serving.metrics import Metrics
from serving.work import Work

MAX_ITEMS = 2048
NICE = 10
CLOSE_S = 2.0  # longer than a run of a model may take
SCORED, DROPPED, FAILED = "scored", "dropped", "failed"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Copy:
    """Items that one shadow scores: request columns and view columns of its own rows."""

    release: LoadedRelease
    request: Columns
    views: npt.NDArray[np.float64]
    rows: Rows
    work: Work


class Shadow:
    """The shadows of one worker.

    Parameters
    ----------
    log
        Where their predictions go.
    metrics
        Where their items are counted.
    clock
        Time of logging.
    max_items
        Items that may wait.
    """

    def __init__(self, log: PredictionLogWriter, metrics: Metrics, clock: Clock, max_items: int = MAX_ITEMS) -> None:
        self._log_writer = log
        self._metrics = metrics
        self._clock = clock
        self._max_items = max_items
        self._waiting: deque[Copy] = deque()
        self._n_items = 0
        self._lock = threading.Lock()
        self._counts: deque[tuple[int, str, int]] = deque()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._is_closed = False

    def offer(self, work: Work) -> None:
        """Queue the copies that a batch's routes ask for; in the loop, before the next batch."""
        while self._counts:
            self._metrics.count_shadow(*self._counts.popleft())
        for version, rows in work.shadows:
            release = work.live.release(version)
            if release is None:
                continue
            if self._n_items + len(rows) > self._max_items:
                self._metrics.count_shadow(version, DROPPED, len(rows))
                continue
            features = work.batch.reading(release).features
            if features is None:
                self._metrics.count_shadow(version, FAILED, len(rows))
                continue
            with self._lock:
                self._n_items += len(rows)
            self._waiting.append(Copy(release, work.batch.rows(rows), features.values[rows], rows, work))

    def start(self) -> None:
        """Let the thread go on; in the loop, when nobody waits for an answer."""
        if not self._waiting or self._is_closed:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)
            self._thread.start()
        self._wake.set()

    def close(self) -> None:
        """Give up what waits, counting it as dropped, and wait for the copy that is being scored, 2 s at most."""
        self._is_closed = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(CLOSE_S)
        while self._waiting:
            copy = self._waiting.popleft()
            self._counts.append((copy.release.version, DROPPED, len(copy.rows)))
        while self._counts:
            self._metrics.count_shadow(*self._counts.popleft())

    def _run(self) -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        while not self._is_closed:
            self._wake.wait()
            self._wake.clear()
            while self._waiting and not self._is_closed:
                copy = self._waiting.popleft()
                self._counts.append((copy.release.version, self._score(copy), len(copy.rows)))
                with self._lock:
                    self._n_items -= len(copy.rows)

    def _score(self, copy: Copy) -> str:
        """Score a copy and log it, also where it failed: who compares the shadow must hear of that."""
        began_s = time.thread_time()
        try:
            scores = copy.release.score_model(copy.request, copy.views)
            took_ms = (time.thread_time() - began_s) * 1e3
            self._log(copy, scores, took_ms)
        except Exception:  # noqa: BLE001 - whatever a shadow raises is its own matter, and its thread goes on
            _log.warning("shadow %d failed on %d items", copy.release.version, len(copy.rows), exc_info=True)
            with suppress(Exception):  # the log counts what it drops
                self._log(copy, None, (time.thread_time() - began_s) * 1e3)
            return FAILED
        return SCORED

    def _log(self, copy: Copy, scores: Scores | None, took_ms: float) -> None:
        at_us = to_us(self._clock.now())
        self._log_writer.append(shadow_batch(copy.work, copy.release, copy.rows, scores, took_ms, at_us))
