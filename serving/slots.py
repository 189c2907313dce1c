"""A number of its own for each worker of this data root, kept over restarts: the first one that nobody holds."""

import fcntl
import os
from pathlib import Path

MAX_SLOTS = 1024


class Slot:
    """A claimed number; it is free again when the process ends, however it ends.

    Parameters
    ----------
    folder
        Where numbers are claimed; made if it is not there.
    below
        Numbers are below it.

    Raises
    ------
    OSError
        If the folder cannot be written, or all numbers are taken.
    """

    def __init__(self, folder: Path, below: int = MAX_SLOTS) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(below):
            descriptor = os.open(folder / f"worker-{number}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                continue
            self.number = number
            self._descriptor = descriptor
            return
        raise OSError(f"claiming a worker's number in {folder}: all {below} are taken")

    def release(self) -> None:
        """Let another process have the number; releasing again does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
