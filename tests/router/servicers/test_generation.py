"""Generate, end to end: the real SDK, a real router on a real Valkey, workers that check every grant."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from homeward import (
    AsyncClient,
    DeadlineExceeded,
    DuplicateRequest,
    Finished,
    HomewardError,
    InvalidRequest,
    ModelUnavailable,
    NoCapacity,
    NotFound,
    Outcome,
    Placed,
    Progress,
    Waiting,
    WorkerFailed,
)
from homeward.v1 import generation_pb2, generation_pb2_grpc, work_pb2
from localfleet.valkey import EmbeddedValkey
from tests.router.fake_worker import LOST, OUTPUT, REJECTS, FakeWorker
from tests.router.stand import Stand, eventually, fresh_region, open_stand, settings_of


async def test_placed_progress_output_result(stand: Stand, photo: bytes) -> None:
    worker = await stand.worker()
    events = [event async for event in stand.client.generate(photo=photo, motion="sway", seed=2**64 - 1, request_id="request-1")]
    assert [type(event) for event in events] == [Placed, Progress, Progress, Finished]
    placed, _, progress, finished = events
    assert isinstance(placed, Placed)
    assert isinstance(progress, Progress)
    assert isinstance(finished, Finished)
    assert (placed.served_region, placed.worker, placed.attempts) == (stand.region, "gpu-1", 1)
    assert progress.fraction == 1.0
    assert finished.output == OUTPUT
    assert (finished.request_id, finished.model, finished.variant) == ("request-1", "animate", "animate-v1")
    assert (finished.home_region, finished.served_region, finished.worker) == (stand.region, stand.region, "gpu-1")
    assert (finished.attempts, finished.start_delay_ms, finished.run_ms) == (1, 0, 37)
    assert 0 <= finished.wait_ms <= finished.total_ms
    assert finished.motion == "sway"
    claims = worker.seen[0].claims
    assert claims.reservation_id.startswith("request-1.1.")
    assert claims.deadline_unix_us > time.time_ns() // 1000
    assert worker.forged == []
    await stand.all_free()
    assert stand.metric("homeward_requests_total", model="animate", outcome="OK") == 1
    story = await stand.client.explain("request-1")
    assert [decision.command for decision in story.decisions] == ["reserve", "dispatch", "finish"]
    assert (story.outcome, story.served_region) == (Outcome.OK, stand.region)


async def test_the_request_id_is_used_up_by_a_success(stand: Stand, photo: bytes) -> None:
    await stand.worker()
    await stand.client.run(photo=photo, request_id="request-1")
    with pytest.raises(DuplicateRequest) as again:
        await stand.client.run(photo=photo, request_id="request-1")
    assert (again.value.reason, again.value.status_code) == ("REQUEST_SUCCEEDED", "ALREADY_EXISTS")
    with pytest.raises(InvalidRequest) as other:
        await stand.client.run(photo=photo, request_id="request-1", seed=8)
    assert other.value.reason == "REQUEST_ID_REUSED"
    assert [violation.field for violation in other.value.violations] == ["request_id"]
    assert other.value.work_began is False


async def test_the_request_id_is_known_to_the_other_routers_of_the_region(valkey: EmbeddedValkey, photo: bytes) -> None:
    region = fresh_region()
    async with open_stand(settings_of(region, valkey.url)) as one, open_stand(settings_of(region, valkey.url)) as other:
        await one.worker()
        await one.client.run(photo=photo, request_id="request-1")
        with pytest.raises(DuplicateRequest):
            await other.client.run(photo=photo, request_id="request-1")
        # The other router places on the same workers.
        assert (await other.client.run(photo=photo)).worker == "gpu-1"


async def test_an_id_that_is_running(stand: Stand, photo: bytes) -> None:
    worker = await stand.worker(slots=2)
    worker.hold()
    first = asyncio.create_task(stand.client.run(photo=photo, request_id="request-1"))
    await worker.until(lambda each: len(each.running) == 1, "the job starts")
    with pytest.raises(DuplicateRequest) as again:
        await stand.client.run(photo=photo, request_id="request-1")
    assert again.value.reason == "REQUEST_RUNNING"
    worker.go()
    assert (await first).output == OUTPUT
    assert len(worker.seen) == 1


async def test_two_calls_with_one_id_at_one_moment(stand: Stand, photo: bytes) -> None:
    worker = await stand.worker(slots=4)
    calls = [stand.client.run(photo=photo, request_id="request-1") for _ in range(4)]
    ended = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(each, Finished) for each in ended) == 1, ended
    assert sum(isinstance(each, DuplicateRequest) for each in ended) == 3, ended
    assert len(worker.seen) == 1


async def test_after_a_failure_the_id_may_be_used_again(stand: Stand, photo: bytes) -> None:
    worker = await stand.worker()
    worker.misbehaviour = [REJECTS]
    with pytest.raises(InvalidRequest) as refused:
        await stand.client.run(photo=photo, request_id="request-1")
    assert refused.value.reason == "INPUT_REJECTED"
    assert [violation.field for violation in refused.value.violations] == ["animate.motion"]
    assert "levitate" in str(refused.value)
    await stand.all_free()
    assert (await stand.client.run(photo=photo, request_id="request-1")).attempts == 1


@pytest.mark.parametrize("through", ["the same router", "another router"])
async def test_after_a_failure_the_id_may_be_used_again_at_once(
    valkey: EmbeddedValkey, photo: bytes, monkeypatch: pytest.MonkeyPatch, through: str
) -> None:
    """The failure is not told before the ledger has let go of the id."""
    region = fresh_region()
    settings = settings_of(region, valkey.url, policy={"attempts_max": 1})
    async with open_stand(settings) as stand, open_stand(settings_of(region, valkey.url)) as other:
        ledger = stand.router._guard.ledger
        settle = ledger.settle_request

        async def slow(request_id: str, digest: str, *, succeeded: bool) -> None:
            await asyncio.sleep(0.3)
            await settle(request_id, digest, succeeded=succeeded)

        monkeypatch.setattr(ledger, "settle_request", slow)
        worker = await stand.worker()
        await other.client.regions()
        worker.misbehaviour = [LOST]
        with pytest.raises(WorkerFailed):
            await stand.client.run(photo=photo, request_id="request-1")
        again = stand if through == "the same router" else other
        assert (await again.client.run(photo=photo, request_id="request-1")).output == OUTPUT


class BreaksAfterTheResult(FakeWorker):
    """Delivers everything, and then ends the call with an error."""

    code = grpc.StatusCode.UNAVAILABLE

    async def Run(  # noqa: N802
        self, request: work_pb2.RunRequest, context: Any
    ) -> AsyncIterator[work_pb2.RunResponse]:
        async for response in super().Run(request, context):
            yield response
        await context.abort(self.code, "after the result")


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED])
async def test_an_error_after_the_whole_result_runs_nothing_twice(stand: Stand, photo: bytes, code: grpc.StatusCode) -> None:
    async with (
        BreaksAfterTheResult(stand.router.address, stand.region, "gpu-1") as one,
        BreaksAfterTheResult(stand.router.address, stand.region, "gpu-2") as two,
    ):
        one.code = two.code = code
        await stand.client.regions()
        finished = await stand.client.run(photo=photo, request_id="request-1")
        assert (finished.attempts, finished.output) == (1, OUTPUT)
        await stand.all_free()
        assert len(one.seen) + len(two.seen) == 1
        with pytest.raises(DuplicateRequest):
            await stand.client.run(photo=photo, request_id="request-1")
        assert stand.metric("homeward_worker_failures_total", failure="WORKER_LOST") == 0


async def test_an_id_of_a_cancelled_request_may_be_used_again(stand: Stand, photo: bytes) -> None:
    worker = await stand.worker()
    worker.hold()
    first = asyncio.create_task(stand.client.run(photo=photo, request_id="request-1"))
    await worker.until(lambda each: len(each.running) == 1, "the job starts")
    first.cancel()
    await asyncio.wait([first])
    worker.go()

    async def runs() -> bool:
        try:
            return (await stand.client.run(photo=photo, request_id="request-1")).output == OUTPUT
        except DuplicateRequest:
            return False

    await eventually(runs, "the id of a cancelled request is free again")


async def test_cancelling_frees_the_slot(stand: Stand, photo: bytes) -> None:
    worker = await stand.worker()
    worker.hold()
    running = asyncio.create_task(stand.client.run(photo=photo))
    await worker.until(lambda each: len(each.running) == 1, "the job starts")
    assert await stand.busy() == 1
    running.cancel()
    await asyncio.wait([running])
    await stand.all_free()
    await eventually(lambda: not worker.running, "the worker hears of it")
    assert len(worker.cancelled) == 1
    worker.go()
    assert (await stand.client.run(photo=photo)).attempts == 1


async def test_leaving_the_loop_early_frees_the_slot(stand: Stand, photo: bytes) -> None:
    worker = await stand.worker()
    worker.hold()
    async for event in stand.client.generate(photo=photo):
        assert isinstance(event, Placed)
        break
    await stand.all_free()


async def test_a_worker_that_dies_is_replaced_by_another(stand: Stand, photo: bytes) -> None:
    dying = await stand.worker("gpu-1")
    dying.hold()
    running = asyncio.create_task(stand.client.run(photo=photo, request_id="request-1"))
    await dying.until(lambda each: len(each.running) == 1, "the job starts")
    other = await stand.worker("gpu-2")
    await dying.die()
    finished = await running
    assert (finished.attempts, finished.worker, finished.output) == (2, "gpu-2", OUTPUT)
    assert len(other.seen) == 1
    assert stand.metric("homeward_worker_failures_total", failure="WORKER_LOST") == 1
    story = await stand.client.explain("request-1")
    assert [each.reason for each in story.decisions if each.command == "reserve"] == ["HOME_FIRST", "WORKER_FAILED_RETRY"]
    await stand.all_free()


async def test_when_every_worker_fails(valkey: EmbeddedValkey, photo: bytes) -> None:
    settings = settings_of(fresh_region(), valkey.url, policy={"attempts_max": 3, "backoff": {"base_s": 0.01, "cap_s": 0.02}})
    async with open_stand(settings) as stand:
        for number in range(3):
            worker = await stand.worker(f"gpu-{number}")
            worker.misbehaviour = [LOST] * 3
        with pytest.raises(WorkerFailed) as failed:
            await stand.client.run(photo=photo)
        assert failed.value.work_began is True
        assert "broke" in str(failed.value)
        assert failed.value.status_code == "UNAVAILABLE"
        await stand.all_free()


async def test_the_only_worker_may_try_again_after_a_wait(stand: Stand, photo: bytes) -> None:
    worker = await stand.worker()
    worker.misbehaviour = [LOST]
    finished = await stand.client.run(photo=photo)
    assert (finished.attempts, finished.worker) == (3, "gpu-1")
    assert len(worker.seen) == 2


async def test_unknown_model(stand: Stand, photo: bytes) -> None:
    with pytest.raises(ModelUnavailable) as none:
        await stand.client.run(photo=photo)
    assert "none at the moment" in str(none.value)
    await stand.worker()
    with pytest.raises(ModelUnavailable) as unknown:
        await stand.client.run(photo=photo, model="animat")
    assert unknown.value.status_code == "FAILED_PRECONDITION"
    assert "animate" in str(unknown.value)
    assert [violation.field for violation in unknown.value.violations] == ["model"]
    assert unknown.value.retry_after_s is None
    # Unknown names must not become label values: anybody could fill the memory of Prometheus with them.
    assert stand.metric("homeward_requests_total", model="animat", outcome="MODEL_UNAVAILABLE") == 0
    assert stand.metric("homeward_requests_total", model="other", outcome="MODEL_UNAVAILABLE") == 2


@pytest.mark.parametrize("bad", ["photo", "request_id", "model", "home_region", "animate.strength"])
async def test_bad_fields_are_refused_by_the_router_itself(stand: Stand, photo: bytes, bad: str) -> None:
    """The SDK would refuse most of these before sending; another client may not."""
    channel = await stand.channel()
    wrong = {
        "photo": {"photo": b"GIF89a" + bytes(20)},
        "request_id": {"request_id": "short"},
        "model": {"model": "../etc"},
        "home_region": {"home_region": "mars"},
        "animate.strength": {"animate": generation_pb2.AnimateParameters(strength=float("nan"))},
    }[bad]
    fields = {"request_id": "request-1", "model": "animate", "photo": photo} | wrong
    began = time.perf_counter()
    call = generation_pb2_grpc.GenerationStub(channel).Generate(generation_pb2.GenerateRequest(**fields), timeout=30)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call.read()
    took_ms = (time.perf_counter() - began) * 1e3
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert str(refused.value.details()).startswith(f"{bad}:")
    assert took_ms < 1_000
    print(f"{bad}: {took_ms:.1f} ms")  # noqa: T201


@pytest.mark.parametrize(("timeout_s", "code"), [(None, "INVALID_ARGUMENT"), (86_400.0, "INVALID_ARGUMENT")])
async def test_absurd_deadlines(stand: Stand, photo: bytes, timeout_s: float | None, code: str) -> None:
    channel = await stand.channel()
    request = generation_pb2.GenerateRequest(request_id="request-1", model="animate", photo=photo)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await generation_pb2_grpc.GenerationStub(channel).Generate(request, timeout=timeout_s).read()
    assert refused.value.code().name == code
    assert "deadline" in str(refused.value.details())


async def test_garbage_instead_of_a_request(stand: Stand, photo: bytes) -> None:
    channel = await stand.channel()
    call = channel.unary_stream("/homeward.v1.Generation/Generate")(b"\xff\xff\xff\xff", timeout=10)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call.read()
    # gRPC answers this before any of our code runs.
    assert refused.value.code() in (grpc.StatusCode.INTERNAL, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNKNOWN)
    await stand.worker()
    assert (await stand.client.run(photo=photo)).attempts == 1, "the router lives on"


async def test_a_deadline_passes_while_the_job_runs(stand: Stand, photo: bytes) -> None:
    worker = await stand.worker(service_ms=1)
    worker.hold()
    with pytest.raises(DeadlineExceeded) as late:
        await stand.client.run(photo=photo, timeout_s=1.0)
    assert late.value.outcome is Outcome.DEADLINE_EXCEEDED
    assert late.value.work_began is True, "the router's own answer came, not gRPC's"
    await stand.all_free()


async def test_a_hopeless_deadline_is_refused_at_once(stand: Stand, photo: bytes) -> None:
    worker = await stand.worker(service_ms=60_000)

    async def home_is_known() -> bool:
        return await stand.slots() == 1

    await eventually(home_is_known, "the board knows the worker")
    began = time.perf_counter()
    with pytest.raises(DeadlineExceeded) as hopeless:
        await stand.client.run(photo=photo, timeout_s=20.0)
    assert hopeless.value.outcome is Outcome.DEADLINE_HOPELESS
    assert hopeless.value.work_began is False
    assert time.perf_counter() - began < 2.0
    assert worker.seen == []


async def test_a_full_region_makes_requests_wait_in_turn(valkey: EmbeddedValkey, photo: bytes) -> None:
    settings = settings_of(fresh_region(), valkey.url, policy={"backoff": {"base_s": 0.05, "cap_s": 0.2}, "attempts_max": 50})
    async with open_stand(settings) as stand:
        worker = await stand.worker(slots=1, service_ms=20)
        worker.hold()
        events: list[object] = []
        first = asyncio.create_task(stand.client.run(photo=photo))
        await worker.until(lambda each: len(each.running) == 1, "the first job starts")
        second = asyncio.create_task(stand.client.run(photo=photo, on_event=events.append))
        await eventually(lambda: any(isinstance(event, Waiting) for event in events), "the second one waits")
        worker.go()
        assert (await first).attempts == 1
        finished = await second
        assert finished.attempts >= 2
        assert finished.wait_ms > 0
        assert worker.forged == []


async def test_the_attempts_are_bounded_and_the_answer_says_when_to_come_back(valkey: EmbeddedValkey, photo: bytes) -> None:
    settings = settings_of(fresh_region(), valkey.url, policy={"backoff": {"base_s": 0.01, "cap_s": 0.02}, "attempts_max": 2})
    async with open_stand(settings) as stand:
        worker = await stand.worker(slots=1, service_ms=20)
        worker.hold()
        first = asyncio.create_task(stand.client.run(photo=photo))
        await worker.until(lambda each: len(each.running) == 1, "the first job starts")
        with pytest.raises(NoCapacity) as full:
            await stand.client.run(photo=photo)
        assert full.value.status_code == "UNAVAILABLE"
        assert full.value.retry_after_s is not None
        assert full.value.retry_after_s > 0
        assert full.value.work_began is False
        worker.go()
        await first


async def test_a_start_delay_under_pressure(valkey: EmbeddedValkey, photo: bytes) -> None:
    policy = {"start_delay": {"share_max": 1.0, "spread_max_s": 0.5, "pressure_from": 0.0}}
    async with open_stand(settings_of(fresh_region(), valkey.url, policy=policy)) as stand:
        worker = await stand.worker(slots=2)
        worker.hold()
        first = asyncio.create_task(stand.client.run(photo=photo))
        await worker.until(lambda each: len(each.running) == 1, "the first job starts")
        second = asyncio.create_task(stand.client.run(photo=photo, request_id="request-2"))
        await worker.until(lambda each: len(each.running) == 2, "the second job starts")
        worker.go()
        assert (await first).start_delay_ms == 0, "nothing else ran yet"
        finished = await second
        story = await stand.client.explain("request-2")
        dispatch = next(each for each in story.decisions if each.command == "dispatch")
        assert (dispatch.reason, dispatch.pressure, dispatch.share) == ("START_DELAYED", 0.5, 0.5) or dispatch.share == 0.5
        if dispatch.reason == "START_DELAYED":
            assert finished.start_delay_ms == dispatch.delay_us // 1000


async def test_random_cancellations_leave_every_slot_free(stand: Stand, photo: bytes) -> None:
    seed = 20_240
    luck = random.Random(seed)
    workers = [await stand.worker(f"gpu-{number}", slots=2, service_ms=5) for number in range(3)]

    async def one(number: int) -> None:
        running = asyncio.create_task(stand.client.run(photo=photo, timeout_s=20.0))
        await asyncio.wait([running], timeout=luck.choice([0.0, 0.002, 0.01, 0.05, 0.3, 20.0]))
        running.cancel()
        await asyncio.wait([running])
        if not running.cancelled() and (error := running.exception()) is not None:
            assert isinstance(error, HomewardError), f"seed {seed}, request {number}: {error!r}"
            assert error.outcome is not Outcome.INTERNAL, f"seed {seed}, request {number}: {error}"
        if number == 60:
            await workers[0].die()

    for start in range(0, 120, 20):
        await asyncio.gather(*(one(number) for number in range(start, start + 20)))
    await stand.all_free()
    for worker in workers:
        assert [each for each in worker.forged if each != "more jobs than slots"] == [], f"seed {seed}"
    await eventually(lambda: not stand.router.around.loose_ends, "nothing is left to give back")
    assert stand.metric("homeward_requests_running") == 0


async def test_explain_of_a_request_that_never_was(stand: Stand) -> None:
    with pytest.raises(NotFound):
        await stand.client.explain("never-was")
    with pytest.raises(InvalidRequest):
        await stand.client.explain("x")


async def test_a_client_of_another_region_is_told(stand: Stand, photo: bytes) -> None:
    async with AsyncClient(stand.router.address) as client:
        with pytest.raises(InvalidRequest) as refused:
            await client.run(photo=photo, home_region="mars")
        assert [violation.field for violation in refused.value.violations] == ["home_region"]
