"""Where a worker keeps what it spent of its budgets, for the process that takes its place.

Each worker has a numbered file and holds its number by a lock. In a rolling restart the successor runs before the
worker that it replaces has ended, so it begins with a number of its own; it takes over the number that becomes free,
and adds what is in that file to what it has spent meanwhile.
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from flightdeck.core.files import write_atomically
from serving.slots import Slot

_log = logging.getLogger(__name__)


class SpentFile:
    """The file of one worker.

    Parameters
    ----------
    folder
        Where the files of all workers are; made if it is not there.
    n_workers
        How many workers share the budgets: numbers below it are kept, others are left as soon as one of those is free.

    Raises
    ------
    OSError
        If the folder cannot be written.
    """

    def __init__(self, folder: Path, n_workers: int) -> None:
        self._folder = folder
        self._n_workers = n_workers
        self._slot = Slot(folder)
        self._left: list[Slot] = []

    @property
    def path(self) -> Path:
        """The file."""
        return self._folder / f"spent-{self._slot.number}.json"

    def read(self) -> dict[str, Any]:
        """Return what is in the file; nothing if it is not there or damaged."""
        with suppress(OSError, msgspec.DecodeError):
            return dict(msgspec.json.decode(self.path.read_bytes(), type=dict))
        return {}

    def take_over(self) -> dict[str, Any]:
        """Return what a worker that has ended left behind, if this one takes its number now; else nothing."""
        if self._slot.number < self._n_workers:
            return {}
        with suppress(OSError):
            lower = Slot(self._folder, self._n_workers)
            self._left.append(self._slot)
            self._slot = lower
            return self.read()
        return {}

    def write(self, content: Callable[[], dict[str, Any]]) -> None:
        """Keep what `content` gives; a file that was left goes once it is in the new one.

        This may run in a thread. Should the file change meanwhile, the old one gets the new content: after a crash
        something would then count twice, nothing would be forgotten.
        """
        left, path = list(self._left), self.path
        try:
            write_atomically(path, msgspec.json.encode(content()))
            for slot in left:
                (self._folder / f"spent-{slot.number}.json").unlink(missing_ok=True)
                slot.release()
                self._left.remove(slot)
        except OSError as error:
            _log.error("keeping what was spent of the budgets: %s", error)

    def release(self) -> None:
        """Let another process have the file."""
        for slot in (self._slot, *self._left):
            slot.release()
