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

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, write_deltalake
from deltalake.exceptions import TableNotFoundError

from flightdeck.core.clock import from_us
from flightdeck.core.errors import ContractViolation, NotFoundError, some
from flightdeck.core.identifiers import digest_bytes
from flightdeck.events.stream import INSTANT, Stream

ORDER = [("created_timestamp", "ascending"), ("event_id", "ascending")]


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

    def append(self, stream: Stream, events: pa.Table) -> AppendReceipt:
        """Append the events that the stream does not hold yet, in order of knowledge, as one atomic commit.

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
        cast = _first_of_each(stream.cast(events))
        with self._exclusive():
            before = self._version(stream.name)
            fresh = cast
            if before:
                known = self.read(stream.name)
                is_known = pc.is_in(cast["event_id"], value_set=known["event_id"])
                _refuse_changed(stream.name, known, cast.filter(is_known))
                fresh = cast.filter(pc.invert(is_known))
            n_duplicates = events.num_rows - fresh.num_rows
            if before and not fresh.num_rows:
                return AppendReceipt(0, n_duplicates, before)
            fresh = fresh.sort_by(ORDER).combine_chunks()
            digest = digest_bytes(((before.digest if before else "") + _digest(fresh)).encode())
            n_rows = (before.n_rows if before else 0) + fresh.num_rows
            write_deltalake(
                self.root / stream.name,
                fresh,
                mode="append",
                configuration={"delta.appendOnly": "true"},
                commit_properties=CommitProperties(custom_metadata={"digest": digest, "n_rows": str(n_rows)}),
            )
            return AppendReceipt(fresh.num_rows, n_duplicates, self.version(stream.name))

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
                part = compare(pc.field("created_timestamp"), pa.scalar(from_us(bound), INSTANT))
                condition = part if condition is None else condition & part
        data = self._table(stream, version).to_pyarrow_dataset().to_table(columns=wanted, filter=condition)
        ordered = data.sort_by(ORDER)
        return ordered.select(columns) if columns else ordered

    def version(self, stream: str, version: int | None = None) -> StreamVersion:
        """Return number, digest and size of a stream's version (default: the latest).

        Raises
        ------
        NotFoundError
            If the stream or the version does not exist.
        """
        number = self._table(stream, version).version()
        # deltalake 1.6 numbers the commits of an old version's history wrongly; the latest version's are right.
        commits = self._table(stream, None).history()
        commit = next(commit for commit in commits if commit["version"] == number)
        return StreamVersion(number, str(commit["digest"]), int(commit["n_rows"]))

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

    def _version(self, stream: str) -> StreamVersion | None:
        return self.version(stream) if (self.root / stream / "_delta_log").is_dir() else None

    def _table(self, stream: str, version: int | None) -> DeltaTable:
        try:
            return DeltaTable(self.root / stream, version=version)
        except TableNotFoundError as error:
            there = sorted(path.parent.name for path in self.root.glob("*/_delta_log"))
            asked = stream if version is None else f"{stream} at version {version}"
            raise NotFoundError(
                f"reading the event log: no stream {asked} in {self.root} (there: {some(there) or 'nothing'})",
                next_step=_NEXT_STEP,
            ) from error

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


def _first_of_each(events: pa.Table) -> pa.Table:
    """Keep the first row of each `event_id`."""
    codes = events["event_id"].combine_chunks().dictionary_encode()
    if len(codes.dictionary) == events.num_rows:
        return events
    first = (
        pa.table({"code": codes.indices, "row": range(events.num_rows)}).group_by("code").aggregate([("row", "min")])
    )
    return events.take(first["row_min"].combine_chunks().sort())


def _refuse_changed(stream: str, known: pa.Table, again: pa.Table) -> None:
    """Refuse events whose id the log holds with another content (where they came from may differ)."""
    columns = [name for name in known.column_names if name not in ("source", "source_offset")]
    ours = known.filter(pc.is_in(known["event_id"], value_set=again["event_id"])).select(columns).sort_by("event_id")
    theirs = again.select(columns).sort_by("event_id")
    changed = np.zeros(ours.num_rows, dtype=bool)
    for name in columns:
        one, other = ours[name].combine_chunks(), theirs[name].combine_chunks()
        if pa.types.is_floating(one.type):
            one, other = one.view(pa.int64()), other.view(pa.int64())  # NaN is NaN
        equal = pc.or_(pc.fill_null(pc.equal(one, other), False), pc.and_(one.is_null(), other.is_null()))
        changed |= ~equal.to_numpy(zero_copy_only=False)
    if changed.any():
        names = ours["event_id"].filter(pa.array(changed)).to_pylist()
        raise ContractViolation(
            f"stream {stream!r}: {len(names):,} events that the log holds come with another content: {some(names)}; "
            "nothing was appended",
            next_step="deliver a correction as an event with an id and a time of knowledge of its own, or build the "
            "log anew from the corrected file: move its folder away and run kedro run --pipelines ingestion",
        )


def _digest(events: pa.Table) -> str:
    """Return the digest of a batch's content: its Arrow stream without schema metadata."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, events.schema.remove_metadata()) as writer:
        writer.write_table(events, max_chunksize=1 << 20)
    return digest_bytes(sink.getvalue())
