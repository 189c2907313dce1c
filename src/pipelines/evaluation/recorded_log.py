"""The event log as a training has read it: each stream at its recorded version, whatever was appended since."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from flightdeck.events.log import EventLog, StreamVersion
from pipelines.features.rebuild import recorded_version


class RecordedLog(EventLog):
    """An event log whose latest version is a recorded one.

    Parameters
    ----------
    root
        Folder of the log.
    streams
        Names of the streams that will be read.
    recorded
        `data_versions` of the bundle's `training.json`.

    Raises
    ------
    ContractViolation, NotFoundError
        If the log does not hold what was recorded.
    """

    def __init__(self, root: Path, streams: Iterable[str], recorded: Mapping[str, Any]) -> None:
        super().__init__(root)
        log = EventLog(root)
        self._recorded = {stream: recorded_version(log, stream, recorded).version for stream in streams}

    def version(self, stream: str, version: int | None = None) -> StreamVersion:
        """Return the recorded version of a stream (or the one that is asked for)."""
        return super().version(stream, self._recorded[stream] if version is None else version)

    def read(
        self,
        stream: str,
        *,
        version: int | None = None,
        columns: list[str] | None = None,
        created_after_us: int | None = None,
        created_until_us: int | None = None,
    ) -> pa.Table:
        """Return events of the recorded version, else as `EventLog.read`."""
        return super().read(
            stream,
            version=self._recorded[stream] if version is None else version,
            columns=columns,
            created_after_us=created_after_us,
            created_until_us=created_until_us,
        )
