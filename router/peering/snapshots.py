"""Capacity snapshots: watching those of other regions, and the home region's own for the others to watch."""

import asyncio
import logging
import random

import grpc
from asyncio_throttle.throttler import Throttler

from homeward.v1 import peering_pb2, peering_pb2_grpc
from router.capacity_board import CapacityBoard, ImpossibleSnapshot
from router.channels import Channels
from router.clock import Clock
from router.home_region import HomeRegion
from router.metrics import Metrics
from router.peering.distance import travelled
from router.policy.parameters import Parameters

READ_EVERY_S = 0.25
"""Home's own figures are read from the ledger this often."""
SEND_AT_LEAST_EVERY_S = 1.0
SILENCE_S = 5.0
"""A stream that says nothing this long is taken for dead and opened anew."""
RECONNECTS_PER_S = 2

_log = logging.getLogger(__name__)


class HomeSnapshots:
    """Reads the home region's figures, posts them on the board, and wakes whoever watches."""

    def __init__(self, home: HomeRegion, board: CapacityBoard, clock: Clock, parameters: Parameters) -> None:
        self._home, self._board, self._clock, self._parameters = home, board, clock, parameters
        self.latest = peering_pb2.WatchCapacityResponse(region=home.region, ledger_down=True)
        self.read_at_us = clock.now_us()
        self._changed = asyncio.Condition()

    async def read(self) -> None:
        """Read once."""
        began_us = self._clock.now_us()
        snapshot = await self._home.snapshot(self._parameters.reserve_share)
        changed = snapshot != self.latest
        self.latest, self.read_at_us = snapshot, began_us
        posted = peering_pb2.WatchCapacityResponse()
        posted.CopyFrom(snapshot)
        self._board.post(self._board.home, posted, began_us)
        if changed:
            async with self._changed:
                self._changed.notify_all()

    async def keep_reading(self) -> None:
        """Read as long as the router runs."""
        while True:
            await self.read()
            await asyncio.sleep(READ_EVERY_S)

    async def next(self) -> peering_pb2.WatchCapacityResponse:
        """The next snapshot worth sending: when something changed, or after `SEND_AT_LEAST_EVERY_S`."""
        try:
            async with asyncio.timeout(SEND_AT_LEAST_EVERY_S), self._changed:
                await self._changed.wait()
        except TimeoutError:
            pass
        return self.aged()

    def aged(self) -> peering_pb2.WatchCapacityResponse:
        """The latest snapshot with its age."""
        snapshot = peering_pb2.WatchCapacityResponse()
        snapshot.CopyFrom(self.latest)
        snapshot.age_ms = max(0, self._clock.now_us() - self.read_at_us) // 1000
        return snapshot


async def watch_region(
    region: int, board: CapacityBoard, channels: Channels, clock: Clock, metrics: Metrics, *, emulate_rtt: bool
) -> None:
    """Post another region's snapshots on the board, reconnecting at a bounded pace; runs as long as the router does."""
    name, address = board.topology.names[region], board.topology.routers[region]
    one_way_us = board.topology.rtt_us[board.home][region] // 2
    stub = peering_pb2_grpc.PeeringStub(channels.to_router(address))
    pace = Throttler(rate_limit=RECONNECTS_PER_S, period=1.0)
    while True:
        async with pace:
            call = stub.WatchCapacity(peering_pb2.WatchCapacityRequest(from_region=board.topology.names[board.home]))
        trouble = f"the router of {name} ended the stream"
        try:
            snapshots = travelled(call, one_way_us if emulate_rtt else 0)
            while True:
                async with asyncio.timeout(SILENCE_S):
                    snapshot = await anext(snapshots)
                try:
                    board.post(region, snapshot, clock.now_us() - one_way_us)
                except ImpossibleSnapshot as error:
                    metrics.bad_snapshots.labels(name).inc()
                    board.lost(region, f"impossible snapshot: {error}")
        except StopAsyncIteration:
            pass
        except TimeoutError:
            trouble = f"the router of {name} was silent for {SILENCE_S:g} s"
        except grpc.aio.AioRpcError as error:
            trouble = f"cannot reach the router of {name} at {address}: {error.details() or error.code().name}"
        finally:
            call.cancel()
        if not board.regions[region].trouble:
            _log.info(trouble)
        board.lost(region, trouble)
        # Apart from the pace, a random part keeps the routers of a fleet from reconnecting in step.
        await asyncio.sleep(random.uniform(0.05, 0.5))
