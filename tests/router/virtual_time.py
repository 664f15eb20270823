"""An event loop whose time jumps: when every task waits, the clock goes to the next timer at once.

Nothing sleeps, and the same code takes the same instants in every run. A loop in which nothing could ever happen again is a
deadlock of the code under test and is reported as one.
"""

import asyncio
import selectors
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

_Answer = TypeVar("_Answer")

START_S = 1_000.0
"""Where virtual time begins: not at 0, which code might take for "never"."""


class Deadlock(AssertionError):
    """Every task waits for something that nobody will bring."""


class _JumpingSelector(selectors.BaseSelector):
    """Looks at real files without waiting; time that it was told to wait is skipped."""

    def __init__(self) -> None:
        self._real = selectors.DefaultSelector()
        self.time_s = START_S

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._real.get_map()

    def close(self) -> None:
        self._real.close()

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = self._real.select(0)
        if not ready:
            if timeout is None:
                raise Deadlock("every task waits, and no timer is set")
            self.time_s += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time, for code that does no I/O."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.time_s


class VirtualClock:
    """The running virtual loop's time in whole microseconds."""

    def now_us(self) -> int:
        return round(asyncio.get_running_loop().time() * 1_000_000)

    async def sleep_until(self, at_us: int) -> None:
        await asyncio.sleep(max(0, at_us - self.now_us()) / 1_000_000)


def run_virtual(work: Coroutine[Any, Any, _Answer]) -> _Answer:
    """Run to the end in virtual time; tasks left over are cancelled."""
    loop = VirtualLoop()
    try:
        try:
            return loop.run_until_complete(work)
        finally:
            loop.run_until_complete(_end_the_others())
    finally:
        loop.close()


async def _end_the_others() -> None:
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()
