"""The prediction log, writing side: every answer is in a file before it is sent.

One batch of answers is one frame (`prediction_log_frame`) and one `os.write` to a segment that only this process
appends to. Killing the process loses nothing that was acknowledged: the bytes are the kernel's. Against a power cut,
`sync` is called about twice a second. A log that cannot be written never costs an answer: the records are dropped and
counted, and a frame that was written by half is taken back. Every item is counted once: served = written + sampled out
+ dropped.

The writer holds a lock (`flock`) on its segment for as long as it may append, so that others can tell a segment that
grows from one that was left (`prediction_log_folder`).
"""

import fcntl
import logging
import os
import threading
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from flightdeck.core.clock import Clock
from flightdeck.inference.prediction_log_batch import LogBatch
from flightdeck.inference.prediction_log_folder import SEGMENT
from flightdeck.inference.prediction_log_frame import FrameEncoder
from flightdeck.inference.prediction_log_sampling import Sampling

SEGMENT_BYTES = 64 << 20
SEGMENT_S = 600.0
_log = logging.getLogger(__name__)


class Appended(NamedTuple):
    """What became of the items of a batch; the three add up to it."""

    n_written: int
    n_sampled_out: int
    n_dropped: int


class PredictionLogWriter:
    """Appends batches to segments of its own below `folder`.

    Segments are named `<start>-<pid>-<number>.frames` by the start of the writer (UTC), so that no two processes share
    one and names sort by time.

    Parameters
    ----------
    folder
        Folder of the log; made when first needed.
    clock
        Gives the start time in the names, and the age of a segment.
    sampling_rates
        Share of units to log, in (0, 1], by surface; all of a surface not named (`prediction_log_sampling`: the bias).
    segment_bytes
        Size after which the next segment begins.
    segment_s
        Age after which `sync` leaves a segment.

    Raises
    ------
    ConfigError
        If a rate is not in (0, 1].
    """

    def __init__(
        self,
        folder: Path,
        clock: Clock,
        *,
        sampling_rates: Mapping[str, float] | None = None,
        segment_bytes: int = SEGMENT_BYTES,
        segment_s: float = SEGMENT_S,
    ) -> None:
        self.folder = folder
        self.n_written = 0
        self.n_sampled_out = 0
        self.n_dropped = 0
        self._clock = clock
        self._name = f"{clock.now():%Y%m%dT%H%M%S.%fZ}-{os.getpid()}"
        self._sampling = Sampling(sampling_rates or {})
        self._segment_bytes = segment_bytes
        self._segment_age = timedelta(seconds=segment_s)
        self._began_at: datetime = clock.now()
        self._n_segments = 0
        self._descriptor: int | None = None
        self._retired: list[int] = []
        self._size = 0
        self._is_dirty = False
        self._is_failing = False
        self._lock = threading.Lock()
        self._encoder = FrameEncoder()

    def append(self, batch: LogBatch) -> Appended:
        """Write a batch and return what became of it: its sample is written whole, or dropped whole."""
        n_items = len(batch)
        if not n_items:
            return Appended(0, 0, 0)
        with self._lock:
            sample, weights = self._sampling.select(batch)
            n_kept = len(sample)
            self.n_sampled_out += n_items - n_kept
            if not n_kept:
                return Appended(0, n_items, 0)
            try:
                self._write(
                    self._encoder.encode(sample, weights, n_dropped=self.n_dropped, n_sampled_out=self.n_sampled_out)
                )
            except (OSError, ValueError, TypeError) as error:  # a batch that cannot be encoded costs no answer either
                self._refuse(error, n_kept)
                return Appended(0, n_items - n_kept, n_kept)
            if self._is_failing:
                _log.warning("prediction log %s: writing again after %d dropped records", self.folder, self.n_dropped)
                self._is_failing = False
            self.n_written += n_kept
        return Appended(n_kept, n_items - n_kept, 0)

    def sync(self) -> None:
        """Flush what was written to the disk and leave a segment that is old.

        A segment whose flush fails is never written to again.
        """
        with self._lock:
            if self._descriptor is not None and self._clock.now() - self._began_at >= self._segment_age:
                self._retire()
            descriptors, self._retired = self._retired, []
            current = self._descriptor if self._is_dirty else None
            if current is not None:
                descriptors.append(os.dup(current))
            self._is_dirty = False
        for descriptor in descriptors:
            try:
                os.fsync(descriptor)
            except OSError as error:
                _log.error("prediction log %s: flushing failed: %s; a new segment begins", self.folder, error)
                with self._lock:
                    self._retire()
            finally:
                os.close(descriptor)

    def close(self) -> None:
        """Flush and close the segment."""
        with self._lock:
            self._retire()
        self.sync()

    def _write(self, frame: bytearray) -> None:
        if self._descriptor is not None and self._is_spent(self._descriptor, len(frame)):
            self._retire()
        descriptor = self._open() if self._descriptor is None else self._descriptor
        n_written = os.write(descriptor, frame)
        if n_written < len(frame):
            self._take_back(descriptor)
            raise OSError(f"only {n_written} of {len(frame)} bytes were written")
        self._size += n_written
        self._is_dirty = True

    def _is_spent(self, descriptor: int, n_bytes: int) -> bool:
        """Tell whether the segment is full, or was deleted underneath."""
        return (self._size > 0 and self._size + n_bytes > self._segment_bytes) or os.fstat(descriptor).st_nlink == 0

    def _open(self) -> int:
        """Begin a segment; it is locked before its first byte, so one that is not empty and not locked was left."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{self._name}-{self._n_segments:04d}{SEGMENT}"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_EXCL | os.O_CLOEXEC, 0o644)
        self._n_segments += 1
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise
        self._descriptor, self._size, self._began_at = descriptor, 0, self._clock.now()
        return descriptor

    def _take_back(self, descriptor: int) -> None:
        """Cut a half-written frame off; where even that fails, leave the segment with its torn end."""
        try:
            os.ftruncate(descriptor, self._size)
        except OSError:
            self._retire()

    def _retire(self) -> None:
        """Leave the segment: `sync` flushes and closes it, so that no answer waits for the disk."""
        if self._descriptor is not None:
            self._retired.append(self._descriptor)
        self._descriptor = None

    def _refuse(self, error: Exception, n_records: int) -> None:
        self.n_dropped += n_records
        if not self._is_failing:
            _log.error("prediction log %s: %s; answering goes on, records are dropped and counted", self.folder, error)
        self._is_failing = True
