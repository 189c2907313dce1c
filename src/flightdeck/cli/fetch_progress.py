"""Showing how far the copy of a bundle is: bytes and their rate on a terminal, nothing elsewhere."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn


class FetchProgress:
    """Progress of one copy. A context manager.

    Parameters
    ----------
    console
        Where to show it.
    title
        What is copied.
    """

    def __init__(self, console: Console, title: str) -> None:
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(title, total=None)

    def __enter__(self) -> Self:
        """Start showing."""
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop showing."""
        self._bar.stop()

    def begin(self, n_bytes: int) -> None:
        """Show that so many bytes are to come."""
        self._bar.update(self._task, total=n_bytes)

    def advance(self, n_bytes: int) -> None:
        """Show that so many more have come."""
        self._bar.advance(self._task, n_bytes)
