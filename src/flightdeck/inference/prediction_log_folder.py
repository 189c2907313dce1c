"""The folder of the prediction log: segments that processes append to, and Parquet parts that were made of them.

A part is named `<segment>.<first>-<end>.parquet` by the bytes of the segment that it holds. The names are the only
record of what was made columnar: a part appears whole, by a rename, so each byte is in one part or in none.
"""

import fcntl
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

SEGMENT = ".frames"
FORMER = ".jsonl"
_PART = re.compile(r"(?P<segment>.+)\.(?P<first>\d{12})-(?P<end>\d{12})\.parquet")


@dataclass(frozen=True)
class Part:
    """A Parquet file that holds the records of some bytes of a segment."""

    path: Path
    segment: str
    first: int
    end: int


@dataclass
class Source:
    """One segment as it lies in the folder.

    Parameters
    ----------
    name
        Name of the segment without its suffix.
    path
        Its file; None once it is deleted.
    parts
        Its parts by place.
    """

    name: str
    path: Path | None = None
    parts: list[Part] = field(default_factory=list)

    @property
    def covered(self) -> int:
        """Bytes of the segment that are in parts, from the beginning."""
        return max((part.end for part in self.parts), default=0)

    @property
    def writer(self) -> str:
        """Name of the process that wrote it: start and process id."""
        return self.name.rpartition("-")[0]


def list_sources(folder: Path) -> list[Source]:
    """Return all segments with their parts, sorted by name; a missing folder has none.

    Segments are listed before parts: one that is made columnar and deleted meanwhile is seen as a file that is gone, or
    by its parts, never as neither. A folder that changes while it is listed may hide a part and show the next one, so a
    listing with a gap is made again; a gap that stays is a part that somebody removed.
    """
    sources, gaps = _list(folder), set[Part]()
    while (found := _after_gaps(sources)) - gaps:
        sources, gaps = _list(folder), found
    return sources


def list_parts(folder: Path, segment: str = "*") -> list[Part]:
    """Return the parts in a folder, or those of one segment, sorted by segment and place."""
    found = ((path, _PART.fullmatch(path.name)) for path in sorted(folder.glob(f"{segment}.*.parquet")))
    return [
        Part(path, name["segment"], int(name["first"]), int(name["end"])) for path, name in found if name is not None
    ]


def part_path(folder: Path, segment: str, first: int, end: int) -> Path:
    """Return where the part of bytes `first` to `end` of a segment lies.

    Examples
    --------
    >>> part_path(Path("log"), "a-1-0000", 0, 512).name
    'a-1-0000.000000000000-000000000512.parquet'
    """
    return folder / f"{segment}.{first:012d}-{end:012d}.parquet"


def is_left(path: Path) -> bool:
    """Tell whether nobody will append to a segment any more: it holds bytes and its writer's lock is gone.

    Raises
    ------
    FileNotFoundError
        If it is gone.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if os.fstat(descriptor).st_size == 0:
            return False  # its writer may be about to lock it
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        return True
    finally:
        os.close(descriptor)


def _list(folder: Path) -> list[Source]:
    sources = {path.stem: Source(path.stem, path) for path in folder.glob(f"*{SEGMENT}")}
    for part in list_parts(folder):
        sources.setdefault(part.segment, Source(part.segment)).parts.append(part)
    return [sources[name] for name in sorted(sources)]


def _after_gaps(sources: list[Source]) -> set[Part]:
    """Return the parts that do not begin where the one before ends."""
    return {
        part
        for source in sources
        for part, end in zip(source.parts, [0, *(part.end for part in source.parts)], strict=False)
        if part.first != end
    }
