"""Emulated distance: what a message costs between regions, for a fleet on one machine.

Off in production, where distance is real. A stream is delayed as a pipe would delay it: every message arrives late by the
same time, and a fast sender is not slowed down.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TypeVar

IN_FLIGHT_MAX = 256
"""Messages on the emulated way; more make the sender wait, as a full TCP window would."""

_Message = TypeVar("_Message")


async def travelled(stream: AsyncIterator[_Message], one_way_us: int) -> AsyncGenerator[_Message, None]:
    """Yield what `stream` yields, each `one_way_us` later. An error arrives late, too."""
    if one_way_us <= 0:
        async for message in stream:
            yield message
        return
    loop = asyncio.get_running_loop()
    under_way: asyncio.Queue[tuple[float, _Message | None, BaseException | None]] = asyncio.Queue(IN_FLIGHT_MAX)

    async def send() -> None:
        error: BaseException | None = None
        try:
            async for message in stream:
                await under_way.put((loop.time() + one_way_us / 1e6, message, None))
        except Exception as failed:
            error = failed
        await under_way.put((loop.time() + one_way_us / 1e6, None, error))

    sender = asyncio.create_task(send())
    try:
        while True:
            arrives_at, arrived, error = await under_way.get()
            await asyncio.sleep(max(0.0, arrives_at - loop.time()))
            if error is not None:
                raise error
            if arrived is None:
                return
            yield arrived
    finally:
        sender.cancel()


async def travel(one_way_us: int) -> None:
    """Let one message travel."""
    if one_way_us > 0:
        await asyncio.sleep(one_way_us / 1e6)
