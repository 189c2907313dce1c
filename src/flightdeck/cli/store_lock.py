"""Who may change an online store: one replay, one materializer, one change of declarations at a time."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flightdeck.core.errors import FlightdeckError

FEEDING, CHANGING = ".feed.lock", ".apply.lock"


@contextmanager
def holding(folder: Path, name: str, *, doing: str) -> Iterator[None]:
    """Hold a lock file of the store's folder during the block; it is released however the process ends.

    Parameters
    ----------
    folder
        Folder of the store; made if it is not there.
    name
        `FEEDING` or `CHANGING`.
    doing
        What the message says that was being done.

    Raises
    ------
    FlightdeckError
        If another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            who = "replay or materializer feeds" if name == FEEDING else "replay or kedro features command changes"
            raise FlightdeckError(
                f"{doing}: another {who} the online store {folder}",
                next_step="wait until it has ended, or stop it",
            ) from error
        yield
