"""Running a granted job on its worker, and what its ending means to the policy.

The output is kept here until the worker has said that it is whole: a worker that dies half-way must not leave a caller with
the beginning of one animation and the end of another. `OUTPUT_BYTES_MAX` bounds it.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Protocol, cast

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from homeward.v1 import generation_pb2, work_pb2, work_pb2_grpc
from router.channels import Channels
from router.peering.distance import travel, travelled
from router.placement_targets import Granted
from router.policy.vocabulary import Failure
from router.status import DETAILS_KEY, Violation
from router.topology import Topology

OUTPUT_BYTES_MAX = 64 * 1024 * 1024

_REFUSALS = {
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.UNAUTHENTICATED,
}


@dataclass(slots=True)
class Run:
    """One run, and how it went."""

    started: bool = False
    """The worker accepted the grant: from here on the worker frees the slot."""
    chunks: list[bytes] = field(default_factory=list)
    result: work_pb2.RunResult | None = None
    failure: Failure = Failure.NONE
    deadline_passed: bool = False
    why: str = ""
    violations: tuple[Violation, ...] = ()


class Dispatch(Protocol):
    """Runs a granted job, filling `run`; raises only cancellation."""

    def __call__(
        self,
        region: int,
        granted: Granted,
        request: generation_pb2.GenerateRequest,
        time_left_us: int,
        on_progress: Callable[[generation_pb2.Progress], Awaitable[None]],
        run: Run,
    ) -> Awaitable[None]: ...


def _violations(error: grpc.aio.AioRpcError) -> tuple[Violation, ...]:
    # The stub package calls each item opaque; grpc gives (key, value) pairs.
    for key, value in cast(Iterable[tuple[str, str | bytes]], error.trailing_metadata() or ()):
        if key == DETAILS_KEY and isinstance(value, bytes):
            try:
                return _bad_fields(status_pb2.Status.FromString(value))
            except DecodeError:
                return ()
    return ()


def _bad_fields(status: status_pb2.Status) -> tuple[Violation, ...]:
    bad = error_details_pb2.BadRequest()
    if not any(detail.Unpack(bad) for detail in status.details):
        return ()
    return tuple(Violation(each.field, each.description) for each in bad.field_violations)


def judge(run: Run, error: grpc.aio.AioRpcError) -> None:
    """Write into `run` what a failed call means."""
    run.why = f"{error.code().name}: {error.details() or ''}"
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        run.deadline_passed = True
    elif error.code() is grpc.StatusCode.INVALID_ARGUMENT:
        run.failure = Failure.INPUT_REJECTED
        run.violations = _violations(error)
        run.why = error.details() or "the worker rejected the input"
    elif error.code() in _REFUSALS and not run.started:
        run.failure = Failure.WORKER_REFUSED
    else:
        run.failure = Failure.WORKER_LOST


async def run_job(
    channels: Channels,
    granted: Granted,
    request: generation_pb2.GenerateRequest,
    time_left_us: int,
    rtt_us: int,
    on_progress: Callable[[generation_pb2.Progress], Awaitable[None]],
    run: Run,
) -> None:
    """Run the job, filling `run` as it goes (so that a cancelled caller still knows whether work began).

    `rtt_us`: round-trip time to emulate, 0 for none. Raises only cancellation, which stops the job on the worker.
    """
    stub = work_pb2_grpc.WorkStub(channels.to_worker(granted.address))
    await travel(rtt_us // 2)
    call = stub.Run(
        work_pb2.RunRequest(grant=granted.grant, request=request), timeout=max(time_left_us, 1) / 1_000_000
    )
    try:
        async with aclosing(travelled(call, rtt_us // 2)) as responses:
            await _follow(responses, on_progress, run)
    except grpc.aio.AioRpcError as error:
        # A status after the whole output takes nothing away from it (one id, one success).
        if not _is_whole(run):
            judge(run, error)
    finally:
        call.cancel()


def _is_whole(run: Run) -> bool:
    return run.result is not None and run.result.output.size_bytes == sum(map(len, run.chunks))


async def _follow(
    responses: AsyncIterator[work_pb2.RunResponse],
    on_progress: Callable[[generation_pb2.Progress], Awaitable[None]],
    run: Run,
) -> None:
    """Take what the worker says into `run`."""
    size = 0
    async for response in responses:
        kind = response.WhichOneof("event")
        if kind == "started":
            run.started = True
        elif kind == "progress":
            await on_progress(response.progress)
        elif kind == "output_chunk":
            size += len(response.output_chunk.data)
            if size > OUTPUT_BYTES_MAX:
                run.failure = Failure.WORKER_LOST
                run.why = f"the output is larger than {OUTPUT_BYTES_MAX} bytes"
                return
            run.chunks.append(response.output_chunk.data)
        elif kind == "result":
            run.result = response.result
    if not _is_whole(run):
        run.failure = Failure.WORKER_LOST
        run.why = "the worker ended the call without a whole result"


def dispatch_over(channels: Channels, topology: Topology, home: int) -> Dispatch:
    """`run_job` over these channels, at the distance of each region."""

    async def dispatch(
        region: int,
        granted: Granted,
        request: generation_pb2.GenerateRequest,
        time_left_us: int,
        on_progress: Callable[[generation_pb2.Progress], Awaitable[None]],
        run: Run,
    ) -> None:
        rtt_us = topology.rtt_us[home][region] if topology.emulate_rtt else 0
        await run_job(channels, granted, request, time_left_us, rtt_us, on_progress, run)

    return dispatch
