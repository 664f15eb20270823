"""The Work service: one call is one job, from its grant to the last byte of its output.

Order of a call: verify the grant, check the parameters, take a slot, spend the grant, say `started`; then progress, output in
chunks, the result. The job stops when the call ends for whatever reason (cancelled, connection broken, deadline), and the slot
is free when the model's thread has ended, which the router hears before the output is streamed: delivering needs no GPU.
"""

import asyncio
import hashlib
import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, assert_never

import grpc

from homeward.v1 import generation_pb2, work_pb2, work_pb2_grpc
from workers.grants import GrantGate
from workers.identity import unix_us
from workers.jobs import Completed, Failed, Job, Rejected, Slots, Stopped
from workers.model import Generated, GenerationModel, InputRejected
from workers.refusals import Refusal, RefusalReason, abort_with

log = logging.getLogger(__name__)

OUTPUT_CHUNK_BYTES_MAX = 1024 * 1024
OUTPUT_BYTES_MAX = 64 * 1024 * 1024
"""A finished output waits in memory for its reader. An animation has a few megabytes; more than this is a defect."""

Context = grpc.aio.ServicerContext[work_pb2.RunRequest, work_pb2.RunResponse]


class WorkService(work_pb2_grpc.WorkServicer):
    """Runs granted jobs."""

    def __init__(
        self,
        gate: GrantGate,
        slots: Slots,
        models: Mapping[str, GenerationModel],
        on_unused: Callable[[str], None],
    ) -> None:
        """`models` by variant id; `on_unused` hears of reservations whose grant was spent without a job."""
        self._gate = gate
        self._slots = slots
        self._models = models
        self._on_unused = on_unused
        self._draining = False
        self._calls = 0
        self._quiet = asyncio.Event()
        self._quiet.set()

    def refuse_new_jobs(self) -> None:
        """From now on every call is refused; running jobs go on."""
        self._draining = True

    async def wait_quiet(self) -> None:
        """Wait until no call is open: jobs are over and outputs delivered."""
        await self._quiet.wait()

    async def Run(self, request: work_pb2.RunRequest, context: Context) -> None:  # noqa: N802
        """Run one job and stream what happens; see the contract."""
        self._calls += 1
        self._quiet.clear()
        try:
            refusal = await self._run(request, context)
            if refusal is not None:
                log.info("refused or ended: %s: %s", refusal.reason, refusal.message)
                await abort_with(context, refusal)
        finally:
            self._calls -= 1
            if self._calls == 0:
                self._quiet.set()

    async def _run(self, request: work_pb2.RunRequest, context: Context) -> Refusal | None:
        """Do everything except failing the call: return the refusal to fail it with."""
        job: Job | None = None
        try:
            await self._gate.wait_for_key()
            claims = self._admit(request)
            model = self._models[claims.variant]
            job = self._start(model, claims, request.request)
            async with asyncio.timeout((claims.deadline_unix_us - unix_us()) / 1e6):
                await self._stream(job, model, context)
        except Refusal as refusal:
            return refusal
        except TimeoutError:
            return Refusal(RefusalReason.DEADLINE_EXCEEDED, "the job's deadline passed", work_began=True)
        except Exception as defect:
            if context.done():
                return None  # the caller went away while something was being written
            log.error("defect while serving a job: %s: %s", type(defect).__name__, defect)
            log.debug("defect while serving a job", exc_info=defect)
            return Refusal(RefusalReason.WORKER_DEFECT, "the worker failed", work_began=job is not None)
        finally:
            if job is not None:
                job.stop()
        return None

    def _admit(self, request: work_pb2.RunRequest) -> work_pb2.GrantClaims:
        """Return the claims of a valid grant, or raise Refusal. No waiting from here to the start of the job."""
        claims = self._gate.verify(request.grant, request.request, unix_us())
        if self._draining:
            raise Refusal(RefusalReason.WORKER_DRAINING, "this worker is draining and takes no new job")
        return claims

    def _start(self, model: GenerationModel, claims: work_pb2.GrantClaims, request: generation_pb2.GenerateRequest) -> Job:
        """Take a slot for a good request; a bad one gives its reservation back at once."""
        try:
            model.check(request)
        except InputRejected as rejection:
            self._gate.spend(claims, unix_us())
            self._on_unused(claims.reservation_id)
            raise Refusal(RefusalReason.INPUT_REJECTED, rejection.message, field=rejection.field) from None
        job = self._slots.start(claims.reservation_id, claims.variant, partial(model.generate, request))
        self._gate.spend(claims, unix_us())
        log.info("started reservation %s: %s", claims.reservation_id, claims.variant)
        return job

    async def _stream(self, job: Job, model: GenerationModel, context: Context) -> None:
        """Stream a running job to its end. Raises Refusal when it does not succeed."""
        await context.write(work_pb2.RunResponse(started=work_pb2.RunStarted(reservation_id=job.reservation_id)))
        while (step := await job.next_step()) is not None:
            progress = generation_pb2.Progress(stage=step.stage, step=step.step, steps=step.steps)
            await context.write(work_pb2.RunResponse(progress=progress))
        match job.end:
            case Completed(generated):
                await _deliver(generated, job.run_ms, context)
            case Rejected(field, message):
                raise Refusal(RefusalReason.INPUT_REJECTED, message, work_began=True, field=field)
            case Failed():
                message = f"model {model.name!r} failed; the worker's log has the cause"
                raise Refusal(RefusalReason.MODEL_FAILED, message, work_began=True)
            case Stopped():
                raise Refusal(RefusalReason.WORKER_STOPPING, "the worker stops before the job is done", work_began=True)
            case _ as never:
                assert_never(never)


async def _deliver(generated: Generated, run_ms: int, context: Context) -> None:
    """Stream the output and the result."""
    data = generated.data
    if len(data) > OUTPUT_BYTES_MAX:
        raise Refusal(RefusalReason.MODEL_FAILED, f"the output has {len(data)} bytes, too many", work_began=True)
    for offset in range(0, len(data), OUTPUT_CHUNK_BYTES_MAX):
        chunk = generation_pb2.OutputChunk(data=data[offset : offset + OUTPUT_CHUNK_BYTES_MAX])
        await context.write(work_pb2.RunResponse(output_chunk=chunk))
    output = generation_pb2.Output(
        media_type=generated.media_type,
        size_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        width_px=generated.width_px,
        height_px=generated.height_px,
        frames=generated.frames,
        duration_ms=generated.duration_ms,
        motion=generated.motion,
    )
    await context.write(work_pb2.RunResponse(result=work_pb2.RunResult(output=output, run_ms=run_ms)))


def add_work_service(service: WorkService, server: Any) -> None:
    """Register the service."""
    work_pb2_grpc.add_WorkServicer_to_server(service, server)
