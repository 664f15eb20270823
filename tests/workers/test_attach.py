"""The Attach stream: registering, heartbeats, coming back, and when not to."""

import asyncio
import time
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from homeward.v1 import fleet_pb2
from workers.attach import BACKOFF_BASE_S, BACKOFF_CAP_S, WorkerRejected, backoff_s
from workers.finished import FinishedJobs

if TYPE_CHECKING:
    from tests.workers.conftest import FakeFleet, Rig

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


async def test_the_registration_says_who_where_and_what(rig: "Rig") -> None:
    await rig.start(slots=3)
    assert rig.ready == [rig.worker.address]
    registered = rig.fleet.sessions[0].messages[0].register
    assert registered == fleet_pb2.RegisterWorker(
        worker="gpu-1",
        incarnation=rig.identity.incarnation,
        address=rig.worker.address,
        slots=3,
        variants=[fleet_pb2.VariantOffer(model="fake", variant="fake-v1", digest=rig.model.digest, service_ms=500)],
        region="us-east",
    )


async def test_another_address_can_be_advertised(rig: "Rig") -> None:
    await rig.start(advertise="gpu-1.example:7000")
    assert rig.fleet.sessions[0].messages[0].register.address == "gpu-1.example:7000"


async def test_heartbeats_list_what_runs_and_how_long_jobs_took(rig: "Rig") -> None:
    await rig.start(slots=2)
    assert (await rig.fleet.heartbeat_after_now()) == fleet_pb2.Heartbeat()
    first, one = await rig.started()
    second, two = await rig.started(request=rig.request(2))
    assert sorted((await rig.fleet.heartbeat_after_now()).running_reservations) == sorted([one, two])
    rig.model.release.set()
    runs_ms = [(await rig.rest(call))[-1].result.run_ms for call in (first, second)]
    beat = await rig.fleet.heartbeat_after_now()
    assert beat.running_reservations == []
    assert [(each.variant, each.jobs) for each in beat.service_times] == [("fake-v1", 2)]
    assert min(runs_ms) <= beat.service_times[0].mean_ms <= max(runs_ms)
    assert sorted(rig.fleet.sessions[0].finished) == sorted([one, two])


async def test_heartbeats_come_at_the_interval_that_the_router_asks_for(rig: "Rig") -> None:
    rig.fleet.heartbeat_ms = 50
    await rig.start()
    began_s = time.monotonic()
    await rig.fleet.until(lambda: len(rig.fleet.sessions[0].of_kind("heartbeat")) >= 10)
    assert time.monotonic() - began_s > 0.4
    assert len(rig.fleet.sessions) == 1


async def test_a_lost_stream_is_replaced_and_jobs_never_notice(worker: "Rig") -> None:
    call, reservation = await worker.started()
    worker.fleet.epoch, worker.fleet.grant_key = 8, b"the key of a new ledger"
    worker.fleet.sessions[0].end(UNAVAILABLE)
    again = await worker.fleet.until(lambda: len(worker.fleet.sessions) == 2 and worker.fleet.sessions[1].messages)
    assert again[0].register.running_reservations == [reservation]
    assert again[0].register.incarnation == worker.identity.incarnation
    assert worker.model.running == 1
    # The new key and epoch hold from now on.
    assert (await worker.refusal(worker.run(epoch=7))).reason == "GRANT_STALE_EPOCH"
    assert (await worker.refusal(worker.run(epoch=8, grant=worker.grant(worker.request(), key=b"old")))).reason == "GRANT_FORGED"
    worker.model.release.set()
    assert (await worker.rest(call))[-1].WhichOneof("event") == "result"
    await worker.fleet.until(lambda: worker.fleet.sessions[1].finished == [reservation])
    assert worker.ready == [worker.worker.address]  # said once


async def test_what_was_not_confirmed_is_said_again(rig: "Rig") -> None:
    rig.fleet.acknowledges_heartbeats = False
    await rig.start()
    rig.model.release.set()
    call, reservation = await rig.started()
    await rig.rest(call)
    await rig.fleet.until(lambda: rig.fleet.sessions[0].finished == [reservation])
    rig.fleet.acknowledges_heartbeats = True
    rig.fleet.sessions[0].end(UNAVAILABLE)
    await rig.fleet.until(lambda: len(rig.fleet.sessions) == 2 and rig.fleet.sessions[1].finished == [reservation])
    for _ in range(3):
        await rig.fleet.heartbeat_after_now()
    rig.fleet.sessions[1].end(UNAVAILABLE)
    await rig.fleet.until(lambda: len(rig.fleet.sessions) == 3 and len(rig.fleet.sessions[2].messages) >= 3)
    assert rig.fleet.sessions[2].finished == []


async def test_jobs_that_end_while_detached_are_reported_on_return(worker: "Rig") -> None:
    call, reservation = await worker.started()
    worker.fleet.refuses = (UNAVAILABLE, "")
    worker.fleet.sessions[0].end(UNAVAILABLE)
    await worker.fleet.until(lambda: len(worker.fleet.sessions) >= 2)
    worker.model.release.set()
    await worker.rest(call)
    worker.fleet.refuses = None
    session = await worker.fleet.until(lambda: next((s for s in worker.fleet.sessions[1:] if s.finished), None))
    assert session.finished == [reservation]
    assert session.messages[0].register.running_reservations == []


async def test_routers_are_tried_in_turn(rig: "Rig", new_fleet: "type[FakeFleet]") -> None:
    second = new_fleet()
    addresses = ("127.0.0.1:9", await rig.serve_fleet(), await rig.serve_fleet(second))
    await rig.start(routers=addresses)
    assert len(rig.fleet.sessions) == 1
    rig.fleet.sessions[0].end(UNAVAILABLE)
    await second.until(lambda: second.sessions and second.sessions[0].messages)
    await rig.routers[1].stop(None)  # the second router dies without a word
    await rig.fleet.until(lambda: len(rig.fleet.sessions) == 2 and rig.fleet.sessions[1].messages)


async def test_a_router_that_never_answers_is_passed_over(
    rig: "Rig", new_fleet: "type[FakeFleet]", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.attach.ATTACH_S_MAX", 0.2)
    mute = new_fleet()
    mute.answers = False
    await rig.start(routers=(await rig.serve_fleet(mute), await rig.serve_fleet()))
    assert len(mute.sessions) == 1


async def test_a_router_that_falls_silent_is_left(rig: "Rig") -> None:
    rig.fleet.lease_ms = 200
    rig.fleet.acknowledges_heartbeats = False
    await rig.start()
    await rig.fleet.until(lambda: len(rig.fleet.sessions) >= 2 and rig.fleet.sessions[0].ended)


@pytest.mark.parametrize("code", [grpc.StatusCode.OK, grpc.StatusCode.ABORTED, grpc.StatusCode.UNIMPLEMENTED])
async def test_other_endings_are_not_final(worker: "Rig", code: Any) -> None:
    worker.fleet.sessions[0].end(code, "ELSE")
    await worker.fleet.until(lambda: len(worker.fleet.sessions) == 2 and worker.fleet.sessions[1].messages)


@pytest.mark.parametrize(
    ("code", "reason", "says"),
    [
        (grpc.StatusCode.ABORTED, "SUPERSEDED", "a newer worker has taken this name"),
        (grpc.StatusCode.UNAUTHENTICATED, "", "rejects this worker: ended by the test"),
        (grpc.StatusCode.INVALID_ARGUMENT, "WRONG_REGION", "rejects this worker: WRONG_REGION"),
    ],
)
async def test_endings_that_are_final(worker: "Rig", code: Any, reason: str, says: str) -> None:
    call, _ = await worker.started()
    worker.fleet.sessions[0].end(code, reason)
    with pytest.raises(WorkerRejected, match=says):
        await worker.over()
    assert len(worker.fleet.sessions) == 1
    assert worker.model.running == 0
    refused = await worker.refusal(call)
    assert (refused.code, refused.reason, refused.work_began) == (UNAVAILABLE, "WORKER_STOPPING", "true")


async def test_a_registration_can_be_refused_for_good(rig: "Rig") -> None:
    rig.fleet.refuses = (grpc.StatusCode.INVALID_ARGUMENT, "TOO_MANY_SLOTS")
    await rig.start(attached=False)
    with pytest.raises(WorkerRejected, match="TOO_MANY_SLOTS"):
        await rig.over()
    assert rig.ready == []


async def test_a_newer_epoch_comes_with_a_heartbeat(worker: "Rig") -> None:
    worker.fleet.epoch = 9
    await worker.until(lambda: worker.worker._gate.epoch == 9)
    assert (await worker.refusal(worker.run(epoch=8))).reason == "GRANT_STALE_EPOCH"
    worker.model.release.set()
    assert (await worker.rest(worker.run(epoch=9)))[-1].WhichOneof("event") == "result"


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_backoff_has_full_jitter_below_a_cap(failures: int, u: float) -> None:
    ceiling_s = min(BACKOFF_CAP_S, BACKOFF_BASE_S * 2.0 ** min(failures - 1, 100))
    assert 0 <= backoff_s(failures, u) <= ceiling_s
    assert backoff_s(failures, 0.5) == pytest.approx(ceiling_s / 2)


@settings(max_examples=300)
@example(["heartbeat", "add", "take", "answer"])
@given(st.lists(st.sampled_from(["add", "take", "heartbeat", "answer", "break"]), max_size=60))
def test_finished_jobs_are_kept_until_confirmed(acts: list[str]) -> None:
    """Oracle: write the stream down; a job is confirmed when a heartbeat behind it was answered."""
    finished = FinishedJobs()
    added = 0
    stream: list[str] = []
    answered = 0
    confirmed: set[str] = set()
    for act in acts:
        match act:
            case "add":
                finished.add(f"r{added}")
                added += 1
            case "take":
                if (reservation := finished.take()) is not None:
                    stream.append(reservation)
            case "heartbeat":
                finished.heartbeat_sent()
                stream.append("heartbeat")
            case "answer" if stream.count("heartbeat") > answered:
                answered += 1
                finished.heartbeat_answered()
                beats = [index for index, each in enumerate(stream) if each == "heartbeat"]
                confirmed |= {each for each in stream[: beats[answered - 1]] if each != "heartbeat"}
            case "break":
                finished.stream_began()
                stream, answered = [], 0
    finished.stream_began()
    left = set()
    while (reservation := finished.take()) is not None:
        left.add(reservation)
    assert left == {f"r{number}" for number in range(added)} - confirmed


def test_finished_jobs_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.finished.FINISHED_MAX", 3)
    finished = FinishedJobs()
    for number in range(5):
        finished.add(f"r{number}")
    assert [finished.take() for _ in range(4)] == ["r2", "r3", "r4", None]
    for number in range(5, 8):
        finished.add(f"r{number}")
    finished.stream_began()
    assert [finished.take() for _ in range(4)] == ["r5", "r6", "r7", None]


async def test_many_lost_streams_leave_nothing_behind(worker: "Rig") -> None:
    sessions = worker.fleet.sessions
    for number in range(2, 7):
        await worker.fleet.heartbeat_after_now()
        sessions[-1].end(UNAVAILABLE)
        await worker.fleet.until(lambda wanted=number: len(sessions) == wanted and sessions[-1].messages)
    await worker.fleet.heartbeat_after_now()
    links = [task for task in asyncio.all_tasks() if "FleetLink" in repr(task.get_coro())]
    assert len(links) == 3  # the link, its speaker and its listener
