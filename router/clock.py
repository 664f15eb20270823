"""The driver's clock, so that tests and the simulator's comparison can run it in virtual time."""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """A monotonic clock in int microseconds, and a way to wait on it."""

    def now_us(self) -> int:
        """The instant now; only differences mean anything."""
        ...

    async def sleep_until(self, at_us: int) -> None:
        """Return at `at_us` or right away if that is past."""
        ...


class LoopClock:
    """The monotonic clock that the event loop follows. (uvloop's own `time()` moves in whole milliseconds.)"""

    def now_us(self) -> int:
        return time.monotonic_ns() // 1000

    async def sleep_until(self, at_us: int) -> None:
        await asyncio.sleep(max(0, at_us - self.now_us()) / 1_000_000)
