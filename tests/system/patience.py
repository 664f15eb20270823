"""Waiting for a condition, never for luck."""

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

POLL_S = 0.05
PATIENCE_S = 20.0
"""Only a failing test waits this long."""

Found = TypeVar("Found")


def until(found: Callable[[], Found], what: str, within_s: float = PATIENCE_S) -> Found:
    """Return what `found` returns once it is true. Fails with `what` and the last answer."""
    give_up_at = time.monotonic() + within_s
    while not (answer := found()):
        assert time.monotonic() < give_up_at, f"{what}: not within {within_s:g} s; last seen {answer!r}"
        time.sleep(POLL_S)
    return answer


async def until_async(found: Callable[[], Found], what: str, within_s: float = PATIENCE_S) -> Found:
    """`until` beside running tasks: `found` itself must be quick."""
    give_up_at = time.monotonic() + within_s
    while not (answer := found()):
        assert time.monotonic() < give_up_at, f"{what}: not within {within_s:g} s; last seen {answer!r}"
        await asyncio.sleep(POLL_S)
    return answer
