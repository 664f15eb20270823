"""One run of a fleet from start to stop, with Ctrl-C and SIGTERM in between."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from typing import TypeVar

from localfleet.state import FleetState
from localfleet.supervisor import Fleet

Result = TypeVar("Result")
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


async def run_fleet(
    fleet: Fleet, while_up: Callable[[FleetState], Awaitable[Result]], on_stop: Callable[[], None]
) -> Result | None:
    """Start the fleet, await `while_up`, stop the fleet. Returns None when a signal ended it early.

    The first signal stops in order, a second one kills every child. `on_stop` is called before stopping begins.
    Raises what `Fleet.start` and `while_up` raise.
    """
    loop = asyncio.get_running_loop()
    asked_to_stop = asyncio.Event()

    def on_signal() -> None:
        if asked_to_stop.is_set():
            fleet.kill()
        asked_to_stop.set()

    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, on_signal)

    async def live() -> Result:
        return await while_up(await fleet.start())

    life = asyncio.create_task(live())
    stop = asyncio.create_task(asked_to_stop.wait())
    try:
        await asyncio.wait({life, stop}, return_when=asyncio.FIRST_COMPLETED)
        if life.done():
            return life.result()
        life.cancel()
        await asyncio.wait({life})
        return None
    finally:
        stop.cancel()
        asked_to_stop.set()  # from here on, one more signal kills
        on_stop()
        await fleet.stop()
        for number in STOP_SIGNALS:
            loop.remove_signal_handler(number)
