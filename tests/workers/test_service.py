"""One call is one job: what callers see, and what happens to the slot."""

import asyncio
import hashlib
import time
from typing import TYPE_CHECKING

import grpc
import pytest

from workers.model import InputRejected
from workers.service import OUTPUT_CHUNK_BYTES_MAX

if TYPE_CHECKING:
    from tests.workers.conftest import Rig


async def test_a_job_streams_started_progress_output_and_result(worker: "Rig") -> None:
    worker.model.output = bytes(range(256)) * 10_000  # 2.56 MB: three chunks
    call, _ = await worker.started()
    first = await call.read()
    assert (first.progress.stage, first.progress.steps) == ("denoise", 1_000_000)
    worker.model.release.set()
    responses = [first, *await worker.rest(call)]

    kinds = [each.WhichOneof("event") for each in responses]
    steps = kinds.count("progress")
    assert kinds == ["progress"] * steps + ["output_chunk"] * 3 + ["result"]
    numbers = [each.progress.step for each in responses[:steps]]
    assert numbers == sorted(set(numbers))
    chunks = [each.output_chunk.data for each in responses[steps:-1]]
    assert max(map(len, chunks)) <= OUTPUT_CHUNK_BYTES_MAX
    assert b"".join(chunks) == worker.model.output
    result = responses[-1].result
    assert result.output.sha256 == hashlib.sha256(worker.model.output).hexdigest()
    assert result.output.size_bytes == len(worker.model.output)
    assert (result.output.width_px, result.output.height_px, result.output.frames) == (64, 48, 24)
    assert (result.output.media_type, result.output.duration_ms, result.output.motion) == ("image/webp", 1920, "sway")
    assert 1 <= result.run_ms < 10_000


async def test_a_second_job_on_one_slot_is_refused_and_its_grant_still_holds(worker: "Rig") -> None:
    first, _ = await worker.started()
    request = worker.request(2)
    grant = worker.grant(request)
    refused = await worker.refusal(worker.run(request, grant))
    assert refused.code is grpc.StatusCode.FAILED_PRECONDITION
    assert (refused.reason, refused.work_began) == ("NO_FREE_SLOT", "false")
    assert worker.model.running_max == 1

    worker.model.release.set()
    assert (await worker.rest(first))[-1].WhichOneof("event") == "result"
    assert (await worker.rest(worker.run(request, grant)))[-1].WhichOneof("event") == "result"
    assert worker.model.running_max == 1


async def test_slots_run_side_by_side_and_never_more(rig: "Rig") -> None:
    await rig.start(slots=3)
    calls = [rig.run(rig.request(number)) for number in range(8)]
    first = await asyncio.gather(*(call.read() for call in calls), return_exceptions=True)
    started = [each for each in first if not isinstance(each, BaseException)]
    assert len(started) == 3
    assert sum(isinstance(each, grpc.aio.AioRpcError) for each in first) == 5
    await rig.until(lambda: rig.model.running == 3)
    rig.model.release.set()
    assert rig.model.running_max == 3


@pytest.mark.parametrize("how", ["cancelled", "connection closed", "connection cut"])
async def test_a_caller_that_goes_away_frees_the_slot(worker: "Rig", how: str) -> None:
    channel, cut = await worker.breakable_channel()
    call, reservation = await worker.started(channel=channel)
    await call.read()
    left_s = time.monotonic()
    if how == "cancelled":
        call.cancel()
    elif how == "connection closed":
        await channel.close()
    else:
        cut()
    await worker.fleet.until(lambda: reservation in worker.fleet.sessions[0].finished)
    assert time.monotonic() - left_s < 2.0  # 0.3 s where nothing else runs
    assert worker.model.running == 0
    assert (await worker.fleet.heartbeat_after_now()).running_reservations == []
    worker.model.release.set()
    assert (await worker.rest(worker.run()))[-1].WhichOneof("event") == "result"


async def test_a_slot_is_busy_until_the_model_has_really_left(worker: "Rig") -> None:
    worker.model.deaf = True
    call, reservation = await worker.started()
    await worker.until(lambda: worker.model.running)
    call.cancel()
    for _ in range(2):
        assert (await worker.fleet.heartbeat_after_now()).running_reservations == [reservation]
    refused = await worker.refusal(worker.run(worker.request(2)))
    assert refused.reason == "NO_FREE_SLOT"
    assert worker.fleet.sessions[0].finished == []

    worker.model.deaf = False  # it hears of the stop at its next step
    await worker.fleet.until(lambda: worker.fleet.sessions[0].finished == [reservation])


async def test_the_deadline_of_the_grant_stops_the_job(worker: "Rig") -> None:
    deadline_us = time.time_ns() // 1_000 + 300_000
    call, reservation = await worker.started(deadline_unix_us=deadline_us)
    refused = await worker.refusal(call)
    assert refused.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert (refused.reason, refused.work_began) == ("DEADLINE_EXCEEDED", "true")
    assert time.time_ns() // 1_000 >= deadline_us
    await worker.fleet.until(lambda: worker.fleet.sessions[0].finished == [reservation])
    assert worker.model.running == 0


async def test_the_deadline_of_the_call_stops_the_job(worker: "Rig") -> None:
    call, reservation = await worker.started(timeout_s=0.3)
    assert (await worker.refusal(call)).code is grpc.StatusCode.DEADLINE_EXCEEDED
    await worker.fleet.until(lambda: worker.fleet.sessions[0].finished == [reservation])


async def test_wrong_parameters_never_use_a_slot_and_give_the_reservation_back(worker: "Rig") -> None:
    request = worker.request(motion="levitate")
    grant = worker.grant(request, reservation_id="reservation-wrong")
    refused = await worker.refusal(worker.run(request, grant))
    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert (refused.reason, refused.work_began, refused.fields) == ("INPUT_REJECTED", "false", ["animate.motion"])
    await worker.fleet.until(lambda: worker.fleet.sessions[0].finished == ["reservation-wrong"])
    assert worker.model.running_max == 0
    assert (await worker.refusal(worker.run(request, grant))).reason == "GRANT_REPLAYED"


async def test_a_photo_that_the_model_rejects(worker: "Rig") -> None:
    worker.model.failure = InputRejected("photo", "the photo has 2 pixels")
    worker.model.release.set()
    refused = await worker.refusal(worker.run())
    assert refused.code is grpc.StatusCode.INVALID_ARGUMENT
    assert (refused.reason, refused.fields, refused.message) == ("INPUT_REJECTED", ["photo"], "the photo has 2 pixels")


@pytest.mark.parametrize("failure", [MemoryError(), RuntimeError("CUDA error\nat secret.cu:7"), SystemExit(3)])
async def test_a_failing_model_costs_one_job(
    worker: "Rig", failure: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    worker.model.failure = failure
    worker.model.release.set()
    call, reservation = await worker.started()
    refused = await worker.refusal(call)
    assert refused.code is grpc.StatusCode.INTERNAL
    assert (refused.reason, refused.work_began) == ("MODEL_FAILED", "true")
    assert "secret" not in refused.message
    assert type(failure).__name__ not in refused.message
    assert any(type(failure).__name__ in record.getMessage() for record in caplog.records)
    await worker.fleet.until(lambda: worker.fleet.sessions[0].finished == [reservation])

    worker.model.failure = None
    assert (await worker.rest(worker.run()))[-1].WhichOneof("event") == "result"


async def test_a_slow_reader_holds_no_slot_and_sees_the_latest_progress(worker: "Rig") -> None:
    worker.model.output = bytes(8 * 1024 * 1024)  # far beyond what connections buffer
    call, reservation = await worker.started()
    await worker.until(lambda: worker.model.steps_made >= 200)
    worker.model.release.set()
    await worker.fleet.until(lambda: worker.fleet.sessions[0].finished == [reservation])
    # The slot serves others while the first output waits for its reader.
    assert (await worker.rest(worker.run(worker.request(2))))[-1].WhichOneof("event") == "result"
    responses = await worker.rest(call)
    assert responses[-1].result.output.size_bytes == len(worker.model.output)
    steps = [each.progress.step for each in responses if each.WhichOneof("event") == "progress"]
    assert steps == sorted(set(steps))


async def test_nobody_waits_longer_than_the_deadline_for_a_reader(worker: "Rig", monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.refusals.ABORT_S_MAX", 0.1)
    monkeypatch.setattr("workers.lifecycle.STOP_S_MAX", 0.1)
    worker.model.output = bytes(32 * 1024 * 1024)
    worker.model.release.set()
    call, _ = await worker.started(deadline_unix_us=time.time_ns() // 1_000 + 400_000)
    worker.drain.set()  # a drain waits for open calls: it ends only if this one does
    assert await worker.over()
    call.cancel()


async def test_an_output_beyond_the_bound_is_a_failure(worker: "Rig", monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.service.OUTPUT_BYTES_MAX", 10)
    worker.model.release.set()
    refused = await worker.refusal(worker.run())
    assert (refused.code, refused.reason) == (grpc.StatusCode.INTERNAL, "MODEL_FAILED")


async def test_a_defect_of_the_worker_is_one_answer_and_no_traceback(
    worker: "Rig", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker.model, "check", lambda request: 1 // 0)
    refused = await worker.refusal(worker.run())
    assert (refused.code, refused.reason, refused.work_began) == (grpc.StatusCode.INTERNAL, "WORKER_DEFECT", "false")
    assert "ZeroDivision" not in refused.message


async def test_a_message_beyond_16_mib_is_refused_before_any_work(worker: "Rig") -> None:
    request = worker.request()
    request.photo = bytes(17 * 1024 * 1024)
    assert (await worker.refusal(worker.run(request))).code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert worker.model.running_max == 0
