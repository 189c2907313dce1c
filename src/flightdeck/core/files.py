"""Writing files so that a reader, or a crash, sees the old content or the new, never half of it."""

import json
import os
from pathlib import Path

from flightdeck.core.failpoints import failpoint


def write_atomically(path: Path, content: bytes, *, mode: int = 0o666) -> None:
    """Replace the file at `path` by `content`: write beside it, flush to the disk, rename over it.

    Parameters
    ----------
    path
        The file.
    content
        All of its new content.
    mode
        Its permissions, less what the umask takes away; no reader ever sees it with others.

    Raises
    ------
    OSError
        If the disk is full or the folder cannot be written; the old file is then untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as stream:  # noqa: PTH123
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        failpoint("file.written")
        beside.replace(path)
        failpoint("file.renamed")
    finally:
        beside.unlink(missing_ok=True)
    sync_folder(path.parent)


def write_json(path: Path, value: object) -> None:
    """Write `value` as indented JSON, atomically. NaN is refused: write None."""
    write_atomically(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False).encode() + b"\n")


def sync_folder(folder: Path) -> None:
    """Flush a folder's own entries, so that a rename inside it survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
