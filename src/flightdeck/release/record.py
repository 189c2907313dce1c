"""One record of the ledger, and the chain that a list of records forms.

The digest of a record covers everything in it and the digest of the record before: editing, deleting, inserting or
reordering records breaks the chain from there on.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from flightdeck.core.errors import LedgerCorrupt
from flightdeck.core.identifiers import canonical_json, digest_json

GENESIS = "0" * 64
RESTORE = "stop releasing, restore the file from a backup and compare; the service keeps what it has loaded"


class Record(msgspec.Struct, frozen=True):
    """One step: what was done, by whom, to which model version, when, and the digests that chain it."""

    seq: int
    recorded_at: datetime
    action: str
    actor: str
    subject: str
    detail: dict[str, Any]
    previous_digest: str
    digest: str


def make_record(
    seq: int, at: datetime, action: str, actor: str, subject: str, detail: Mapping[str, object], previous_digest: str
) -> Record:
    """Return the record that follows the one with `previous_digest`; `detail` is reduced to plain JSON values."""
    plain = json.loads(canonical_json(dict(detail)))
    record = Record(seq, at.astimezone(UTC), action, actor, subject, plain, previous_digest, "")
    return msgspec.structs.replace(record, digest=digest_of(record))


def digest_of(record: Record) -> str:
    """Return the digest that the content of `record` should have."""
    return digest_json(_content(record))


def to_row(record: Record) -> tuple[object, ...]:
    """Return the values of a record in the order of its fields, as SQLite stores them."""
    content = {**_content(record), "detail": canonical_json(record.detail).decode()}
    return (*content.values(), record.digest)


def from_row(row: Sequence[Any]) -> Record:
    """Return the record that `row` holds.

    Raises
    ------
    LedgerCorrupt
        If a value is not what `to_row` writes.
    """
    fields = dict(zip(Record.__struct_fields__, row, strict=True))
    try:
        return msgspec.convert({**fields, "detail": json.loads(fields["detail"])}, Record)
    except (msgspec.ValidationError, ValueError, TypeError) as error:
        raise LedgerCorrupt(f"reading the ledger: record {row[0]} is damaged: {error}", next_step=RESTORE) from error


def compare_chain(records: Sequence[Record], *, starts_at: int = 1) -> None:
    """Check that `records` begins at sequence number `starts_at`, has no gap and that every digest fits.

    Raises
    ------
    LedgerCorrupt
        Naming the first record that does not follow the one before it.
    """
    previous = records[0].previous_digest if records and starts_at > 1 else GENESIS
    for seq, record in enumerate(records, start=starts_at):
        if record.seq != seq or record.previous_digest != previous or record.digest != digest_of(record):
            raise LedgerCorrupt(
                f"reading the ledger: record {record.seq} was altered or does not follow record {seq - 1}",
                next_step=RESTORE,
            )
        previous = record.digest


def _content(record: Record) -> dict[str, object]:
    content: dict[str, object] = msgspec.structs.asdict(record)
    del content["digest"]
    content["recorded_at"] = record.recorded_at.astimezone(UTC).isoformat(timespec="microseconds")
    return content
