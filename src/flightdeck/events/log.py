"""The event log: append-only, versioned, one Delta table a stream (ADR 0001).

Every append is one commit with a version number. A version's digest chains the digests of all batches up to it, so two
logs with the same digest hold the same events in the same order of arrival. Appending the same events again changes
nothing: an event counts once, by its `event_id`.
"""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, write_deltalake
from deltalake.exceptions import DeltaError, TableNotFoundError
from pyarrow.dataset import FileSystemDataset

from flightdeck.core.errors import NotFoundError, some
from flightdeck.core.identifiers import digest_bytes
from flightdeck.events.commits import LOG_FOLDER, Commit, latest_commit, read_commit
from flightdeck.events.content import digest_of, first_of_each, refuse_changed
from flightdeck.events.known_ids import Hashes, KnownIds, hashes_of
from flightdeck.events.log_files import with_known_bounds
from flightdeck.events.stream import INSTANT, Stream

ORDER = [("created_timestamp", "ascending"), ("event_id", "ascending")]
KNOWN = ".known"
CONFIGURATION: dict[str, str | None] = {"delta.appendOnly": "true", "delta.enableExpiredLogCleanup": "false"}


@dataclass(frozen=True)
class StreamVersion:
    """What a training set names to say which events it read.

    Parameters
    ----------
    version
        Number of the commit, from 0.
    digest
        SHA-256 chain over all batches up to this version.
    n_rows
        Number of events in the stream at this version.
    """

    version: int
    digest: str
    n_rows: int

    def as_json(self) -> dict[str, object]:
        """Return the version as a JSON object."""
        return asdict(self)


@dataclass(frozen=True)
class AppendReceipt:
    """What an append did: events written, events that were there already, and the version now."""

    n_appended: int
    n_duplicates: int
    version: StreamVersion


class EventLog:
    """All streams below one folder.

    Parameters
    ----------
    root
        Folder of the log; made at the first append.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._opened: dict[str, tuple[tuple[int, int], DeltaTable]] = {}

    def __getstate__(self) -> dict[str, object]:
        """Leave open tables behind when the log is copied to another process."""
        return {"root": self.root, "_opened": {}}

    def append(self, stream: Stream, events: pa.Table) -> AppendReceipt:
        """Append the events that the stream does not hold yet, in order of knowledge, as one atomic commit.

        Takes time for the events given, not for those that the log holds (`known_ids.py`).

        Parameters
        ----------
        stream
            Declaration of the stream.
        events
            Events with the columns of the declaration, in any order; a repeated `event_id` counts once (the first).

        Raises
        ------
        ContractViolation
            If a column is missing, unseen or of another type, or an event that the log holds comes with another
            content: the log is append-only, a correction is an event of its own.
        OSError
            If the disk refuses; nothing is appended then.
        """
        cast = first_of_each(stream.cast(events))
        with self._exclusive():
            table = self._current(stream.name)
            before = self._latest(stream.name, table) if table else None
            known_ids = KnownIds(self.root / KNOWN / stream.name)
            hashes = hashes_of(cast["event_id"])
            fresh = cast
            if before:
                known = self._held(stream.name, before, known_ids, cast, hashes)
                is_known = pc.is_in(cast["event_id"], value_set=known["event_id"])
                refuse_changed(stream.name, known, cast.filter(is_known))
                fresh = cast.filter(pc.invert(is_known))
            else:
                known_ids.load(lambda _: None)
            n_duplicates = events.num_rows - fresh.num_rows
            if before and not fresh.num_rows:
                return AppendReceipt(0, n_duplicates, before)
            fresh = fresh.sort_by(ORDER).combine_chunks()
            version = self._commit(stream.name, table, fresh, before)
            known_ids.add(version.version, version.digest, hashes_of(fresh["event_id"]))
            return AppendReceipt(fresh.num_rows, n_duplicates, version)

    def read_since(
        self, stream: str, version: int, *, until: int | None = None, columns: list[str] | None = None
    ) -> tuple[pa.Table, StreamVersion]:
        """Return the events that were appended after a version, in order of arrival, and the version that they make.

        Parameters
        ----------
        stream
            Name of the stream.
        version
            The last version that is known already, -1 for none.
        until
            Last version to read (default: the latest).
        columns
            Columns to read (default: all).

        Raises
        ------
        NotFoundError
            If the stream does not exist or its log does not reach back that far.
        """
        now = self.version(stream, until)
        commits = [self.commit(stream, number) for number in range(version + 1, now.version + 1)]
        files = [file for commit in commits for file in commit.files]
        parts = [pq.read_table(file, columns=columns, partitioning=None) for file in files]
        if not parts:
            schema = self._table(stream, now.version).to_pyarrow_dataset().schema
            parts = [(pa.schema([schema.field(name) for name in columns]) if columns else schema).empty_table()]
        return pa.concat_tables(parts), now

    def read(
        self,
        stream: str,
        *,
        version: int | None = None,
        columns: list[str] | None = None,
        created_after_us: int | None = None,
        created_until_us: int | None = None,
    ) -> pa.Table:
        """Return events with `created_after_us < created_timestamp <= created_until_us`, sorted by knowledge then id.

        Raises
        ------
        NotFoundError
            If the stream or the version does not exist.
        """
        wanted = columns and list(dict.fromkeys([*columns, "created_timestamp", "event_id"]))
        condition = None
        for bound, compare in ((created_after_us, pc.greater), (created_until_us, pc.less_equal)):
            if bound is not None:
                part = compare(pc.field("created_timestamp"), pa.scalar(bound, pa.int64()).cast(INSTANT))
                condition = part if condition is None else condition & part
        data = self._files(stream, version).to_table(columns=wanted, filter=condition)
        ordered = data.sort_by(ORDER)
        return ordered.select(columns) if columns else ordered

    def version(self, stream: str, version: int | None = None) -> StreamVersion:
        """Return number, digest and size of a stream's version (default: the latest).

        Raises
        ------
        NotFoundError
            If the stream or the version does not exist.
        """
        number = latest_commit(self.root / stream) if version is None else version
        commit = read_commit(self.root / stream, number) if number >= 0 else None
        if commit:
            return StreamVersion(number, commit.digest, commit.n_rows)
        number = self._table(stream, version).version()
        # deltalake 1.6 numbers the commits of an old version's history wrongly; the latest version's are right.
        commits = self._table(stream, None).history()
        found = next(commit for commit in commits if commit["version"] == number)
        return StreamVersion(number, str(found["digest"]), int(found["n_rows"]))

    def versions(self) -> dict[str, StreamVersion]:
        """Return the latest version of every stream of the log.

        Raises
        ------
        NotFoundError
            If there is no log.
        """
        names = sorted(path.parent.name for path in self.root.glob("*/_delta_log"))
        if not names:
            raise NotFoundError(f"reading the event log: nothing in {self.root}", next_step=_NEXT_STEP)
        return {name: self.version(name) for name in names}

    def columns(self, stream: str) -> list[str]:
        """Return the names of a stream's columns.

        Raises
        ------
        NotFoundError
            If the stream does not exist.
        """
        return list(self._table(stream, None).to_pyarrow_dataset().schema.names)

    def commit(self, stream: str, version: int) -> Commit:
        """Return what a version added.

        Raises
        ------
        NotFoundError
            If the log does not say so (any more).
        """
        commit = read_commit(self.root / stream, version)
        if commit is None:
            raise NotFoundError(
                f"reading the event log: stream {stream} does not say any more what version {version} added",
                next_step="read the whole stream; a store that was following it is filled by kedro features backfill",
            )
        return commit

    def _held(
        self, stream: str, before: StreamVersion, known_ids: KnownIds, asked: pa.Table, hashes: Hashes
    ) -> pa.Table:
        """Return the events of the log whose ids are asked for."""
        wanted = pc.field("event_id").isin(asked["event_id"].combine_chunks())
        try:
            reached = known_ids.load(lambda version: self._facts(stream, version))
            for number in range(reached + 1, before.version + 1):
                missed, version = self.read_since(stream, number - 1, until=number, columns=["event_id"])
                known_ids.add(number, version.digest, hashes_of(missed["event_id"]))
            is_suspected, versions = known_ids.suspects(hashes)
            if not is_suspected.any():
                return asked.slice(0, 0)
            files = [file for number in versions for file in self.commit(stream, number).files]
            return pa.concat_tables(pq.read_table(file, partitioning=None, filters=wanted) for file in files)
        except (NotFoundError, FileNotFoundError):  # commits or files were cleaned away: look at everything
            return self._files(stream, None).to_table(filter=wanted)

    def _facts(self, stream: str, version: int) -> tuple[str, int] | None:
        commit = read_commit(self.root / stream, version)
        return (commit.digest, commit.n_rows) if commit else None

    def _commit(
        self, stream: str, table: DeltaTable | None, fresh: pa.Table, before: StreamVersion | None
    ) -> StreamVersion:
        digest = digest_bytes(((before.digest if before else "") + digest_of(fresh)).encode())
        n_rows = (before.n_rows if before else 0) + fresh.num_rows
        newest_us = fresh["created_timestamp"][-1].value if fresh.num_rows else -1  # statistics stop at milliseconds
        oldest_us = fresh["created_timestamp"][0].value if fresh.num_rows else -1
        facts = {"digest": digest, "n_rows": str(n_rows), "newest_us": str(newest_us), "oldest_us": str(oldest_us)}
        write_deltalake(
            table if table is not None else self.root / stream,
            fresh,
            mode="append",
            configuration=None if table is not None else CONFIGURATION,
            commit_properties=CommitProperties(custom_metadata=facts),
        )
        return StreamVersion(before.version + 1 if before else 0, digest, n_rows)

    def _current(self, stream: str) -> DeltaTable | None:
        """Return the latest state of a stream; a table that was opened before only reads what was added."""
        folder = self.root / stream
        if not (folder / LOG_FOLDER).is_dir():
            return None
        first = folder / LOG_FOLDER / f"{0:020d}.json"  # tells a log that was built anew from the one opened before
        facts = first.stat() if first.exists() else (folder / LOG_FOLDER).stat()
        identity = facts.st_ino, facts.st_mtime_ns if first.exists() else 0
        opened = self._opened.get(stream)
        if opened is None or opened[0] != identity:
            opened = identity, self._table(stream, None)
            self._opened[stream] = opened
        else:
            opened[1].update_incremental()
        return opened[1]

    def _latest(self, stream: str, table: DeltaTable) -> StreamVersion:
        commit = read_commit(self.root / stream, table.version())
        if commit:
            return StreamVersion(commit.version, commit.digest, commit.n_rows)
        last = table.history(limit=1)[0]
        return StreamVersion(table.version(), str(last["digest"]), int(last["n_rows"]))

    def _table(self, stream: str, version: int | None) -> DeltaTable:
        try:
            return DeltaTable(self.root / stream, version=version)
        except (TableNotFoundError, DeltaError) as error:
            if version is None and not isinstance(error, TableNotFoundError):
                raise
            there = sorted(path.parent.name for path in self.root.glob("*/_delta_log"))
            asked = stream if version is None else f"{stream} at version {version}"
            raise NotFoundError(
                f"reading the event log: no stream {asked} in {self.root} (there: {some(there) or 'nothing'})",
                next_step=_NEXT_STEP,
            ) from error

    def _files(self, stream: str, version: int | None) -> FileSystemDataset:
        table = self._table(stream, version)
        return with_known_bounds(table.to_pyarrow_dataset(), pa.table(table.get_add_actions(flatten=True)))

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Let one process append at a time: two appends of the same events must not both count."""
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def version_of(table: pa.Table) -> tuple[str, StreamVersion]:
    """Return the stream's name and version that a loaded table carries in its schema metadata.

    Raises
    ------
    KeyError
        If the table did not come from `EventStreamDataset`.
    """
    facts = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    version = StreamVersion(
        int(facts["flightdeck.version"]), facts["flightdeck.digest"], int(facts["flightdeck.n_rows"])
    )
    return facts["flightdeck.stream"], version


_NEXT_STEP = "build the log from its sources: kedro run --pipelines ingestion"
