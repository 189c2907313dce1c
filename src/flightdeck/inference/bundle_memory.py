"""Does a bundle fit into memory? Asked before a byte of it is hashed and before any model is opened.

Several workers of a machine that open a big bundle at the same moment would all see the same free memory, so they take
turns: each asks once the one before has taken what it needs. A bundle that would fit `MANY` times waits for nobody.

What opening takes at its peak, measured with onnxruntime 1.32 as multiples of a file's size:

- a graph of trees: 11.9 (117 MB take 1,393 MB, of which 1,123 MB stay); its attributes are packed more tightly in the
  file than in memory;
- a graph with its tensors inside: 2.0;
- tensors in a file beside the graph: 1.0, pages of the mapped file that stay as long as there is room.

From the sizes alone it cannot be told what a graph holds, so each counts as trees; a tensor that would make that far
too much lies in a file of its own, because a draft is written so (`large_graph`).
"""

import fcntl
import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from flightdeck.core.errors import BundleRefused
from flightdeck.core.memory import available_bytes
from flightdeck.inference.bundle import Manifest

GRAPH_FACTOR = 12
FILE_FACTOR = 1
MANY = 256  # as many workers as there may be
_log = logging.getLogger(__name__)


class BundleTooLarge(BundleRefused):
    """A bundle that does not fit into memory now; it may later.

    Parameters
    ----------
    message, next_step
        See `FlightdeckError`.
    needed_bytes
        Bytes of memory that opening it takes.
    """

    def __init__(self, message: str, *, next_step: str, needed_bytes: int) -> None:
        super().__init__(message, next_step=next_step)
        self.needed_bytes = needed_bytes


def needed_bytes(manifest: Manifest) -> int:
    """Return how many bytes opening a bundle takes at its peak, estimated from above by the sizes of its files."""
    return sum(
        entry.n_bytes * (GRAPH_FACTOR if name.endswith(".onnx") else FILE_FACTOR)
        for name, entry in manifest.files.items()
    )


def require_memory(path: Path, manifest: Manifest, available: Callable[[], int | None] = available_bytes) -> None:
    """Refuse a bundle for which there is no room; where the system does not tell, nothing is refused.

    Raises
    ------
    BundleTooLarge
        With both figures.
    """
    needed, left = needed_bytes(manifest), available()
    if left is not None and needed > left:
        raise BundleTooLarge(
            f"opening bundle {path}: it takes up to {needed / 1e6:,.0f} MB of memory, "
            f"{left / 1e6:,.0f} MB are available",
            next_step="give the service more memory or retire a version that it holds (kedro release route show); "
            "the bundle is looked at again as soon as there is room",
            needed_bytes=needed,
        )


@contextmanager
def room_for(
    path: Path,
    manifest: Manifest,
    available: Callable[[], int | None] = available_bytes,
    turns: Path | None = None,
) -> Iterator[None]:
    """Make sure that there is room for a bundle while it is opened: the block takes the memory.

    Parameters
    ----------
    path, manifest
        The bundle.
    available
        Gives the bytes that can be taken; None where the system does not tell.
    turns
        File by whose lock the processes of a machine take turns (default: one of this user in the temporary folder).

    Raises
    ------
    BundleTooLarge
        If there is none.
    """
    left = available()
    if left is None or needed_bytes(manifest) * MANY <= left:
        yield
        return
    with _turn(turns or Path(tempfile.gettempdir()) / f"flightdeck-opening-{os.getuid()}.lock"):
        require_memory(path, manifest, available)
        yield


@contextmanager
def _turn(file: Path) -> Iterator[None]:
    """Wait for a turn; where the file cannot be opened (a system that is all read-only) everybody is first."""
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        _log.warning("opening a bundle without waiting for a turn: %s", error)
        yield
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
