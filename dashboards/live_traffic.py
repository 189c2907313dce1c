"""Counting answers while they are given: the prediction log, read on from where the last look ended.

Monitoring judges a finished day; this shows the one that runs. Only whole frames count: the end of a segment may be in
the middle of being written. Where a segment was made columnar and deleted meanwhile, its Parquet parts are read on from
the same place.
"""

import threading
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flightdeck.core.clock import MINUTE_US
from flightdeck.inference.prediction_log_folder import Source, list_sources
from flightdeck.inference.prediction_log_frame import WEIGHT
from flightdeck.inference.prediction_log_read import read_rest
from flightdeck.inference.prediction_log_table import FRAME_AT, to_tables

HOUR_US = 60 * MINUTE_US
COLUMNS = ("hour", "surface", "mode", "n")
_READ = ["request_us", "surface", "mode", "item", WEIGHT]


class LiveTraffic:
    """Answers by hour of request time, surface and mode; a record counts by its weight. May be shared by threads.

    Parameters
    ----------
    folder
        Folder of the prediction log; may be missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._forget()

    @property
    def newest_us(self) -> int | None:
        """Time of the newest request, UTC microseconds; None without one."""
        return self._newest_us

    @property
    def n_requests(self) -> int:
        """Requests that the records read so far stand for."""
        return round(self._n_requests)

    def refresh(self) -> None:
        """Read what was appended since the last look; start over where records that were read are gone.

        Raises
        ------
        OSError
            If a file cannot be read.
        """
        with self._lock, suppress(FileNotFoundError):  # deleted while it was read: the next look reads its parts
            sources = {source.name: source for source in list_sources(self._folder)}
            if any(_end(sources.get(name)) < offset for name, offset in self._offsets.items()):
                self._forget()
            for source in sources.values():
                self._read_on(source)

    def latest(self, hours: int = 24) -> pd.DataFrame:
        """Return the answers of the last `hours` of request time: hour (UTC), surface, mode, n; sorted."""
        with self._lock:
            since_us = (self._newest_us or 0) - hours * HOUR_US
            rows = [(*key, round(n)) for key, n in sorted(self._counts.items()) if key[0] > since_us]
        frame = pd.DataFrame(rows, columns=list(COLUMNS)).astype({"n": "int64"})
        return frame.assign(hour=pd.to_datetime(frame["hour"].astype("int64"), unit="us", utc=True))

    def _forget(self) -> None:
        self._offsets: dict[str, int] = {}
        self._counts: defaultdict[tuple[int, str, str], float] = defaultdict(float)
        self._newest_us: int | None = None
        self._n_requests = 0.0

    def _read_on(self, source: Source) -> None:
        """Count what lies behind the last look: in parts first, then in the segment."""
        offset = self._offsets.get(source.name, 0)
        for part in source.parts:
            if part.end > offset:
                table = pq.ParquetFile(part.path).read([FRAME_AT, *_READ])
                self._count(table.filter(pc.greater_equal(table[FRAME_AT], offset)))
                offset = part.end
                self._offsets[source.name] = offset
        if source.path is None or source.path.stat().st_size <= offset:
            return
        rest = read_rest(source.path, offset)
        for table in to_tables(source.name, rest.frames):
            self._count(table)
        self._offsets[source.name] = rest.end

    def _count(self, table: pa.Table) -> None:
        if not len(table):
            return
        rows = table.select(_READ).to_pandas()
        hours = rows["request_us"] // HOUR_US * HOUR_US
        for (hour, surface, mode), n in rows.groupby([hours, "surface", "mode"])[WEIGHT].sum().items():
            self._counts[int(hour), surface, mode] += float(n)
        self._n_requests += float(rows.loc[rows["item"] == 0, WEIGHT].sum())
        self._newest_us = max(int(rows["request_us"].max()), self._newest_us or 0)


def _end(source: Source | None) -> int:
    """Return up to where records of a segment can be read: -1 if it is gone with all of its parts."""
    if source is None:
        return -1
    return max(source.covered, source.path.stat().st_size if source.path else 0)
