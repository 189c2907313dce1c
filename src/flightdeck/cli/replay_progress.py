"""Showing how far a replay is: a bar on a terminal, a line every few simulated hours elsewhere."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from flightdeck.cli.replay_statistics import ReplayStatistics
from flightdeck.core.clock import MINUTE_US, from_us

LINE_EVERY_US = 180 * MINUTE_US
RATE_OVER_S = 2.0


class ReplayProgress:
    """Progress of one replay. A context manager.

    Parameters
    ----------
    console
        Where to show it.
    start_us, end_us
        First and last virtual time, UTC microseconds.
    """

    def __init__(self, console: Console, start_us: int, end_us: int) -> None:
        self._console = console
        self._start_us = start_us
        self._bar = Progress(
            TextColumn("replay {task.fields[at]}"),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[said]}"),
            TimeElapsedColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("replay", total=end_us - start_us, at=_clock(start_us), said="")
        self._next_line_us = start_us + LINE_EVERY_US
        self._counted_s, self._counted = time.monotonic(), 0
        self._rate_per_s = 0.0

    def __enter__(self) -> Self:
        """Start showing."""
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop showing."""
        self._bar.stop()

    def advanced(self, at_us: int, statistics: ReplayStatistics) -> None:
        """Show that everything until `at_us` is done."""
        said = self._say(statistics)
        self._bar.update(self._task, completed=at_us - self._start_us, at=_clock(at_us), said=said)
        if not self._console.is_terminal and at_us >= self._next_line_us:
            self._next_line_us += LINE_EVERY_US
            self._console.print(f"replay {_clock(at_us)}  {said}", highlight=False, soft_wrap=True)

    def _say(self, statistics: ReplayStatistics) -> str:
        passed_s = time.monotonic() - self._counted_s
        if passed_s >= RATE_OVER_S:
            self._rate_per_s = (statistics.n_requests - self._counted) / passed_s
            self._counted_s, self._counted = time.monotonic(), statistics.n_requests
        modes = ", ".join(f"{mode} {count}" for mode, count in sorted(statistics.by_mode.items()))
        trouble = f", {statistics.n_failed} failed" if statistics.n_failed else ""
        retried = f", {statistics.n_retries} sent again" if statistics.n_retries else ""
        return f"{statistics.n_requests} requests, {self._rate_per_s:.0f}/s; {modes or 'none yet'}{retried}{trouble}"


def _clock(at_us: int) -> str:
    return f"{from_us(at_us):%Y-%m-%d %H:%M}Z"
