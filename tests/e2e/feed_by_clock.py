"""A process that feeds a store as `kedro features materialize --follow` does, on a clock that a test moves."""

import sys
from datetime import datetime
from pathlib import Path

from flightdeck.cli.features_materialize import feed
from flightdeck.core.clock import from_us
from flightdeck.core.layout import Layout
from flightdeck.features.store_config import read_stores


class FileClock:
    """A clock whose time another process writes into a file, in whole UTC microseconds."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def now(self) -> datetime:
        """Return the time that the file says."""
        return from_us(int(self._path.read_text()))


if __name__ == "__main__":
    root, clock = sys.argv[1:]
    feed(Layout(Path(root)), read_stores(None), clock=FileClock(Path(clock)), source="log", follow=True)
