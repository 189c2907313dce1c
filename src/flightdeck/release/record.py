"""One record of the ledger, and the chain that a list of records forms.

The digest of a record covers everything in it and the digest of the record before: editing, deleting, inserting or
reordering records breaks the chain from there on. It is the SHA-256 of the record's canonical JSON without the digest,
put together from the stored row: the detail is stored as the very bytes that are digested, and a million rows are
compared in seconds.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from json.encoder import encode_basestring as _quoted
from typing import Any

import msgspec

from flightdeck.core.errors import LedgerCorrupt, ReleaseRefused
from flightdeck.core.identifiers import canonical_json

GENESIS = "0" * 64
RESTORE = "stop releasing, restore the file from a backup and compare; the service keeps what it has loaded"
INERT = frozenset({"alert", "lease"})
"""Actions that decide nothing: the fold passes over them."""

ESCAPES = frozenset({"rolled_back"})
"""Decisions that take a release out: no trouble with checkpoints may stand in their way."""

MOVES = frozenset({"promoted", "approved", "frozen", "thawed", "superseded"})
"""Decisions about where a version stands, which an order that waits for its record may have changed already."""

Row = tuple[Any, ...]
_RAW = msgspec.json.Decoder(msgspec.Raw)


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
    """Return the record that follows the one with `previous_digest`; `detail` is reduced to plain JSON values.

    Raises
    ------
    ReleaseRefused
        If a name has a NUL in it: not every database keeps one.
    """
    if "\0" in f"{action}{actor}{subject}":
        raise ReleaseRefused(f"recording {action!r} by {actor!r} about {subject!r}: a name has no NUL character")
    plain = json.loads(canonical_json(dict(detail)))
    record = Record(seq, at.astimezone(UTC), action, actor, subject, plain, previous_digest, "")
    return msgspec.structs.replace(record, digest=digest_of(record))


def digest_of(record: Record) -> str:
    """Return the digest that the content of `record` should have."""
    return digest_row(to_row(record))


def digest_row(row: Row) -> str:
    """Return the digest that the content of a stored row should have.

    Raises
    ------
    TypeError, ValueError
        If a value is not of the kind that `to_row` gives.
    """
    seq, at, action, actor, subject, detail, previous, _ = row
    if type(seq) is not int or not detail.startswith("{"):
        raise ValueError(f"{seq!r} is no number of a record, or its detail is no JSON object")
    _RAW.decode(detail)  # else a forged detail might end early and bring fields of its own
    content = (
        f'{{"action":{_quoted(action)},"actor":{_quoted(actor)},"detail":{detail},'
        f'"previous_digest":{_quoted(previous)},"recorded_at":{_quoted(at)},"seq":{seq},"subject":{_quoted(subject)}}}'
    )
    return hashlib.sha256(content.encode()).hexdigest()


def to_row(record: Record) -> Row:
    """Return the values of a record in the order of its fields, as databases store them."""
    at = record.recorded_at.astimezone(UTC).isoformat(timespec="microseconds")
    detail = canonical_json(record.detail).decode()
    names = (record.action, record.actor, record.subject)
    return (record.seq, at, *names, detail, record.previous_digest, record.digest)


def from_row(row: Row) -> Record:
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


def follow_chain(rows: Iterable[Row], *, starts_at: int = 1) -> Iterator[Row]:
    """Yield `rows` as long as each follows the one before it, the first of them being number `starts_at`.

    Raises
    ------
    LedgerCorrupt
        Naming the first record that does not follow, or was altered.
    """
    previous = GENESIS if starts_at <= 1 else None
    for seq, row in enumerate(rows, start=starts_at):
        try:
            is_whole = row[0] == seq and previous in (None, row[6]) and digest_row(row) == row[7]
        except (TypeError, ValueError, AttributeError):
            is_whole = False
        if not is_whole:
            raise LedgerCorrupt(
                f"reading the ledger: record {row[0]} was altered or does not follow record {seq - 1}",
                next_step=RESTORE,
            )
        previous = row[7]
        yield row
