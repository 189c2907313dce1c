"""Counting answers while they are given: the prediction log, read on from where the last look ended.

Monitoring judges a finished day; this shows the one that runs. Only whole lines count: the end of a segment may be in
the middle of being written.
"""

import threading
from collections import Counter
from pathlib import Path

import msgspec
import pandas as pd

from flightdeck.core.clock import MINUTE_US

HOUR_US = 60 * MINUTE_US
COLUMNS = ("hour", "surface", "mode", "n")


class _Line(msgspec.Struct):
    request_us: int
    surface: str
    mode: str
    item: int = 0


class LiveTraffic:
    """Answers by hour of request time, surface and mode. May be shared by threads.

    Parameters
    ----------
    folder
        Folder of the prediction log; may be missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._decoder = msgspec.json.Decoder(_Line)
        self._forget()

    @property
    def newest_us(self) -> int | None:
        """Time of the newest request, UTC microseconds; None without one."""
        return self._newest_us

    @property
    def n_requests(self) -> int:
        """Requests read so far."""
        return self._n_requests

    def refresh(self) -> None:
        """Read what was appended since the last look; start over where a segment became shorter or vanished.

        Raises
        ------
        OSError
            If a segment cannot be read.
        """
        with self._lock:
            sizes = {path: path.stat().st_size for path in sorted(self._folder.glob("*.jsonl"))}
            if any(sizes.get(path, -1) < offset for path, offset in self._offsets.items()):
                self._forget()
            for path, size in sizes.items():
                if size > self._offsets.get(path, 0):
                    self._read_on(path)

    def latest(self, hours: int = 24) -> pd.DataFrame:
        """Return the answers of the last `hours` of request time: hour (UTC), surface, mode, n; sorted."""
        with self._lock:
            since_us = (self._newest_us or 0) - hours * HOUR_US
            rows = [(*key, n) for key, n in sorted(self._counts.items()) if key[0] > since_us]
        frame = pd.DataFrame(rows, columns=list(COLUMNS)).astype({"n": "int64"})
        return frame.assign(hour=pd.to_datetime(frame["hour"].astype("int64"), unit="us", utc=True))

    def _forget(self) -> None:
        self._offsets: dict[Path, int] = {}
        self._counts: Counter[tuple[int, str, str]] = Counter()
        self._newest_us: int | None = None
        self._n_requests = 0

    def _read_on(self, path: Path) -> None:
        offset = self._offsets.get(path, 0)
        with path.open("rb") as stream:
            stream.seek(offset)
            content = stream.read()
        end = content.rfind(b"\n") + 1
        self._offsets[path] = offset + end
        for line in content[:end].splitlines():
            try:
                self._count(self._decoder.decode(line))
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue  # a damaged line is monitoring's to report

    def _count(self, line: _Line) -> None:
        self._counts[line.request_us // HOUR_US * HOUR_US, line.surface, line.mode] += 1
        self._n_requests += line.item == 0
        self._newest_us = max(line.request_us, self._newest_us or 0)
