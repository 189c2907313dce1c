"""Which event ids a stream holds, beside the log: so that an append looks at its own events only.

Sorted 64-bit hashes with the version that brought them, in segments of growing size (a log-structured merge: each event
is rewritten about once a doubling). A hash that is found raises a suspicion, which the log settles by content. The
segments can be lost or damaged at any time: they name the digest of the version that they reach to, and whatever does
not fit is built anew from the log.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from flightdeck.core.files import sync_folder

Hashes = npt.NDArray[np.uint64]
_N_DIGEST = 16


@dataclass(frozen=True)
class _Segment:
    """Hashes (row 0, sorted) and versions (row 1) of the commits `first` to `last`."""

    first: int
    last: int
    digest: str
    rows: Hashes

    @property
    def name(self) -> str:
        return f"{self.first}-{self.last}-{self.digest}.npy"


class KnownIds:
    """Known ids of one stream; used under the log's lock.

    Parameters
    ----------
    folder
        Where the segments lie.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._segments: list[_Segment] = []

    def load(self, version_of: Callable[[int], tuple[str, int] | None]) -> int:
        """Load the segments that belong to the log and return the last version that they reach to, -1 for none.

        Parameters
        ----------
        version_of
            Digest and number of events of a version, None if the log lacks it.
        """
        found = sorted((_placed(path) for path in self._folder.glob("*.npy")), key=lambda place: (place[0], -place[1]))
        segments: list[_Segment] = []
        for first, last, digest, path in found:
            if first == (segments[-1].last + 1 if segments else 0):
                segments.append(_Segment(first, last, digest, _read(path)))
        fact = version_of(segments[-1].last) if segments else None
        held = sum(segment.rows.shape[1] for segment in segments)
        is_whole = fact is not None and (fact[0][:_N_DIGEST], fact[1]) == (segments[-1].digest, held)
        self._segments = segments if is_whole else []
        kept = {segment.name for segment in self._segments}
        for path in self._folder.glob("*.npy"):
            if path.name not in kept:
                path.unlink()
        return self._segments[-1].last if self._segments else -1

    def add(self, version: int, digest: str, hashes: Hashes) -> None:
        """Take in the ids of the next version."""
        rows = np.stack([hashes, np.full(len(hashes), version, dtype=np.uint64)])
        new = _Segment(version, version, digest[:_N_DIGEST], rows[:, np.argsort(hashes, kind="stable")])
        outdated = []
        while self._segments and self._segments[-1].rows.shape[1] <= 2 * new.rows.shape[1]:
            before = self._segments.pop()
            outdated.append(before.name)
            both = np.concatenate([before.rows, new.rows], axis=1)
            new = _Segment(before.first, version, new.digest, both[:, np.argsort(both[0], kind="stable")])
        self._segments.append(new)
        self._folder.mkdir(parents=True, exist_ok=True)
        beside = self._folder / f".{os.getpid()}.tmp"
        with beside.open("wb") as file:
            np.save(file, new.rows)
        beside.replace(self._folder / new.name)
        for name in outdated:
            (self._folder / name).unlink(missing_ok=True)
        sync_folder(self._folder)

    def suspects(self, hashes: Hashes) -> tuple[npt.NDArray[np.bool_], list[int]]:
        """Return which of the hashes are known, and the versions that brought those."""
        is_known = np.zeros(len(hashes), dtype=bool)
        versions: set[int] = set()
        for segment in self._segments:
            known = segment.rows[0]
            first = np.searchsorted(known, hashes, side="left")
            last = np.searchsorted(known, hashes, side="right")
            hit = np.flatnonzero(last > first)
            is_known[hit] = True
            for start, stop in {(int(a), int(b)) for a, b in zip(first[hit], last[hit], strict=True)}:
                versions.update(segment.rows[1, start:stop].tolist())
        return is_known, sorted(versions)


def hashes_of(event_ids: pa.ChunkedArray) -> Hashes:
    """Return the 64-bit hash of each id, the same in every process."""
    return np.asarray(pd.util.hash_array(event_ids.to_numpy(zero_copy_only=False), categorize=False), dtype=np.uint64)


def _placed(path: Path) -> tuple[int, int, str, Path]:
    try:
        first, last, digest = path.stem.split("-")
        return int(first), int(last), digest, path
    except ValueError:
        return -1, -1, "", path


def _read(path: Path) -> Hashes:
    try:
        rows: Hashes = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return np.empty((2, 0), dtype=np.uint64)
    return rows if rows.ndim == 2 and rows.dtype == np.uint64 else np.empty((2, 0), dtype=np.uint64)
