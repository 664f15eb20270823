"""A worker that is real on the wire: it serves Work, attaches through the real Attach stream, and checks every grant.

Tests hold its jobs back, make them fail, kill it, or let it lie. What it saw is kept for the tests to look at.
"""

import asyncio
import contextlib
import hashlib
import hmac
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Self

import grpc
from google.rpc import error_details_pb2, status_pb2

from homeward.v1 import fleet_pb2, fleet_pb2_grpc, generation_pb2, work_pb2, work_pb2_grpc

OUTPUT = bytes(range(256)) * 5_000
"""1.2 MiB: more than one chunk."""
CHUNK = 1024 * 1024
DIGEST = "sha256:" + "a" * 64
LOST = "lost"
REJECTS = "rejects the input"


@dataclass(frozen=True, slots=True)
class Seen:
    """A grant that arrived, verified."""

    claims: work_pb2.GrantClaims
    request: generation_pb2.GenerateRequest


class FakeWorker(work_pb2_grpc.WorkServicer):
    """One worker process, in this one."""

    def __init__(
        self,
        router: str,
        region: str,
        name: str = "gpu-1",
        *,
        slots: int = 1,
        model: str = "animate",
        service_ms: int = 50,
        incarnation: str = "1",
    ) -> None:
        self.router, self.region, self.name, self.slots, self.model = router, region, name, slots, model
        self.service_ms, self.incarnation = service_ms, incarnation
        self.seen: list[Seen] = []
        self.forged: list[str] = []
        self.running: set[str] = set()
        self.cancelled: list[str] = []
        self.misbehaviour: list[str] = []
        """How the next jobs end, first to come first."""
        self.heartbeats = True
        self.lies_running: list[str] | None = None
        self.acks = 0
        self.epoch = 0
        self.attached: fleet_pb2.Attached | None = None
        self.ended: asyncio.Future[grpc.aio.AioRpcError | None] = asyncio.get_running_loop().create_future()
        """The Attach stream is over: the error, or None when it ended well."""
        self._go = asyncio.Event()
        self._go.set()
        self._changed = asyncio.Condition()
        self._out: asyncio.Queue[fleet_pb2.AttachRequest | None] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []
        self._server = grpc.aio.server(options=[("grpc.max_receive_message_length", 32 * 1024 * 1024), ("grpc.so_reuseport", 0)])
        self._channel = grpc.aio.insecure_channel(router, options=[("grpc.use_local_subchannel_pool", 1)])
        work_pb2_grpc.add_WorkServicer_to_server(self, self._server)
        self.address = ""

    async def __aenter__(self) -> Self:
        await self.serve()
        await self.attach()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def serve(self) -> None:
        """Listen for jobs."""
        port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()
        self.address = f"127.0.0.1:{port}"

    def registration(self, **changes: Any) -> fleet_pb2.RegisterWorker:
        """What it states of itself."""
        offer = fleet_pb2.VariantOffer(
            model=self.model, variant=f"{self.model}-v1", digest=DIGEST, service_ms=self.service_ms
        )
        usual: dict[str, Any] = {
            "worker": self.name, "incarnation": self.incarnation, "address": self.address, "slots": self.slots,
            "variants": [offer], "region": self.region,
        }  # fmt: skip
        return fleet_pb2.RegisterWorker(**(usual | changes))

    async def attach(self, **changes: Any) -> None:
        """Register and keep the lease from now on. `changes` to the registration."""
        call = fleet_pb2_grpc.FleetStub(self._channel).Attach()
        await call.write(fleet_pb2.AttachRequest(register=self.registration(**changes)))
        first = await call.read()
        assert first is not grpc.aio.EOF, "the router ended the stream instead of answering"
        self.attached = first.attached
        self.epoch = first.attached.epoch
        self._tasks = [asyncio.create_task(self._listen(call)), asyncio.create_task(self._talk(call))]

    async def _talk(self, call: Any) -> None:
        assert self.attached is not None
        with contextlib.suppress(asyncio.InvalidStateError, grpc.aio.AioRpcError):
            while True:
                message: fleet_pb2.AttachRequest | None
                try:
                    async with asyncio.timeout(self.attached.heartbeat_ms / 1e3):
                        message = await self._out.get()
                except TimeoutError:
                    if not self.heartbeats:
                        continue
                    running = self.lies_running if self.lies_running is not None else sorted(self.running)
                    message = fleet_pb2.AttachRequest(heartbeat=fleet_pb2.Heartbeat(running_reservations=running))
                if message is None:
                    await call.done_writing()
                    return
                await call.write(message)

    async def _listen(self, call: Any) -> None:
        error = None
        try:
            while (answer := await call.read()) is not grpc.aio.EOF:
                if answer.WhichOneof("message") == "attached":
                    self.attached = answer.attached
                if answer.WhichOneof("message") == "heartbeat_ack":
                    self.acks += 1
                    self.epoch = max(self.epoch, answer.heartbeat_ack.epoch)
                    await self._announce()
            if await call.code() is not grpc.StatusCode.OK:
                error = grpc.aio.AioRpcError(
                    await call.code(), await call.initial_metadata(), await call.trailing_metadata(), await call.details()
                )
        except grpc.aio.AioRpcError as failed:
            error = failed
        finally:
            if not self.ended.done():
                self.ended.set_result(error)
            call.cancel()

    async def drain_and_leave(self) -> None:
        """Say that it drains, and end the stream."""
        await self._out.put(fleet_pb2.AttachRequest(draining=fleet_pb2.DrainStarted()))
        await self._out.put(None)
        await self.ended

    async def send(self, message: fleet_pb2.AttachRequest) -> None:
        """Say anything on the Attach stream."""
        await self._out.put(message)

    def hold(self) -> None:
        """Jobs from now on start and wait for `go`."""
        self._go.clear()

    def go(self) -> None:
        """Let the jobs end."""
        self._go.set()

    async def until(self, condition: Callable[["FakeWorker"], bool], what: str) -> None:
        """Wait for something that this worker sees."""
        try:
            async with asyncio.timeout(15), self._changed:
                await self._changed.wait_for(lambda: condition(self))
        except TimeoutError:
            raise AssertionError(f"{self.name}: {what} did not happen within 15 s") from None

    async def _announce(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def detach(self) -> None:
        """Break the Attach stream, as a network does."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        await self._channel.close(None)

    async def die(self) -> None:
        """End as a process does: every connection at once."""
        await self.detach()
        await self._server.stop(None)

    async def close(self) -> None:
        """Leave nothing behind."""
        self._go.set()
        await self.die()

    async def Run(  # noqa: N802
        self, request: work_pb2.RunRequest, context: Any
    ) -> AsyncIterator[work_pb2.RunResponse]:
        claims = await self._verified(request, context)
        how = self.misbehaviour.pop(0) if self.misbehaviour else ""
        if how == REJECTS:
            await self._reject(context)
        if len(self.running) >= self.slots:
            self.forged.append("more jobs than slots")
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "every slot is busy")
        self.running.add(claims.reservation_id)
        self.seen.append(Seen(claims, request.request))
        await self._announce()
        try:
            yield work_pb2.RunResponse(started=work_pb2.RunStarted(reservation_id=claims.reservation_id))
            yield work_pb2.RunResponse(progress=generation_pb2.Progress(stage="denoise", step=1, steps=2))
            if how == LOST:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "the worker broke")
            await self._go.wait()
            yield work_pb2.RunResponse(progress=generation_pb2.Progress(stage="denoise", step=2, steps=2))
            for at in range(0, len(OUTPUT), CHUNK):
                yield work_pb2.RunResponse(output_chunk=generation_pb2.OutputChunk(data=OUTPUT[at : at + CHUNK]))
            output = generation_pb2.Output(
                media_type="image/webp", size_bytes=len(OUTPUT), sha256=hashlib.sha256(OUTPUT).hexdigest(), width_px=64,
                height_px=48, frames=24, duration_ms=1_920, motion="sway",
            )  # fmt: skip
            yield work_pb2.RunResponse(result=work_pb2.RunResult(output=output, run_ms=37))
        except asyncio.CancelledError:
            self.cancelled.append(claims.request_sha256.hex())
            raise
        finally:
            self.running.discard(claims.reservation_id)
            self._out.put_nowait(fleet_pb2.AttachRequest(finished=fleet_pb2.JobFinished(reservation_id=claims.reservation_id)))

    async def _verified(self, request: work_pb2.RunRequest, context: Any) -> work_pb2.GrantClaims:
        assert self.attached is not None
        claims = work_pb2.GrantClaims.FromString(request.grant.claims)
        signature = hmac.new(self.attached.grant_key, request.grant.claims, hashlib.sha256).digest()
        digest = hashlib.sha256(request.request.SerializeToString(deterministic=True)).digest()
        wrong = {
            "signature": not hmac.compare_digest(signature, request.grant.signature),
            "region": claims.region != self.region,
            "worker": claims.worker != self.name,
            "incarnation": claims.incarnation != self.incarnation,
            "request": claims.request_sha256 != digest,
            "variant": claims.variant != f"{self.model}-v1" or claims.variant_digest != DIGEST,
            "epoch": claims.epoch < self.epoch,
            "replay": any(each.claims.reservation_id == claims.reservation_id for each in self.seen),
        }
        found = [name for name, is_wrong in wrong.items() if is_wrong]
        if found:
            self.forged.append(", ".join(found))
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, f"wrong {', '.join(found)}")
        return claims

    async def _reject(self, context: Any) -> None:
        status = status_pb2.Status(code=grpc.StatusCode.INVALID_ARGUMENT.value[0], message="motion 'levitate' is unknown")
        violation = error_details_pb2.BadRequest.FieldViolation(field="animate.motion", description="choose sway or zoom")
        status.details.add().Pack(error_details_pb2.BadRequest(field_violations=[violation]))
        trailer = (("grpc-status-details-bin", status.SerializeToString()),)
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "motion 'levitate' is unknown", trailer)
