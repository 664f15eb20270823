"""Fleet: the service through which workers register capacity.

One stream per worker. While it lives, its heartbeats keep the worker's lease in the ledger; when it breaks, the worker gets
no new job until it is back. A ledger that lost its memory does not know the worker at the next heartbeat and is told again.
"""

import asyncio
import logging
import re
from collections.abc import Iterable

import grpc

from homeward.v1 import fleet_pb2, fleet_pb2_grpc
from router.capacity.ledger import (
    SLOTS_PER_WORKER_MAX,
    VARIANTS_PER_WORKER_MAX,
    LedgerTimings,
    LedgerUnavailable,
    VariantOffer,
    WorkerRegistration,
)
from router.capacity.ledger_guard import LedgerGuard
from router.grants import worker_key
from router.home_region import HomeRegion
from router.metrics import Metrics
from router.policy.vocabulary import Outcome
from router.request_check import MODEL_NAME, RESERVATION_ID
from router.status import LEDGER_RETRY_US, Context, RequestError, abort, invalid, jittered
from router.topology import ADDRESS

WORKER_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
VARIANT_NAME = re.compile(r"[A-Za-z0-9._/+-]{1,128}")
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
SERVICE_MS_MAX = 86_400_000
FINISHED_OWED_MAX = 4 * SLOTS_PER_WORKER_MAX
"""Finished reservations of one worker that wait for the ledger to come back; what is forgotten expires."""
REGISTER_S = 5.0
"""A stream that does not register within this time is closed."""

_END: object = getattr(grpc.aio, "EOF")  # noqa: B009  (the stub package does not know it)
_log = logging.getLogger(__name__)


class _Silence(Exception):
    """A worker said nothing for a whole lease, though its stream did not break: half-open, or the worker hangs."""


def _ack(epoch: int) -> fleet_pb2.AttachResponse:
    return fleet_pb2.AttachResponse(heartbeat_ack=fleet_pb2.HeartbeatAck(epoch=epoch))


def _superseded(worker: str) -> RequestError:
    return RequestError(
        Outcome.INVALID,
        f"a newer worker has attached under the name {worker!r}; this one must stop",
        reason="SUPERSEDED",
        code=grpc.StatusCode.ABORTED,
    )


def check_registration(register: fleet_pb2.RegisterWorker, region: str) -> WorkerRegistration:
    """The registration in the ledger's terms. Raises `RequestError` naming the first field that is wrong."""
    if register.region != region:
        raise invalid("register.region", f"is {register.region!r}, but this router serves {region!r}")
    if not WORKER_NAME.fullmatch(register.worker):
        raise invalid("register.worker", "must be 1 to 64 characters of A-Z a-z 0-9 . _ -")
    if not WORKER_NAME.fullmatch(register.incarnation):
        raise invalid("register.incarnation", "must be 1 to 64 characters of A-Z a-z 0-9 . _ -")
    if not ADDRESS.fullmatch(register.address):
        raise invalid("register.address", f"must be host:port, not {register.address[:80]!r}")
    if not 1 <= register.slots <= SLOTS_PER_WORKER_MAX:
        raise invalid("register.slots", f"must be 1 to {SLOTS_PER_WORKER_MAX}, not {register.slots}")
    if not 1 <= len(register.variants) <= VARIANTS_PER_WORKER_MAX:
        raise invalid("register.variants", f"must be 1 to {VARIANTS_PER_WORKER_MAX}, not {len(register.variants)}")
    for offer in register.variants:
        if not MODEL_NAME.fullmatch(offer.model):
            raise invalid("register.variants.model", f"{offer.model[:80]!r} is no model name")
        if not VARIANT_NAME.fullmatch(offer.variant):
            raise invalid("register.variants.variant", f"{offer.variant[:80]!r} is no variant id")
        if not DIGEST.fullmatch(offer.digest):
            raise invalid("register.variants.digest", "must be sha256: and 64 hex digits")
        if not 1 <= offer.service_ms <= SERVICE_MS_MAX:
            raise invalid("register.variants.service_ms", f"must be 1 to {SERVICE_MS_MAX}, not {offer.service_ms}")
    return WorkerRegistration(
        worker=register.worker,
        incarnation=register.incarnation,
        address=register.address,
        slots=register.slots,
        variants=tuple(
            VariantOffer(offer.model, offer.variant, offer.digest, offer.service_ms * 1000) for offer in register.variants
        ),
        running=check_running(register.running_reservations, register.slots),
    )


def check_running(reservations: Iterable[str], slots: int) -> tuple[str, ...]:
    """Reservations that a worker says it runs. Raises `RequestError` when there are more than slots or an id is none."""
    running = tuple(reservations)
    if len(running) > slots:
        raise invalid("running_reservations", f"{len(running)} jobs on {slots} slots cannot be")
    for reservation in running:
        if not RESERVATION_ID.fullmatch(reservation):
            raise invalid("running_reservations", f"must match {RESERVATION_ID.pattern}")
    return running


def checked_reservation(reservation_id: str) -> str:
    """A reservation that a worker says has ended. Raises `RequestError`."""
    if not RESERVATION_ID.fullmatch(reservation_id):
        raise invalid("finished.reservation_id", f"must match {RESERVATION_ID.pattern}")
    return reservation_id


class FleetServicer(fleet_pb2_grpc.FleetServicer):
    """Serves the workers of the home region."""

    def __init__(self, home: HomeRegion, guard: LedgerGuard, timings: LedgerTimings, metrics: Metrics) -> None:
        self._home, self._guard, self._timings, self._metrics = home, guard, timings, metrics
        self._sessions: dict[str, object] = {}
        self._detaching: set[asyncio.Task[None]] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    async def idle(self) -> None:
        """Return when no worker is attached and the ledger knows it."""
        await self._idle.wait()
        while self._detaching:
            await asyncio.wait(set(self._detaching))

    async def Attach(self, _requests: object, context: Context) -> None:  # noqa: N802
        """One worker, as long as it stays."""
        try:
            await self._attach(context)
            return
        except RequestError as error:
            refused = error
        except LedgerUnavailable:
            refused = RequestError(
                Outcome.LEDGER_DOWN, "the slot ledger cannot be reached; attach again in a moment", jittered(LEDGER_RETRY_US)
            )
        await abort(context, refused)

    async def _attach(self, context: Context) -> None:
        try:
            async with asyncio.timeout(REGISTER_S):
                first = await context.read()
        except TimeoutError:
            late = f"register must come within {REGISTER_S:g} s; attach again"
            raise RequestError(Outcome.DEADLINE_EXCEEDED, late) from None
        if first is _END or first.WhichOneof("message") != "register":
            raise invalid("register", "must be the first message")
        registration = check_registration(first.register, self._home.region)
        registered = await self._guard.act("register", lambda ledger: ledger.register(registration))
        self._guard.note_epoch(registered.epoch)
        if not registered.accepted:
            raise _superseded(registration.worker)
        if registered.superseded is not None:
            _log.info("worker %s takes its name over from incarnation %s", registration.worker, registered.superseded)
        secret = await self._home.secret()
        session = object()
        self._sessions[registration.worker] = session
        self._idle.clear()
        self._metrics.attached_workers.set(len(self._sessions))
        _log.info("worker %s attached from %s with %d slots", registration.worker, registration.address, registration.slots)
        said_goodbye = is_silent = False
        try:
            await context.write(self._attached(registration, secret, registered.epoch))
            said_goodbye = await self._listen(registration, context)
        except _Silence:
            # Its lease, if nobody else renewed it, has ended; and if the worker is attached to another router of the region by
            # now, that one knows better.
            is_silent = True
        finally:
            # A worker that is back already has another session, maybe of the same incarnation: leave that one alone.
            if self._sessions.get(registration.worker) is session:
                del self._sessions[registration.worker]
                self._metrics.attached_workers.set(len(self._sessions))
                if not self._sessions:
                    self._idle.set()
                if not is_silent:
                    await self._detached(registration, gone=said_goodbye)

    async def _detached(self, registration: WorkerRegistration, *, gone: bool) -> None:
        """Tell the ledger, in a task of its own: a stream that breaks cancels the caller, after its last message was read."""
        detaching = asyncio.create_task(self._detach(registration, gone=gone))
        self._detaching.add(detaching)
        detaching.add_done_callback(self._detaching.discard)
        await asyncio.shield(detaching)

    def _attached(self, registration: WorkerRegistration, secret: bytes, epoch: int) -> fleet_pb2.AttachResponse:
        return fleet_pb2.AttachResponse(
            attached=fleet_pb2.Attached(
                grant_key=worker_key(secret, self._home.region, registration.worker, registration.incarnation),
                heartbeat_ms=self._timings.heartbeat_us // 1000,
                lease_ms=self._timings.lease_us // 1000,
                epoch=epoch,
            )
        )

    async def _detach(self, registration: WorkerRegistration, *, gone: bool) -> None:
        _log.info("worker %s %s", registration.worker, "left" if gone else "lost its stream")
        try:
            await self._guard.act(
                "detach", lambda ledger: ledger.detach(registration.worker, registration.incarnation, gone)
            )
        except LedgerUnavailable:
            return

    async def _listen(self, registration: WorkerRegistration, context: Context) -> bool:
        """Handle messages until the stream ends; True if the worker had drained, so that its leaving is a goodbye."""
        draining = drained = False
        owed: list[str] = []
        running = set(registration.running)
        while True:
            try:
                async with asyncio.timeout(self._timings.lease_us / 1e6):
                    message = await context.read()
            except TimeoutError:
                raise _Silence from None
            if message is _END:
                # A stream that breaks ends like one that is closed: whoever still runs jobs has not said goodbye.
                return draining and not running
            kind = message.WhichOneof("message")
            try:
                if kind == "heartbeat":
                    running = set(check_running(message.heartbeat.running_reservations, registration.slots))
                elif kind == "finished":
                    owed.append(checked_reservation(message.finished.reservation_id))
                    running.discard(message.finished.reservation_id)
                elif kind == "draining":
                    draining = True
                elif kind is not None:
                    raise invalid("message", "register comes once, then heartbeat, finished or draining")
                # Also what the ledger could not be told before; and before a heartbeat is answered, for the answer says that
                # everything said so far has arrived.
                await self._settle_debts(owed)
                if draining and not drained:
                    await self._guard.act("drain", lambda ledger: ledger.drain(registration.worker, registration.incarnation))
                    drained = True
                    await context.write(fleet_pb2.AttachResponse(drain_ack=fleet_pb2.DrainAck()))
                if kind == "heartbeat":
                    await self._heartbeat(registration, message.heartbeat, context, draining=draining)
            except LedgerUnavailable:
                # The worker cannot help it. Its jobs go on, and it hears that this router is alive; the lease is taken up again
                # when the ledger is back.
                if kind == "heartbeat":
                    await context.write(_ack(self._guard.epoch))

    async def _settle_debts(self, owed: list[str]) -> None:
        """Tell the ledger which slots are free, oldest first. What it could not be told stays in `owed`."""
        del owed[:-FINISHED_OWED_MAX]
        while owed:
            await self._guard.act("release", lambda ledger: ledger.release(owed[0]))
            del owed[0]

    async def _heartbeat(
        self, registration: WorkerRegistration, heartbeat: fleet_pb2.Heartbeat, context: Context, *, draining: bool
    ) -> None:
        running = check_running(heartbeat.running_reservations, registration.slots)
        known = {offer.variant for offer in registration.variants}
        service_us = {
            each.variant: min(each.mean_ms, SERVICE_MS_MAX) * 1000
            for each in heartbeat.service_times
            if each.variant in known and each.mean_ms > 0
        }
        seen = await self._guard.act(
            "heartbeat",
            lambda ledger: ledger.heartbeat(registration.worker, registration.incarnation, running, service_us),
        )
        epoch = seen.epoch
        if seen.superseded:
            raise _superseded(registration.worker)
        if not seen.known:
            again = WorkerRegistration(
                registration.worker, registration.incarnation, registration.address, registration.slots,
                registration.variants, running,
            )  # fmt: skip
            registered = await self._guard.act("register", lambda ledger: ledger.register(again))
            if not registered.accepted:
                raise _superseded(registration.worker)
            epoch = registered.epoch
            if draining:
                await self._guard.act("drain", lambda ledger: ledger.drain(registration.worker, registration.incarnation))
            _log.warning("the ledger did not know worker %s: registered it again", registration.worker)
        self._guard.note_epoch(epoch)
        if not seen.known:
            # A ledger that lost its memory may have agreed on another router's secret since.
            await context.write(self._attached(registration, await self._home.secret(), epoch))
        await context.write(_ack(epoch))
