"""Real routers on loopback, with real Valkey under them, for as long as a test runs."""

import asyncio
import itertools
import os
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import grpc

from homeward import AsyncClient, HomewardError
from router.capacity.ledger import LedgerTimings
from router.policy.parameters import parameters
from router.server import Router
from router.settings import Settings
from router.topology import Topology, alone
from tests.router.fake_worker import FakeWorker

TIMINGS = LedgerTimings(
    lease_us=3_000_000, heartbeat_us=150_000, reservation_us=10_000_000, rebuild_us=100_000, call_timeout_us=1_000_000
)
"""Short, but with air for a loaded machine."""
PATIENCE_S = 15.0
"""How long a test waits for what must happen. Only a failing test waits this long."""

_numbers = itertools.count()


def fresh_region(name: str = "r") -> str:
    """A region that no other test has used: tests share a Valkey."""
    return f"{name}-{os.getpid()}-{next(_numbers)}"


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


async def eventually(condition: Callable[[], Any], what: str) -> None:
    """Poll until it holds. `condition` may be a coroutine function; errors of the SDK count as "not yet"."""
    give_up_at = time.monotonic() + PATIENCE_S
    last = ""
    while time.monotonic() < give_up_at:
        try:
            found = condition()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return
        except HomewardError as error:
            last = f"; the last error: {error}"
        await asyncio.sleep(0.02)
    raise AssertionError(f"{what}: not within {PATIENCE_S:g} s{last}")


def settings_of(region: str, redis_url: str, **changes: Any) -> Settings:
    """Settings of a router that is alone, unless changed. `policy` overrides keys of the default policy."""
    policy = changes.pop("policy", {})
    usual = Settings(
        region=region, listen="127.0.0.1:0", redis_url=redis_url, topology=alone(region), parameters=parameters(policy),
        metrics_listen=None, secret=None, drain_s=20.0, seed=0,
    )  # fmt: skip
    return replace(usual, **changes)


class Stand:
    """One router, a client, and the workers of a test."""

    def __init__(self, router: Router, stack: AsyncExitStack) -> None:
        self.router, self._stack = router, stack
        self.region = router.settings.region
        self.client = AsyncClient(router.address, channel_options=[("grpc.use_local_subchannel_pool", 1)])

    async def worker(self, name: str = "gpu-1", **options: Any) -> FakeWorker:
        """Attach a worker, and let the router read its figures; the worker is closed at the end of the test."""
        worker = await self._stack.enter_async_context(FakeWorker(self.router.address, self.region, name, **options))
        await self.client.regions()
        return worker

    async def loose_worker(self, name: str = "gpu-1", **options: Any) -> FakeWorker:
        """A worker that serves but has not attached."""
        worker = FakeWorker(self.router.address, self.region, name, **options)
        self._stack.push_async_callback(worker.close)
        await worker.serve()
        return worker

    async def channel(self) -> grpc.aio.Channel:
        """A bare channel to the router; it is closed at the end of the test."""
        return await self._stack.enter_async_context(grpc.aio.insecure_channel(self.router.address))

    async def busy(self) -> int:
        """Busy slots of the region, from its ledger."""
        regions = await self.client.regions()
        return regions.regions[0].busy

    async def slots(self) -> int:
        """Slots of the region, from its ledger."""
        return (await self.client.regions()).regions[0].slots

    async def all_free(self) -> None:
        """Wait until every slot is free."""

        async def free() -> bool:
            return await self.busy() == 0

        await eventually(free, f"every slot of {self.region} is free")

    def metric(self, name: str, **labels: str) -> float:
        """Value of a sample; 0 if it never appeared."""
        return self.router.metrics.registry.get_sample_value(name, labels) or 0.0


@asynccontextmanager
async def open_stand(settings: Settings, timings: LedgerTimings = TIMINGS) -> AsyncIterator[Stand]:
    """Start a router; stop it, its client and its workers at the end."""
    async with AsyncExitStack() as stack:
        router = Router(settings, timings)
        stack.push_async_callback(router.stop)
        await router.start()
        workers = await stack.enter_async_context(AsyncExitStack())
        stand = Stand(router, workers)
        stack.push_async_callback(stand.client.close)
        await _settled(timings)
        yield stand


async def _settled(timings: LedgerTimings) -> None:
    """A new ledger grants nothing for a moment."""
    await asyncio.sleep(timings.rebuild_us / 1e6)


def line_of(names: list[str], ports: list[int], rtt_ms: float) -> Topology:
    """Regions in a line: neighbours are in ring 1, the next in ring 2."""
    count = len(names)
    return Topology(
        names=tuple(names),
        routers=tuple(f"127.0.0.1:{port}" for port in ports),
        rings=tuple(tuple(min(3, abs(home - other)) for other in range(count)) for home in range(count)),
        rtt_us=tuple(tuple(round(rtt_ms * 1000) * abs(home - other) for other in range(count)) for home in range(count)),
        emulate_rtt=rtt_ms > 0,
    )
