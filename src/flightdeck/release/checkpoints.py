"""Signed checkpoints: which digest the ledger had at which record, kept in a file outside the database.

One line a checkpoint, signed with Ed25519 and holding the digest of the line before. A ledger that was cut short,
replaced, forked or brought back from an old backup does not have the record that the newest checkpoint names. Lines cut
off the end of the file itself show against a copy kept elsewhere.
"""

import errno
import fcntl
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from flightdeck.core.errors import ConfigError, FlightdeckError, LedgerCorrupt, LedgerUnusable
from flightdeck.core.failpoints import failpoint
from flightdeck.core.files import sync_folder
from flightdeck.core.identifiers import canonical_json, digest_bytes
from flightdeck.core.layout import PROJECT
from flightdeck.release.record import GENESIS
from flightdeck.release.signing import PublicKey, Signer, open_signer, read_public_key

FILE, PUBLIC_KEY, LOCK = "checkpoints.jsonl", "signing.pub", "lock"
ROOM_BYTES = 64 << 10
UNFINISHED = b"\n"  # what a line that was never finished ends with here: no finished one can
_TAIL_BYTES = 4096  # a line has some 500
logger = logging.getLogger(__name__)


class Checkpoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of the file.

    Parameters
    ----------
    seq, digest
        Number and digest of the record that was the ledger's last.
    at
        When it was signed.
    ledger
        Digest of the ledger's first record, which no other ledger has.
    key
        Name of the key that signed.
    previous
        SHA-256 of the line before, without its end; 64 zeros for the first.
    signature
        Ed25519 over the canonical JSON of the other fields, hexadecimal.
    """

    seq: int
    digest: str
    at: datetime
    ledger: str
    key: str
    previous: str
    signature: str


def sign_checkpoint(signer: Signer, seq: int, digest: str, ledger: str, at: datetime, previous: str) -> bytes:
    """Return one line, without its end."""
    content = {
        "seq": seq,
        "digest": digest,
        "at": at.astimezone(UTC).isoformat(timespec="microseconds"),
        "ledger": ledger,
        "key": signer.public.name,
        "previous": previous,
    }
    return canonical_json({**content, "signature": signer.sign(canonical_json(content))})


def read_checkpoint(line: bytes, key: PublicKey) -> Checkpoint:
    """Return the checkpoint of a line.

    Raises
    ------
    ValueError
        If it is not what `sign_checkpoint` wrote with this key, saying why.
    """
    if line.endswith(UNFINISHED):
        raise ValueError("it has no end: cut by a crash or by somebody; kedro audit checkpoint takes it off")
    try:
        checkpoint = msgspec.json.decode(line, type=Checkpoint)
        content = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"it is damaged ({error})") from error
    if canonical_json(content) != line:
        raise ValueError("it was written by somebody else")
    signature = content.pop("signature")
    if not key.is_signed(canonical_json(content), signature):
        raise ValueError(f"its signature is not one of key {key.name}")
    return checkpoint


def read_checkpoints(lines: Sequence[bytes], key: PublicKey) -> tuple[list[Checkpoint], list[str]]:
    """Return the checkpoints of a file up to the first line that is wrong, and what is wrong with it.

    Parameters
    ----------
    lines
        Lines without their ends; an unfinished line counts.
    key
        Who may have signed.
    """
    found: list[Checkpoint] = []
    previous = GENESIS
    for number, line in enumerate(lines, start=1):
        try:
            checkpoint = read_checkpoint(line, key)
        except ValueError as error:
            return found, [f"checkpoint line {number}: {error}"]
        if checkpoint.previous != previous:
            return found, [f"checkpoint line {number} does not follow the line before it"]
        if found and checkpoint.seq <= found[-1].seq:
            return found, [f"checkpoint line {number} names record {checkpoint.seq} after record {found[-1].seq}"]
        found.append(checkpoint)
        previous = digest_bytes(line)
    return found, []


def split_lines(content: bytes) -> list[bytes]:
    """Return the lines of a file of checkpoints; the last one is wrong where its end is missing."""
    *lines, rest = content.split(b"\n")
    return [*lines, rest + UNFINISHED] if rest else lines


class CheckpointLog:
    """The file of checkpoints in a folder, and the key that signs them.

    Parameters
    ----------
    folder
        Where file and public key lie; best another disk than the ledger's, copied somewhere else regularly.
    private_key
        File of the private key; the pair is made by the first checkpoint.
    """

    def __init__(self, folder: Path, private_key: Path) -> None:
        self.path = folder / FILE
        self.public_key = folder / PUBLIC_KEY
        self._private_key = private_key

    def lines(self) -> list[bytes]:
        """Return all lines; bytes after the last line end are a line too."""
        try:
            return split_lines(self.path.read_bytes())
        except FileNotFoundError:
            return []

    def newest(self) -> Checkpoint | None:
        """Return the newest checkpoint, None before the first.

        Raises
        ------
        LedgerCorrupt
            If the last finished line is not what was signed.
        ConfigError
            If the public key cannot be read.
        ReleaseRefused
            If the file cannot be read.
        """
        try:
            if not self.path.exists():
                return None
            with self.path.open("rb") as stream:
                line = _last_line(stream.fileno())
        except OSError as error:
            raise self._unusable("reading", error) from error
        return self._read(line) if line else None

    def require_room(self) -> None:
        """Refuse where the next line could not be written: the disk is full, or may not be written to.

        Raises
        ------
        ReleaseRefused
            Saying why.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            os.close(os.open(self.path.parent / LOCK, os.O_RDWR | os.O_CREAT, 0o644))
            disk = os.statvfs(self.path.parent)
            if disk.f_bavail * disk.f_frsize < ROOM_BYTES:
                raise OSError(errno.ENOSPC, f"less than {ROOM_BYTES:,} bytes are free")  # noqa: TRY301
        except OSError as error:
            raise self._unusable("making room for", error) from error

    def extend(self, seq: int, digest: str, ledger: str, at: datetime) -> Checkpoint:
        """Sign a record where no checkpoint names it or a later one yet; return the newest checkpoint.

        A line that a crash left unfinished is cut off first. Returns once the line is on the disk.

        Raises
        ------
        LedgerCorrupt
            If the last finished line is not what was signed.
        ConfigError
            If the key cannot be used.
        ReleaseRefused
            If the file cannot be written.
        """
        try:
            with self._locked() as descriptor:
                signer = open_signer(self._private_key, self.public_key)
                last = _last_line(descriptor)
                known = self._read(last) if last else None
                if known is not None and known.seq >= seq:
                    return known
                previous = digest_bytes(last) if last else GENESIS
                line = sign_checkpoint(signer, seq, digest, ledger, at, previous)
                _append(descriptor, line + b"\n")
                return read_checkpoint(line, signer.public)
        except OSError as error:
            raise self._unusable("writing", error) from error

    def extend_or_warn(self, seq: int, digest: str, ledger: str, at: datetime) -> None:
        """Sign a record; what hinders it is logged: the record itself is decided and on the disk."""
        self.warn_of(lambda: self.extend(seq, digest, ledger, at))

    def warn_of(self, step: Callable[[], Checkpoint | None]) -> Checkpoint | None:
        """Return what a step returns, None where it fails, which is logged."""
        try:
            return step()
        except FlightdeckError as error:
            logger.warning("%s", error)
            return None

    def _read(self, line: bytes) -> Checkpoint:
        try:
            return read_checkpoint(line, read_public_key(self.public_key))
        except ValueError as error:
            raise LedgerCorrupt(
                f"reading the checkpoints {self.path}: the last line is not what was signed: {error}",
                next_step="look: kedro audit verify; restore the file from its copy",
            ) from error

    @contextmanager
    def _locked(self) -> Iterator[int]:
        """Give the open file to one process at a time; it is made where it is absent."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(self.path.parent / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            is_new = not self.path.exists()
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                if is_new:
                    sync_folder(self.path.parent)
                yield descriptor
            finally:
                os.close(descriptor)
        finally:
            os.close(lock)

    def _unusable(self, doing: str, error: OSError) -> LedgerUnusable:
        return LedgerUnusable(
            f"{doing} the checkpoints {self.path}: {error}; what is decided now would not be covered",
            next_step="free the disk or mend the folder, then run kedro audit checkpoint",
        )


def checkpoint_folder(name: str) -> Path:
    """Return the folder that a path or a `file://` address names.

    Raises
    ------
    ConfigError
        If it is another kind of address.
    """
    plain = name.removeprefix("file://")
    if "://" in plain or not plain:
        raise ConfigError(
            f"reading ledger.yml: checkpoints are to be kept in {name!r}",
            next_step="name a folder or a file:// address; mount a bucket or a share of another machine there",
        )
    return PROJECT / plain


def _last_line(descriptor: int) -> bytes:
    """Return the last finished line of an open file, empty without one."""
    size = os.fstat(descriptor).st_size
    start = max(size - _TAIL_BYTES, 0)
    finished, end, _ = os.pread(descriptor, size - start, start).rpartition(b"\n")
    return finished.rpartition(b"\n")[2] if end else b""


def _append(descriptor: int, line: bytes) -> None:
    """Write a line after the last finished one; where the disk does not take all of it, none of it is left."""
    size = os.fstat(descriptor).st_size
    start = max(size - _TAIL_BYTES, 0)
    tail = os.pread(descriptor, size - start, start)
    end = start + tail.rfind(b"\n") + 1 if b"\n" in tail else start
    os.ftruncate(descriptor, end)
    failpoint("checkpoint.cut")
    if os.pwrite(descriptor, line, end) != len(line):
        os.ftruncate(descriptor, end)
        raise OSError(errno.ENOSPC, "the disk took a part of the line only")
    failpoint("checkpoint.written")
    os.fsync(descriptor)
