"""The seat of the one controller of a data root on a machine; whoever comes second is told who has it.

The lease of the ledger decides between machines, and lasts minutes. The seat is a lock on a file, which the system
takes back at the moment in which its process ends, however it ends: the next one goes on at once.
"""

import fcntl
import os
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path

LOCK = "controller.lock"


class Seat:
    """A place for one process.

    Parameters
    ----------
    folder
        Folder of the lock file; made if it is not there.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOCK
        self._held: TextIOWrapper | None = None

    def take(self) -> str:
        """Take the seat, or keep it; return the number of the process that has it instead, empty where it is ours.

        Raises
        ------
        OSError
            If the file cannot be made.
        """
        if self._held is not None:
            return ""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        lock = self._path.open("a+", encoding="ascii")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with lock:
                lock.seek(0)
                return lock.read().strip() or "unknown"
        self._held = lock
        with suppress(OSError):  # the number is for people: a full disk does not take the seat away
            lock.truncate(0)
            lock.write(f"{os.getpid()}\n")
            lock.flush()
        return ""
