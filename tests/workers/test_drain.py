"""The end of a worker: what a first signal promises, and a second."""

import asyncio
from typing import TYPE_CHECKING

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

if TYPE_CHECKING:
    from tests.workers.conftest import Rig

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def health(rig: "Rig") -> int:
    stub = health_pb2_grpc.HealthStub(rig.channel())
    return int((await stub.Check(health_pb2.HealthCheckRequest(service="homeward.v1.Work"))).status)


async def test_drain_finishes_the_running_job_and_accepts_none(rig: "Rig") -> None:
    await rig.start(slots=2)
    assert await health(rig) == SERVING
    call, reservation = await rig.started()
    rig.drain.set()
    session = rig.fleet.sessions[0]
    await rig.fleet.until(lambda: session.of_kind("draining"))
    await rig.until(lambda: rig.worker._service._draining)
    refused = await rig.refusal(rig.run(rig.request(2)))
    assert (refused.code, refused.reason, refused.work_began) == (
        grpc.StatusCode.FAILED_PRECONDITION,
        "WORKER_DRAINING",
        "false",
    )
    assert await health(rig) == NOT_SERVING
    for _ in range(3):  # the lease is kept until the job is done
        assert (await rig.fleet.heartbeat_after_now()).running_reservations == [reservation]
    assert not rig.life.done()

    rig.model.release.set()
    assert (await rig.rest(call))[-1].WhichOneof("event") == "result"
    assert await rig.over()
    assert session.finished == [reservation]
    assert session.ended
    assert len(rig.fleet.sessions) == 1
    assert len(session.of_kind("draining")) == 1
    assert rig.model.running_max == 1


async def test_jobs_are_taken_until_the_drain_is_acknowledged(rig: "Rig", monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.lifecycle.DRAIN_ACKNOWLEDGED_S_MAX", 0.5)
    rig.fleet.acknowledges_drain = False
    await rig.start()
    rig.drain.set()
    await rig.fleet.until(lambda: rig.fleet.sessions[0].of_kind("draining"))
    call, _ = await rig.started()  # granted before the ledger knew
    await rig.until(lambda: rig.worker._service._draining)  # no acknowledgement came
    assert (await rig.refusal(rig.run())).reason == "WORKER_DRAINING"
    rig.model.release.set()
    assert (await rig.rest(call))[-1].WhichOneof("event") == "result"
    assert await rig.over()


async def test_a_stream_that_breaks_while_draining_comes_back_draining(rig: "Rig") -> None:
    await rig.start()
    call, reservation = await rig.started()
    rig.drain.set()
    await rig.fleet.until(lambda: rig.fleet.sessions[0].of_kind("draining"))
    rig.fleet.sessions[0].end(grpc.StatusCode.UNAVAILABLE)
    await rig.fleet.until(lambda: len(rig.fleet.sessions) == 2 and rig.fleet.sessions[1].of_kind("draining"))
    kinds = [each.WhichOneof("message") for each in rig.fleet.sessions[1].messages]
    assert kinds[:2] == ["register", "draining"]
    assert rig.fleet.sessions[1].messages[0].register.running_reservations == [reservation]
    rig.model.release.set()
    assert (await rig.rest(call))[-1].WhichOneof("event") == "result"
    assert await rig.over()


async def test_a_drain_waits_for_outputs_to_be_read(rig: "Rig", monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.lifecycle.STOP_S_MAX", 0.01)
    rig.model.output = bytes(8 * 1024 * 1024)
    await rig.start()
    call, _ = await rig.started()
    rig.drain.set()
    rig.model.release.set()
    await rig.fleet.until(lambda: rig.fleet.sessions[0].finished)
    for _ in range(5):
        await rig.fleet.heartbeat_after_now()
    assert not rig.life.done()
    assert (await rig.rest(call))[-1].result.output.size_bytes == len(rig.model.output)
    assert await rig.over()


async def test_a_drain_that_takes_too_long_stops_the_jobs(rig: "Rig") -> None:
    await rig.start(drain_s=0.2)
    call, reservation = await rig.started()
    rig.drain.set()
    refused = await rig.refusal(call)
    assert (refused.code, refused.reason, refused.work_began) == (
        grpc.StatusCode.UNAVAILABLE,
        "WORKER_STOPPING",
        "true",
    )
    assert await rig.over()
    assert rig.fleet.sessions[0].finished == [reservation]


async def test_a_second_signal_stops_at_once(rig: "Rig") -> None:
    await rig.start()
    call, reservation = await rig.started()
    rig.drain.set()
    await rig.fleet.until(lambda: rig.fleet.sessions[0].of_kind("draining"))
    rig.stop.set()
    assert not await rig.over()
    assert (await rig.refusal(call)).reason == "WORKER_STOPPING"
    assert rig.fleet.sessions[0].finished == [reservation]
    assert not rig.worker.stuck


async def test_a_model_that_cannot_be_stopped_is_known(rig: "Rig", monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.lifecycle.STOP_S_MAX", 0.1)
    rig.model.deaf = True
    await rig.start()
    await rig.started()
    await rig.until(lambda: rig.model.running)
    rig.stop.set()
    assert not await rig.over()
    assert rig.worker.stuck
    rig.model.release.set()
    await rig.until(lambda: not rig.worker.stuck)


async def test_an_idle_worker_drains_at_once_even_without_a_router(rig: "Rig", monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.lifecycle.DRAIN_ACKNOWLEDGED_S_MAX", 0.1)
    await rig.start(routers=("127.0.0.1:9",), attached=False)
    rig.drain.set()
    assert await rig.over()
    assert rig.ready == []


async def test_health_is_serving_once_attached(rig: "Rig") -> None:
    rig.fleet.answers = False
    await rig.start(attached=False)
    assert await health(rig) == NOT_SERVING
    session = await rig.fleet.until(lambda: rig.fleet.sessions and rig.fleet.sessions[0])
    rig.fleet.answers = True
    session.end(grpc.StatusCode.UNAVAILABLE)
    await rig.until(lambda: rig.ready)
    async with asyncio.timeout(5):
        while await health(rig) != SERVING:  # noqa: ASYNC110  (asks over the wire)
            await asyncio.sleep(0.01)
