"""One worker from start to end: put together, attached, drained.

Start: bind the port, attach, be ready (the caller has loaded the models). End: say that we drain and go on taking jobs until
the router has acknowledged, because until then it may have granted our slots; then refuse, let running jobs finish and their
outputs be read, heartbeating all the while; then leave the stream. A second signal stops everything at once.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from homeward.v1 import fleet_pb2
from workers.attach import FleetLink
from workers.grants import GrantGate
from workers.identity import WorkerIdentity
from workers.jobs import Completed, Job, JobEnd, Slots
from workers.model import GenerationModel
from workers.service import WorkService, add_work_service
from workers.service_times import ServiceTimes
from workers.settings import WorkerSettings
from workers.transport import SERVER_OPTIONS

log = logging.getLogger(__name__)

HEALTH_SERVICES = ("", "homeward.v1.Work")

CALLS_PER_SLOT_MAX = 4
CALLS_BESIDES_MAX = 64
"""Calls open at once: a running job, the outputs of earlier ones that are still being read, health checks, refusals."""

DRAIN_ACKNOWLEDGED_S_MAX = 2.0
STOP_S_MAX = 1.0
"""Stopped jobs end at their model's next step, which is at most 300 ms away."""


class PortUnavailable(Exception):
    """The address to listen on cannot be had. The message is one line for the operator."""


class Worker:
    """Serves Work and stays attached. One event loop, one life."""

    def __init__(
        self,
        settings: WorkerSettings,
        identity: WorkerIdentity,
        models: Mapping[str, GenerationModel],
        service_times: ServiceTimes,
        on_ready: Callable[[str], None],
    ) -> None:
        """`models` by variant id; `on_ready` is called once with the worker's address, when it is first attached."""
        self._settings = settings
        self._identity = identity
        self._models = models
        self._service_times = service_times
        self._on_ready: Callable[[str], None] | None = on_ready
        self._gate = GrantGate(identity, models)
        self._slots = Slots(settings.slots, self._job_ended)
        self._link = FleetLink(settings.routers, self)
        self._service = WorkService(self._gate, self._slots, models, self._link.job_finished)
        self._health = health.aio.HealthServicer()  # type: ignore[attr-defined]  # added when grpc.aio is there
        self._server = grpc.aio.server(
            options=SERVER_OPTIONS,
            maximum_concurrent_rpcs=CALLS_PER_SLOT_MAX * settings.slots + CALLS_BESIDES_MAX,
        )
        self._attachment: asyncio.Task[None] | None = None
        self._health_update: asyncio.Task[None] | None = None
        self.address = ""

    async def start(self) -> None:
        """Serve, and begin to attach. Raises PortUnavailable."""
        await self._set_health(serving=False)
        add_work_service(self._service, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        host, wanted = self._settings.listen_host, self._settings.listen_port
        try:
            port = self._server.add_insecure_port(f"{host}:{wanted}")
        except RuntimeError:
            port = 0
        if port == 0:
            self._slots.close()
            await self._server.stop(None)
            raise PortUnavailable(f"cannot listen on {host}:{wanted}: the port is taken or the address is not ours")
        self.address = self._settings.advertise or f"{host}:{port}"
        await self._server.start()
        self._attachment = asyncio.create_task(self._link.run())

    async def wait_until_over(self, drain: asyncio.Event, stop: asyncio.Event) -> bool:
        """Live until `drain` or `stop` is set; return whether the end was orderly. Raises WorkerRejected."""
        assert self._attachment is not None, "start first"
        drain_asked = asyncio.create_task(drain.wait())
        stop_asked = asyncio.create_task(stop.wait())
        draining: asyncio.Task[None] | None = None
        try:
            await asyncio.wait({self._attachment, drain_asked, stop_asked}, return_when=asyncio.FIRST_COMPLETED)
            if drain_asked.done() and not self._attachment.done():
                draining = asyncio.create_task(self._drain())
                await asyncio.wait({self._attachment, draining, stop_asked}, return_when=asyncio.FIRST_COMPLETED)
            if self._attachment.done():
                self._attachment.result()
            orderly = draining is not None and draining.done()
            if draining is not None and orderly:
                draining.result()
            return orderly
        finally:
            for task in (drain_asked, stop_asked, draining):
                if task is not None:
                    task.cancel()
            await self._end()

    @property
    def stuck(self) -> bool:
        """Whether a model has still not come back from its last step; its thread can only end with the process."""
        return bool(self._slots.running)

    async def _drain(self) -> None:
        """Finish what runs and accept nothing new; see the module's docstring."""
        log.info("draining: %d jobs running", len(self._slots.running))
        loop = asyncio.get_running_loop()
        drained_by_s = loop.time() + self._settings.drain_s
        try:
            async with asyncio.timeout(DRAIN_ACKNOWLEDGED_S_MAX):
                await self._link.drain()
        except TimeoutError:
            log.warning("no router acknowledged the drain")
        self._service.refuse_new_jobs()
        await self._set_health(serving=False)
        try:
            async with asyncio.timeout_at(drained_by_s):
                await self._slots.wait_idle()
                await self._service.wait_quiet()
        except TimeoutError:
            log.warning("drain took longer than %g s: stopping %d jobs", self._settings.drain_s, len(self._slots.running))
        await self._stop_jobs()

    async def _stop_jobs(self) -> None:
        self._service.refuse_new_jobs()
        self._slots.stop_all()
        try:
            async with asyncio.timeout(STOP_S_MAX):
                await self._slots.wait_idle()
                await self._service.wait_quiet()
        except TimeoutError:
            log.warning("%d jobs did not stop in time", len(self._slots.running))

    async def _end(self) -> None:
        """Stop jobs, leave the stream, close the server. After an orderly drain there is nothing left to stop."""
        await self._stop_jobs()
        self._link.close()
        if self._attachment is not None:
            await asyncio.wait({self._attachment}, timeout=2 * STOP_S_MAX)
            self._attachment.cancel()
        if self._health_update is not None:
            await self._health_update
        # The handlers have returned; this lets the last bytes and statuses reach the callers.
        await self._server.stop(STOP_S_MAX)
        self._slots.close()

    def _job_ended(self, job: Job, end: JobEnd) -> None:
        if isinstance(end, Completed):
            self._service_times.observe(job.variant, job.run_ms)
        log.info("ended reservation %s: %s after %d ms", job.reservation_id, type(end).__name__.lower(), job.run_ms)
        self._link.job_finished(job.reservation_id)

    async def _set_health(self, *, serving: bool) -> None:
        states = health_pb2.HealthCheckResponse
        for name in HEALTH_SERVICES:
            await self._health.set(name, states.SERVING if serving else states.NOT_SERVING)

    # What the attach stream asks (workers.attach.Registrant).

    def registration(self) -> fleet_pb2.RegisterWorker:
        """Return what this worker offers and runs now."""
        offers = [
            fleet_pb2.VariantOffer(
                model=model.name, variant=variant, digest=model.digest, service_ms=self._service_times.mean_ms(variant)
            )
            for variant, model in self._models.items()
        ]
        return fleet_pb2.RegisterWorker(
            worker=self._identity.worker,
            incarnation=self._identity.incarnation,
            address=self.address,
            slots=self._settings.slots,
            variants=offers,
            running_reservations=self._slots.running,
            region=self._identity.region,
        )

    def heartbeat(self) -> fleet_pb2.Heartbeat:
        """Return the truth about the slots now."""
        return fleet_pb2.Heartbeat(running_reservations=self._slots.running, service_times=self._service_times.report())

    def attached(self, attached: fleet_pb2.Attached) -> None:
        """Take key and epoch; the first time, the worker is ready."""
        self._gate.attached(attached.grant_key, attached.epoch)
        if self._on_ready is not None:
            on_ready, self._on_ready = self._on_ready, None
            self._health_update = asyncio.create_task(self._set_health(serving=True))
            on_ready(self.address)

    def epoch_seen(self, epoch: int) -> None:
        """Note the ledger's epoch."""
        self._gate.epoch_seen(epoch)
