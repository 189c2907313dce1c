"""Copying one large file so that a copy that was cut off goes on where it stopped.

While it grows, a copy is called `<name>.part`; every 64 MB it is flushed to the disk, and `<name>.part.json` beside it
then says how many bytes are safe and what their SHA-256 is. Who goes on hashes those bytes again: a state of SHA-256
cannot be stored, and reading is much faster than most copies. A copy gets its name once its hash is right.
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from flightdeck.core.errors import BundleRefused
from flightdeck.core.files import write_atomically
from flightdeck.inference.bundle import FileEntry

PART, PROGRESS = ".part", ".part.json"
BLOCK_BYTES = 4 << 20
SAFE_BYTES = 64 << 20


def copy_resumably(source: Path, target: Path, entry: FileEntry, on_progress: Callable[[int], None]) -> int:
    """Copy `source` to `target` if it is the file of `entry`; return how many bytes were read from the source.

    Parameters
    ----------
    source, target
        Where from and where to; beside the target lies what is kept of an attempt before.
    entry
        SHA-256 and size that the file must have.
    on_progress
        Called with the number of bytes of each block.

    Raises
    ------
    BundleRefused
        If the source is a link or no file, or is another file than `entry` says: the copy is removed then.
    OSError
        If it cannot be read or written; the partial copy stays.
    """
    if source.is_symlink() or not source.is_file():
        raise _refusal(source, "it is missing, a link or no plain file")
    part, progress = target.with_name(target.name + PART), target.with_name(target.name + PROGRESS)
    target.parent.mkdir(parents=True, exist_ok=True)
    with part.open("r+b" if part.exists() else "w+b") as copy, source.open("rb", buffering=0) as original:
        hashed, start = _resume(copy, progress)
        n_bytes = _append(original, copy, hashed, start, progress, on_progress, entry.n_bytes)
    found = hashed.hexdigest()
    if (found, start + n_bytes) != (entry.sha256, entry.n_bytes):
        part.unlink()
        progress.unlink(missing_ok=True)
        raise _refusal(source, f"its SHA-256 is {found[:16]}, the manifest says {entry.sha256[:16]}")
    part.replace(target)
    progress.unlink(missing_ok=True)
    return n_bytes


def _resume(copy: Any, progress: Path) -> tuple[Any, int]:
    """Cut the copy back to what is surely right; return its hash so far and its length."""
    hashed = hashlib.sha256()
    try:
        safe = msgspec.json.decode(progress.read_bytes(), type=FileEntry)
    except (OSError, msgspec.DecodeError):
        safe = FileEntry(hashed.hexdigest(), 0)
    left = safe.n_bytes
    while left and (block := copy.read(min(left, BLOCK_BYTES))):
        hashed.update(block)
        left -= len(block)
    if left or hashed.hexdigest() != safe.sha256:
        hashed, safe = hashlib.sha256(), FileEntry("", 0)
    copy.seek(safe.n_bytes)
    copy.truncate()
    return hashed, safe.n_bytes


def _append(
    original: Any,
    copy: Any,
    hashed: Any,
    start: int,
    progress: Path,
    on_progress: Callable[[int], None],
    limit: int,
) -> int:
    """Append the rest of the original, a block more than `limit` at most; return its length in bytes."""
    original.seek(start)
    block = memoryview(bytearray(BLOCK_BYTES))
    place = safe = start
    while place <= limit and (n_read := original.readinto(block)):
        copy.write(block[:n_read])
        hashed.update(block[:n_read])
        place += n_read
        if place - safe >= SAFE_BYTES:
            copy.flush()
            os.fsync(copy.fileno())
            write_atomically(progress, msgspec.json.encode(FileEntry(hashed.hexdigest(), place)))
            safe = place
        on_progress(n_read)
    return place - start


def _refusal(source: Path, why: str) -> BundleRefused:
    return BundleRefused(f"fetching {source}: {why}", next_step="publish the bundle to the store again")
