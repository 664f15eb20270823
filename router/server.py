"""One router process: what it is made of, how it starts, how it stops.

Stopping is graceful: first the health service says NOT_SERVING, so that gateways stop coming; then new requests are refused
as DRAINING while those under way run to their end; then connections are closed. A second signal skips the waiting.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from threading import Thread
from wsgiref.simple_server import WSGIServer

import grpc
from asyncio_throttle.throttler import Throttler
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import start_http_server

from homeward.v1 import (
    fleet_pb2,
    fleet_pb2_grpc,
    generation_pb2,
    generation_pb2_grpc,
    operations_pb2,
    operations_pb2_grpc,
    peering_pb2,
    peering_pb2_grpc,
)
from router.capacity.ledger import LedgerMisconfigured, LedgerTimings, LedgerUnavailable
from router.capacity.ledger_guard import LedgerGuard
from router.capacity.valkey_ledger import ValkeyLedger
from router.capacity_board import CapacityBoard
from router.channels import SERVER_OPTIONS, Channels
from router.clock import LoopClock
from router.decision_record import DecisionRecord
from router.dispatch import dispatch_over
from router.driver import Surroundings
from router.home_region import HomeRegion
from router.metrics import Metrics
from router.peering.peer_region import PeerRegion
from router.peering.servicer import PeeringServicer
from router.peering.snapshots import HomeSnapshots, watch_region
from router.placement_targets import PlacementTarget
from router.policy.parameters import Parameters
from router.request_claims import RequestClaims
from router.servicers.fleet import FleetServicer
from router.servicers.generation import GenerationServicer
from router.servicers.operations import OperationsServicer
from router.settings import Settings

SWEEP_EVERY_S = 1.0
SWEEP_MAX = 256
"""Expired leases and reservations that one sweep removes; the next one takes the rest."""
GIVE_BACK_S = 2.0
"""Longest time in which a stopping router gives back what cancelled requests held."""
RESTART_S = 1.0
"""Pause before background work that broke starts again."""
RETRIES_PER_S = 200
"""Second and later placement rounds of this router, paced: waiters that wake together do not ask together."""
SERVICES = tuple(
    module.DESCRIPTOR.services_by_name[name].full_name
    for module, name in (
        (generation_pb2, "Generation"),
        (fleet_pb2, "Fleet"),
        (peering_pb2, "Peering"),
        (operations_pb2, "Operations"),
    )
)

_log = logging.getLogger(__name__)


class StartError(Exception):
    """The router cannot start. The message is one line that says why."""


class Router:
    """A router of one region."""

    def __init__(self, settings: Settings, timings: LedgerTimings | None = None) -> None:
        self.settings = settings
        if timings is None:
            # A reservation has to outlast the longest start delay; what no worker takes over expires.
            unstarted_us = LedgerTimings().reservation_us + settings.parameters.start_delay_spread_max_us
            timings = LedgerTimings(reservation_us=unstarted_us)
        topology = settings.topology
        home = topology.index(settings.region)
        clock = LoopClock()
        self.metrics = Metrics(settings.region)
        self.board = CapacityBoard(topology, home)
        self._guard = LedgerGuard(ValkeyLedger(settings.redis_url, settings.region, timings), self.metrics)
        self._channels = Channels()
        self._clock = clock
        self._home = HomeRegion(settings.region, self._guard, self.metrics, lambda: self.around.waiting, settings.secret)
        retry_pace = Throttler(rate_limit=RETRIES_PER_S, period=1.0)
        self.around = Surroundings(
            clock=clock,
            board=self.board,
            targets=[self._target(region) for region in range(len(topology.names))],
            dispatch=dispatch_over(self._channels, topology, home),
            withdraw_retry=self._withdraw_retry,
            pace_retry=retry_pace.acquire,
            metrics=self.metrics,
            record=DecisionRecord(topology.names),
            parameters=settings.parameters,
            seed=settings.seed,
        )
        self._snapshots = HomeSnapshots(self._home, self.board, clock, settings.parameters)
        self._generation = GenerationServicer(self.around, RequestClaims(self._guard))
        self._fleet = FleetServicer(self._home, self._guard, timings, self.metrics)
        self._health = health.aio.HealthServicer()  # type: ignore[attr-defined]  # the stub package lacks it
        self._server = grpc.aio.server(options=SERVER_OPTIONS)
        self._tasks: list[asyncio.Task[None]] = []
        self._metrics_server: WSGIServer | None = None
        self._metrics_thread: Thread | None = None
        self.address = settings.listen

    def _target(self, region: int) -> PlacementTarget:
        topology = self.settings.topology
        home = self.board.home
        if region == home:
            return self._home
        rtt_us = topology.rtt_us[home][region]
        return PeerRegion(
            topology.names[region], topology.routers[region], self.settings.region, self._channels, self.metrics, rtt_us,
            topology.emulate_rtt,
        )  # fmt: skip

    async def _withdraw_retry(self, parameters: Parameters) -> bool:
        floor = parameters.retry_budget_floor_per_s
        return await self._guard.act("withdraw_retry", lambda ledger: ledger.withdraw_retry(floor))

    async def start(self) -> None:
        """Open everything and serve. Raises `StartError`."""
        try:
            await self._guard.open()
        except (LedgerUnavailable, LedgerMisconfigured) as error:
            raise StartError(f"the slot ledger cannot be used: {error}") from None
        await self._snapshots.read()
        generation_pb2_grpc.add_GenerationServicer_to_server(self._generation, self._server)
        fleet_pb2_grpc.add_FleetServicer_to_server(self._fleet, self._server)
        peering = PeeringServicer(
            self.settings.topology, self._home, self._snapshots, self.metrics, self.settings.parameters,
            lambda: self._generation.draining,
        )  # fmt: skip
        peering_pb2_grpc.add_PeeringServicer_to_server(peering, self._server)
        operations = OperationsServicer(
            self.board, self._snapshots, self._guard, self.around.record, self._clock, self.settings.parameters
        )
        operations_pb2_grpc.add_OperationsServicer_to_server(operations, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection([*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME], self._server)
        await self._listen()
        self._serve_metrics()
        for service in ("", *SERVICES):
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)
        self._keep(self._guard.keep_watch, self._snapshots.keep_reading, self._keep_sweeping, self._keep_measuring)
        for region in range(len(self.settings.topology.names)):
            if region != self.board.home:
                self._keep(partial(self._watch, region))

    async def _watch(self, region: int) -> None:
        emulate_rtt = self.settings.topology.emulate_rtt
        await watch_region(region, self.board, self._channels, self._clock, self.metrics, emulate_rtt=emulate_rtt)

    async def _listen(self) -> None:
        host = self.settings.listen.rpartition(":")[0]
        try:
            bound = self._server.add_insecure_port(self.settings.listen)
        except RuntimeError:
            bound = 0
        if bound == 0:
            why = "the port is taken or not ours; choose another with --listen"
            raise StartError(f"cannot listen on {self.settings.listen}: {why}")
        await self._server.start()
        self.address = f"{host}:{bound}"
        if host not in ("127.0.0.1", "localhost", "[::1]"):
            _log.warning("listening on %s without TLS: keep this port inside a trusted network", self.address)

    def _serve_metrics(self) -> None:
        if self.settings.metrics_listen is None:
            return
        host, port = self.settings.metrics_listen
        try:
            # It answers from threads of its own: a scrape takes tens of milliseconds and must not hold up the event loop.
            self._metrics_server, self._metrics_thread = start_http_server(port, host, registry=self.metrics.registry)
        except OSError as error:
            raise StartError(f"cannot serve metrics on {host}:{port}: {error.strerror}") from None

    def _keep(self, *works: Callable[[], Coroutine[None, None, None]]) -> None:
        self._tasks += [asyncio.create_task(self._forever(work)) for work in works]

    async def _forever(self, work: Callable[[], Coroutine[None, None, None]]) -> None:
        """A defect in a background task must neither end it nor be silent: a router without snapshots is asked by nobody."""
        while True:
            try:
                await work()
            except Exception:
                _log.exception("background work broke; it starts again in %g s", RESTART_S)
                self.metrics.background_failures.inc()
            await asyncio.sleep(RESTART_S)

    async def _keep_sweeping(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_EVERY_S)
            try:
                self.metrics.swept.inc(await self._guard.act("sweep", lambda ledger: ledger.sweep(SWEEP_MAX)))
            except LedgerUnavailable:
                continue

    async def _keep_measuring(self) -> None:
        while True:
            now_us = self._clock.now_us()
            for region, name in enumerate(self.settings.topology.names):
                age_us = self.board.age_us(region, now_us)
                self.metrics.snapshot_age_seconds.labels(name).set(age_us / 1e6 if age_us >= 0 else -1)
            await asyncio.sleep(1.0)

    async def drain(self) -> None:
        """Accept nothing new and return when everything under way has ended, at the latest after `drain_s`."""
        _log.info("draining")
        await self._health.enter_graceful_shutdown()
        self._generation.draining = True
        try:
            async with asyncio.timeout(self.settings.drain_s):
                await self._generation.idle()
        except TimeoutError:
            _log.warning("requests were still running after %g s", self.settings.drain_s)

    async def stop(self) -> None:
        """Close everything; requests still under way are cancelled and give their slots back."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.stop(grace=0.2)
        try:
            async with asyncio.timeout(GIVE_BACK_S):
                await self._generation.idle()
                await self._fleet.idle()
        except TimeoutError:
            _log.warning("not everything was given back within %g s; it expires", GIVE_BACK_S)
        await self._channels.close()
        await self._guard.ledger.close()
        if self._metrics_server is not None and self._metrics_thread is not None:
            await asyncio.to_thread(self._metrics_server.shutdown)
            self._metrics_thread.join()
            self._metrics_server.server_close()
