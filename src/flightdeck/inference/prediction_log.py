"""The prediction log, writing side: every answer is in a file before it is sent.

One request is one `os.write` of whole JSON lines to a segment that only this process appends to. Killing the process
loses nothing that was acknowledged: the bytes are the kernel's. Against a power cut, `sync` is called at least once a
second. A log that cannot be written never costs an answer: the records are dropped and counted, and a line that was
written by half is taken back.
"""

import logging
import os
import threading
from collections.abc import Sequence
from pathlib import Path

import msgspec

from flightdeck.core.clock import Clock

SEGMENT_BYTES = 64 << 20
_log = logging.getLogger(__name__)


class PredictionLogWriter:
    """Appends records to segments of its own below `folder`.

    Segments are named `<start>-<pid>-<number>.jsonl` by the start of the writer (UTC), so that no two processes share
    one and names sort by time.

    Parameters
    ----------
    folder
        Folder of the log; made when first needed.
    clock
        Gives the start time in the names.
    segment_bytes
        Size after which the next segment begins.
    """

    def __init__(self, folder: Path, clock: Clock, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.folder = folder
        self.n_written = 0
        self.n_dropped = 0
        self._name = f"{clock.now():%Y%m%dT%H%M%S.%fZ}-{os.getpid()}"
        self._segment_bytes = segment_bytes
        self._n_segments = 0
        self._descriptor: int | None = None
        self._retired: list[int] = []
        self._size = 0
        self._is_dirty = False
        self._is_failing = False
        self._lock = threading.Lock()
        self._encoder = msgspec.json.Encoder()

    def append(self, records: Sequence[object]) -> int:
        """Write the records of one request and return how many were dropped: none, or all of them.

        Parameters
        ----------
        records
            JSON values or `msgspec` structs; NaN becomes null.
        """
        if not records:
            return 0
        lines = self._encoder.encode_lines(records)
        with self._lock:
            try:
                self._write(lines)
            except OSError as error:
                self._refuse(error, len(records))
                return len(records)
            if self._is_failing:
                _log.warning("prediction log %s: writing again after %d dropped records", self.folder, self.n_dropped)
                self._is_failing = False
            self.n_written += len(records)
        return 0

    def sync(self) -> None:
        """Flush what was written to the disk; a segment whose flush fails is never written to again."""
        with self._lock:
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

    def _write(self, lines: bytes) -> None:
        if self._descriptor is not None and self._is_spent(self._descriptor, len(lines)):
            self._retire()
        descriptor = self._open() if self._descriptor is None else self._descriptor
        n_written = os.write(descriptor, lines)
        if n_written < len(lines):
            self._take_back(descriptor)
            raise OSError(f"only {n_written} of {len(lines)} bytes were written")
        self._size += n_written
        self._is_dirty = True

    def _is_spent(self, descriptor: int, n_bytes: int) -> bool:
        """Tell whether the segment is full, or was deleted underneath."""
        return (self._size > 0 and self._size + n_bytes > self._segment_bytes) or os.fstat(descriptor).st_nlink == 0

    def _open(self) -> int:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{self._name}-{self._n_segments:04d}.jsonl"
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_EXCL | os.O_CLOEXEC, 0o644)
        self._n_segments += 1
        self._size = 0
        return self._descriptor

    def _take_back(self, descriptor: int) -> None:
        """Cut a half-written line off; where even that fails, leave the segment with its torn last line."""
        try:
            os.ftruncate(descriptor, self._size)
        except OSError:
            self._retire()

    def _retire(self) -> None:
        """Leave the segment: `sync` flushes and closes it, so that no answer waits for the disk."""
        if self._descriptor is not None:
            self._retired.append(self._descriptor)
        self._descriptor = None

    def _refuse(self, error: OSError, n_records: int) -> None:
        self.n_dropped += n_records
        if not self._is_failing:
            _log.error("prediction log %s: %s; answering goes on, records are dropped and counted", self.folder, error)
        self._is_failing = True
