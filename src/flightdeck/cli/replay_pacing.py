"""A virtual clock that runs at a multiple of the wall clock, or as fast as the work allows.

Event time never waits for a slow service by skipping: a step that takes longer than its share of wall time makes the
virtual day longer, and no later step hurries to make up for it.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable


class Pacer:
    """Turns virtual time into waits.

    Parameters
    ----------
    speed
        Virtual seconds per wall second; 0 never waits.
    now_s
        Monotonic wall time in seconds.
    sleep
        Waits that many seconds.
    """

    def __init__(
        self,
        speed: float,
        now_s: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._speed = speed
        self._now_s = now_s
        self._sleep = sleep
        self._virtual_us: int | None = None
        self._wall_s = 0.0

    async def reach(self, at_us: int) -> None:
        """Begin the step of virtual time `at_us` when it is due: at once if it is overdue."""
        now_s = self._now_s()
        if self._virtual_us is not None:
            now_s = max(now_s, await self._until(self._due_s(at_us)))
        self._virtual_us, self._wall_s = at_us, now_s

    async def within_step(self, at_us: int) -> None:
        """Wait until `at_us`, a moment of the step that has begun, is due."""
        await self._until(self._due_s(at_us))

    def _due_s(self, at_us: int) -> float:
        if self._virtual_us is None or not self._speed:
            return self._now_s()
        return self._wall_s + (at_us - self._virtual_us) / 1e6 / self._speed

    async def _until(self, due_s: float) -> float:
        wait_s = due_s - self._now_s()
        if wait_s > 0:
            await self._sleep(wait_s)
        return due_s
