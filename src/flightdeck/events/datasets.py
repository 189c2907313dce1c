"""Kedro's door to the event log and to raw files."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
from kedro.io import AbstractDataset, DatasetError

from flightdeck.events.log import EventLog, StreamVersion
from flightdeck.events.raw_file import RawRows, keep_rows, land, read_rows
from flightdeck.events.stream import Stream


class RawFileDataset(AbstractDataset[None, RawRows]):
    """A source file below `data/01_raw`, landed from an installed distribution at the first load.

    Parameters
    ----------
    filepath
        Where the file lies.
    source
        Name of the source.
    distribution, member
        Installed Python distribution and the file of it to land when `filepath` does not exist.
    only
        Allowed texts by column; other rows are left out (see `keep_rows`).
    quarantine
        Folder for files that are refused as a whole, and for the history of the source's columns.
    """

    def __init__(
        self,
        *,
        filepath: str,
        source: str,
        distribution: str,
        member: str,
        only: dict[str, list[str]] | None = None,
        quarantine: str | None = None,
    ) -> None:
        self._only = only or {}
        self._quarantine = Path(quarantine) if quarantine else None
        self._filepath = Path(filepath)
        self._source = source
        self._distribution = distribution
        self._member = member

    def load(self) -> RawRows:
        """Return the rows as strings.

        Raises
        ------
        ContractViolation, NotFoundError
            As `read_rows` and `land` say.
        """
        land(self._filepath, distribution=self._distribution, member=self._member)
        rows = replace(read_rows(self._filepath, self._source), quarantine=self._quarantine)
        return keep_rows(rows, self._only) if self._only else rows

    def save(self, data: None) -> None:
        """Refuse: sources are delivered, not written."""
        raise DatasetError(f"source {self._source} is delivered, not written by a pipeline")

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath), "source": self._source, "distribution": self._distribution}


class EventStreamDataset(AbstractDataset[tuple[Stream, pa.Table], pa.Table]):
    """One stream of the event log: saving appends what is new, loading reads the latest (or a pinned) version.

    The loaded table's schema metadata says which version was read: `flightdeck.stream`, `.version`, `.digest`,
    `.n_rows`.

    Parameters
    ----------
    filepath
        Folder of the log.
    stream
        Name of the stream.
    version
        Version to read; None reads the latest.
    """

    def __init__(self, *, filepath: str, stream: str, version: int | None = None) -> None:
        self._log = EventLog(Path(filepath))
        self._stream = stream
        self._version = version
        self._loaded: tuple[StreamVersion, pa.Table] | None = None

    def load(self) -> pa.Table:
        """Return the events, sorted by knowledge, with the version in the schema's metadata.

        A version never changes, so it is read once until Kedro releases the dataset.
        """
        read = self._log.version(self._stream, self._version)
        if self._loaded is None or self._loaded[0] != read:
            table = self._log.read(self._stream, version=read.version)
            facts = {"stream": self._stream, **read.as_json()}
            marked = table.replace_schema_metadata({f"flightdeck.{key}": str(value) for key, value in facts.items()})
            self._loaded = read, marked
        return self._loaded[1]

    def save(self, data: tuple[Stream, pa.Table]) -> None:
        """Append the events that the log does not hold yet."""
        stream, events = data
        self._log.append(stream, events)

    def _release(self) -> None:
        self._loaded = None

    def _exists(self) -> bool:
        return (self._log.root / self._stream / "_delta_log").is_dir()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._log.root), "stream": self._stream, "version": self._version}
