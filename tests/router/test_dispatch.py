"""What a worker's answer means: every status, and answers that contradict themselves."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from homeward.v1 import generation_pb2, work_pb2, work_pb2_grpc
from router import dispatch
from router.channels import Channels
from router.dispatch import Run, run_job
from router.placement_targets import Granted
from router.policy.vocabulary import Failure

Script = Callable[[Any], AsyncIterator[work_pb2.RunResponse]]
REQUEST = generation_pb2.GenerateRequest(request_id="request-1", model="animate")


def started() -> work_pb2.RunResponse:
    return work_pb2.RunResponse(started=work_pb2.RunStarted(reservation_id="r"))


def chunk(data: bytes) -> work_pb2.RunResponse:
    return work_pb2.RunResponse(output_chunk=generation_pb2.OutputChunk(data=data))


def result(size_bytes: int) -> work_pb2.RunResponse:
    return work_pb2.RunResponse(result=work_pb2.RunResult(output=generation_pb2.Output(size_bytes=size_bytes), run_ms=5))


class Scripted(work_pb2_grpc.WorkServicer):
    """Answers as a script says."""

    def __init__(self, script: Script) -> None:
        self._script = script

    async def Run(  # noqa: N802
        self, request: work_pb2.RunRequest, context: Any
    ) -> AsyncIterator[work_pb2.RunResponse]:
        async for response in self._script(context):
            yield response


async def run_on(script: Script, time_left_us: int = 10_000_000, rtt_us: int = 0) -> tuple[Run, int]:
    """Run one job on a worker with this script; the run, and how many progress messages came."""
    server = grpc.aio.server()
    work_pb2_grpc.add_WorkServicer_to_server(Scripted(script), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    channels, run, steps = Channels(), Run(), []

    async def on_progress(progress: generation_pb2.Progress) -> None:
        steps.append(progress)

    granted = Granted("r", work_pb2.Grant(), "gpu-1", f"127.0.0.1:{port}", "v", "d", 0, 1, 1, 0)
    try:
        await run_job(channels, granted, REQUEST, time_left_us, rtt_us, on_progress, run)
    finally:
        await channels.close()
        await server.stop(None)
    return run, len(steps)


def says(*responses: work_pb2.RunResponse, then: Callable[[Any], Awaitable[None]] | None = None) -> Script:
    async def script(context: Any) -> AsyncIterator[work_pb2.RunResponse]:
        for response in responses:
            yield response
        if then is not None:
            await then(context)

    return script


def aborts(code: grpc.StatusCode, trailer: Sequence[tuple[str, bytes]] = ()) -> Callable[[Any], Awaitable[None]]:
    async def abort(context: Any) -> None:
        await context.abort(code, "because", tuple(trailer))

    return abort


@pytest.mark.parametrize("rtt_us", [0, 10_000])
async def test_a_whole_job(rtt_us: int) -> None:
    step = work_pb2.RunResponse(progress=generation_pb2.Progress(stage="denoise", step=1, steps=1))
    run, steps = await run_on(says(started(), step, chunk(b"ab"), chunk(b"c"), result(3)), rtt_us=rtt_us)
    assert run.started
    assert run.failure is Failure.NONE
    assert run.result is not None
    assert (b"".join(run.chunks), steps) == (b"abc", 1)


@pytest.mark.parametrize(
    "responses",
    [
        [], [started()], [started(), chunk(b"abc")], [started(), chunk(b"ab"), result(3)], [started(), chunk(b"abcd"), result(3)],
        [started(), result(-1)],
    ],
)  # fmt: skip
async def test_an_end_without_a_whole_result(responses: list[work_pb2.RunResponse]) -> None:
    run, _ = await run_on(says(*responses))
    assert run.failure is Failure.WORKER_LOST
    assert "without a whole result" in run.why


@pytest.mark.parametrize("rtt_us", [0, 10_000])
@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
async def test_a_status_after_the_whole_output_takes_nothing_away(code: grpc.StatusCode, rtt_us: int) -> None:
    """Its connection broke, or its own clock said that the deadline has passed: what it made is here."""
    run, _ = await run_on(says(started(), chunk(b"ab"), chunk(b"c"), result(3), then=aborts(code)), rtt_us=rtt_us)
    assert run.failure is Failure.NONE
    assert not run.deadline_passed
    assert run.result is not None
    assert (b"".join(run.chunks), run.result.run_ms) == (b"abc", 5)


@pytest.mark.parametrize("responses", [[chunk(b"abc")], [chunk(b"ab"), result(3)], [result(-1)]])
@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED])
async def test_a_status_after_part_of_the_output_counts(code: grpc.StatusCode, responses: list[work_pb2.RunResponse]) -> None:
    run, _ = await run_on(says(started(), *responses, then=aborts(code)))
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        assert run.deadline_passed
    else:
        assert run.failure is Failure.WORKER_LOST


@pytest.mark.parametrize("after_start", [False, True])
@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
async def test_what_each_status_means(code: grpc.StatusCode, after_start: bool) -> None:
    run, _ = await run_on(says(*([started()] if after_start else []), then=aborts(code)))
    assert run.started is after_start
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        assert run.deadline_passed
    elif code is grpc.StatusCode.INVALID_ARGUMENT:
        assert run.failure is Failure.INPUT_REJECTED
    else:
        refuses = {"FAILED_PRECONDITION", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "UNIMPLEMENTED", "UNAUTHENTICATED"}
        expected = Failure.WORKER_REFUSED if code.name in refuses and not after_start else Failure.WORKER_LOST
        assert run.failure is expected
    assert "because" in run.why


async def test_the_fields_that_a_worker_rejects() -> None:
    status = status_pb2.Status(code=3)
    violation = error_details_pb2.BadRequest.FieldViolation(field="animate.motion", description="unknown")
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason="INPUT_REJECTED"))
    status.details.add().Pack(error_details_pb2.BadRequest(field_violations=[violation]))
    trailer = [("grpc-status-details-bin", status.SerializeToString())]
    run, _ = await run_on(says(then=aborts(grpc.StatusCode.INVALID_ARGUMENT, trailer)))
    assert [(each.field, each.description) for each in run.violations] == [("animate.motion", "unknown")]


@pytest.mark.parametrize("garbage", [b"\xff\xff\xff", b"\x1a\x04\x0a\x02\xff\xff", b"\0"])
async def test_details_that_cannot_be_read_change_nothing(garbage: bytes) -> None:
    run, _ = await run_on(says(then=aborts(grpc.StatusCode.INVALID_ARGUMENT, [("grpc-status-details-bin", garbage)])))
    assert run.failure is Failure.INPUT_REJECTED
    assert run.violations == ()


async def test_an_endless_output_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "OUTPUT_BYTES_MAX", 1_000)

    async def endless(context: Any) -> AsyncIterator[work_pb2.RunResponse]:
        yield started()
        while True:
            yield chunk(bytes(400))
            await asyncio.sleep(0)

    run, _ = await run_on(endless)
    assert run.failure is Failure.WORKER_LOST
    assert "larger than 1000 bytes" in run.why
    assert len(run.chunks) == 2


async def test_a_worker_that_hangs_meets_the_deadline() -> None:
    async def hangs(context: Any) -> AsyncIterator[work_pb2.RunResponse]:
        yield started()
        await asyncio.Event().wait()

    run, _ = await run_on(hangs, time_left_us=200_000)
    assert run.started
    assert run.deadline_passed


async def test_nobody_at_the_address() -> None:
    channels, run = Channels(), Run()

    async def on_progress(_: generation_pb2.Progress) -> None:
        raise AssertionError("nobody is there")

    granted = Granted("r", work_pb2.Grant(), "gpu-1", "127.0.0.1:1", "v", "d", 0, 1, 1, 0)
    await run_job(channels, granted, REQUEST, 5_000_000, 0, on_progress, run)
    await channels.close()
    assert (run.failure, run.started) == (Failure.WORKER_LOST, False)


async def test_cancelling_reaches_the_worker() -> None:
    began, stopped = asyncio.Event(), asyncio.Event()

    async def long(context: Any) -> AsyncIterator[work_pb2.RunResponse]:
        yield started()
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    running = asyncio.create_task(run_on(long))
    await asyncio.wait_for(began.wait(), 10)
    running.cancel()
    await asyncio.wait([running])
    await asyncio.wait_for(stopped.wait(), 10)
