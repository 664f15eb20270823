"""Ledgers to test, each with a clock that the test turns, and what several test modules say to them.

The real ledger's scripts learn the time from `clock.lua`. Here another text takes its place, which reads a key.
"""

import asyncio
import itertools
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import ClassVar

import redis

from router.capacity.keyspace import meta_key
from router.capacity.ledger import LedgerTimings, ReservationRequest, SlotLedger, VariantOffer, WorkerRegistration
from router.capacity.valkey_ledger import ValkeyLedger
from tests.router.capacity.plain_ledger import PlainLedger

START_US = 1_700_000_000_000_000
PATIENT_US = 30_000_000
"""Time limit of a call where the test is not about it: the machine may stall."""
AT_ONCE = LedgerTimings(rebuild_us=0, call_timeout_us=PATIENT_US)
OFFER = VariantOffer("portrait", "fast", "sha256:aa", 2_000_000)
REGIONS = (f"region-{os.getpid()}-{number}" for number in itertools.count())


class ClockedLedger(ValkeyLedger):
    """The real ledger, on a clock that stands still until a test sets it."""

    clock_source: ClassVar[str] = """
        local function server_time_us() return tonumber(redis.call('GET', KEYS[1] .. ':clock')) end
    """


@dataclass
class Stand:
    """A ledger and its world."""

    ledger: SlotLedger
    set_clock: Callable[[int], Awaitable[None]]
    wipe: Callable[[], Awaitable[None]]
    now_us: int = START_US

    async def advance(self, us: int) -> None:
        """Turn the store's clock, backwards too."""
        self.now_us += us
        await self.set_clock(self.now_us)


def plain_stand(timings: LedgerTimings) -> Stand:
    """The plain ledger."""
    now = [START_US]
    ledger = PlainLedger(timings, lambda: now[0])

    async def set_clock(us: int) -> None:
        now[0] = us

    async def wipe() -> None:
        ledger.wipe()

    return Stand(ledger, set_clock, wipe)


def clocked_stand(url: str, timings: LedgerTimings, region: str) -> Stand:
    """The real ledger. A wipe empties the whole server."""
    client = redis.Redis.from_url(url)
    key = meta_key(region) + ":clock"
    stand: Stand

    async def set_clock(us: int) -> None:
        client.set(key, us)

    async def wipe() -> None:
        client.flushall()
        client.set(key, stand.now_us)

    client.set(key, START_US)
    stand = Stand(ClockedLedger(url, region, timings), set_clock, wipe)
    return stand


def worker(name: str, slots: int = 1, incarnation: str = "1", running: tuple[str, ...] = ()) -> WorkerRegistration:
    return WorkerRegistration(name, incarnation, f"{name}:9000", slots, (OFFER,), running)


def request(id_: str) -> ReservationRequest:
    return ReservationRequest(id_, "request", "portrait")


@asynccontextmanager
async def opened(url: str, region: str, timings: LedgerTimings = AT_ONCE) -> AsyncIterator[ValkeyLedger]:
    ledger = ValkeyLedger(url, region, timings)
    try:
        await ledger.open()
        yield ledger
    finally:
        await ledger.close()


async def until(met: Callable[[], Awaitable[bool]], within_s: float = 20.0) -> None:
    give_up_at = time.monotonic() + within_s
    while not await met():
        assert time.monotonic() < give_up_at, "the condition was not met in time"
        await asyncio.sleep(0.01)
