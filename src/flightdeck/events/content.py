"""The content of events: which is the same, and what the digest of a batch is."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flightdeck.core.errors import ContractViolation, some
from flightdeck.core.identifiers import digest_bytes


def first_of_each(events: pa.Table) -> pa.Table:
    """Keep the first row of each `event_id`."""
    codes = events["event_id"].combine_chunks().dictionary_encode()
    if len(codes.dictionary) == events.num_rows:
        return events
    first = (
        pa.table({"code": codes.indices, "row": range(events.num_rows)}).group_by("code").aggregate([("row", "min")])
    )
    return events.take(first["row_min"].combine_chunks().sort())


def refuse_changed(stream: str, known: pa.Table, again: pa.Table) -> None:
    """Refuse events whose id the log holds with another content (where they came from may differ).

    Raises
    ------
    ContractViolation
        If an event has changed.
    """
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


def digest_of(events: pa.Table) -> str:
    """Return the digest of a batch's content: its Arrow stream without schema metadata."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, events.schema.remove_metadata()) as writer:
        writer.write_table(events, max_chunksize=1 << 20)
    return digest_bytes(sink.getvalue())
