"""Attach: what workers may say, and what becomes of those who lie, double up, or fall silent."""

import asyncio
import os
import signal
from dataclasses import replace
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from homeward.v1 import fleet_pb2, fleet_pb2_grpc
from localfleet.valkey import EmbeddedValkey
from router.capacity.ledger import LedgerTimings
from router.grants import worker_key
from tests.router.fake_worker import FakeWorker
from tests.router.stand import TIMINGS, Stand, eventually, fresh_region, open_stand, settings_of


def reason_of(error: grpc.aio.AioRpcError) -> tuple[str, list[str]]:
    """ErrorInfo.reason, and the fields that are wrong."""
    trailer = dict(error.trailing_metadata() or ())
    status = status_pb2.Status.FromString(trailer["grpc-status-details-bin"])
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    fields: list[str] = []
    for detail in status.details:
        detail.Unpack(info)
        if detail.Unpack(bad):
            fields += [violation.field for violation in bad.field_violations]
    assert info.domain == "homeward"
    return info.reason, fields


async def refused(attaching: FakeWorker, **changes: Any) -> grpc.aio.AioRpcError:
    """Attach, which must fail."""
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await attaching.attach(**changes)
    return error.value


OFFER = fleet_pb2.VariantOffer(model="animate", variant="v", digest="sha256:" + "0" * 64, service_ms=5)


def offer(**changes: Any) -> list[fleet_pb2.VariantOffer]:
    changed = fleet_pb2.VariantOffer()
    changed.CopyFrom(OFFER)
    for name, value in changes.items():
        setattr(changed, name, value)
    return [changed]


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("register.slots", {"slots": -1}),
        ("register.slots", {"slots": 0}),
        ("register.slots", {"slots": 1_025}),
        ("register.slots", {"slots": -(2**31)}),
        ("register.region", {"region": "elsewhere"}),
        ("register.region", {"region": ""}),
        ("register.worker", {"worker": ""}),
        ("register.worker", {"worker": "x" * 65}),
        ("register.worker", {"worker": "a{b}"}),
        ("register.incarnation", {"incarnation": ""}),
        ("register.address", {"address": "no port"}),
        ("register.address", {"address": "host:port"}),
        ("register.variants", {"variants": []}),
        ("register.variants", {"variants": [OFFER] * 65}),
        ("register.variants.model", {"variants": offer(model="../x")}),
        ("register.variants.variant", {"variants": offer(variant="")}),
        ("register.variants.digest", {"variants": offer(digest="md5:0")}),
        ("register.variants.service_ms", {"variants": offer(service_ms=0)}),
        ("register.variants.service_ms", {"variants": offer(service_ms=-5)}),
        ("register.variants.service_ms", {"variants": offer(service_ms=2**62)}),
        ("running_reservations", {"running_reservations": ["a", "b"]}),
        ("running_reservations", {"running_reservations": ["{x}"]}),
    ],
)
async def test_a_registration_that_cannot_be(stand: Stand, field: str, changes: dict[str, Any]) -> None:
    worker = await stand.loose_worker()
    error = await refused(worker, **changes)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason_of(error) == ("INVALID", [field])
    assert (await stand.client.workers()).workers == ()


@pytest.mark.parametrize("slots", [2**63, 2**64 - 1, 2**63 - 1, 2**32])
async def test_slots_that_no_int32_holds(stand: Stand, slots: int) -> None:
    """Raw bytes, as no library would write them: field 4, a varint of up to ten bytes."""
    worker = await stand.loose_worker()
    varint = bytearray()
    left = slots
    while left > 0x7F:
        varint.append(left & 0x7F | 0x80)
        left >>= 7
    varint.append(left)
    register = worker.registration(slots=0).SerializeToString() + b"\x20" + bytes(varint)
    message = fleet_pb2.AttachRequest(register=fleet_pb2.RegisterWorker.FromString(register)).SerializeToString()
    channel = await stand.channel()
    call = channel.stream_stream("/homeward.v1.Fleet/Attach")()
    await call.write(message)
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call.read()
    assert reason_of(error.value) == ("INVALID", ["register.slots"])


@pytest.mark.parametrize("first", ["heartbeat", "nothing", "end"])
async def test_a_stream_that_does_not_register_first(
    stand: Stand, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    monkeypatch.setattr("router.servicers.fleet.REGISTER_S", 0.2)
    call = fleet_pb2_grpc.FleetStub(await stand.channel()).Attach()
    if first == "heartbeat":
        await call.write(fleet_pb2.AttachRequest(heartbeat=fleet_pb2.Heartbeat()))
    if first == "end":
        await call.done_writing()
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call.read()
    if first == "nothing":
        # It may have been frozen for a while: coming again is no mistake.
        assert error.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        return
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason_of(error.value) == ("INVALID", ["register"])


async def test_garbage_first(stand: Stand, photo: bytes) -> None:
    call = (await stand.channel()).stream_stream("/homeward.v1.Fleet/Attach")()
    await call.write(b"\xff\xff\xff\xff")
    with pytest.raises(grpc.aio.AioRpcError):
        await call.read()
    await stand.worker()
    assert (await stand.client.run(photo=photo)).attempts == 1, "the router lives on"


async def test_garbage_later_ends_only_that_worker(stand: Stand, photo: bytes) -> None:
    await stand.worker("gpu-1")
    bad = await stand.worker("gpu-2")
    await bad.send(fleet_pb2.AttachRequest(register=bad.registration()))
    error = await asyncio.wait_for(bad.ended, 10)
    assert error is not None
    assert reason_of(error) == ("INVALID", ["message"])
    finished = await stand.client.run(photo=photo)
    assert finished.worker == "gpu-1"


async def test_heartbeats_with_more_jobs_than_slots(stand: Stand) -> None:
    worker = await stand.worker(slots=1)
    worker.lies_running = ["reservation-1", "reservation-2"]
    error = await asyncio.wait_for(worker.ended, 10)
    assert error is not None
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason_of(error) == ("INVALID", ["running_reservations"])


async def test_a_finished_job_that_is_no_job(stand: Stand) -> None:
    worker = await stand.worker()
    await worker.send(fleet_pb2.AttachRequest(finished=fleet_pb2.JobFinished(reservation_id="never-was")))
    acks = worker.acks
    await worker.until(lambda each: each.acks > acks, "another heartbeat is answered")
    await worker.send(fleet_pb2.AttachRequest(finished=fleet_pb2.JobFinished(reservation_id="{x}")))
    error = await asyncio.wait_for(worker.ended, 10)
    assert error is not None
    assert reason_of(error) == ("INVALID", ["finished.reservation_id"])


async def test_two_workers_of_one_name(stand: Stand, photo: bytes) -> None:
    older = await stand.worker("gpu-1", incarnation="1")
    newer = await stand.worker("gpu-1", incarnation="2")
    error = await asyncio.wait_for(older.ended, 10)
    assert error is not None
    assert error.code() is grpc.StatusCode.ABORTED
    assert reason_of(error) == ("SUPERSEDED", [])
    workers = (await stand.client.workers()).workers
    assert [(each.worker, each.incarnation, each.address) for each in workers] == [("gpu-1", "2", newer.address)]
    assert (await stand.client.run(photo=photo)).output
    assert (len(older.seen), len(newer.seen)) == (0, 1)
    assert older.attached is not None
    assert newer.attached is not None
    assert older.attached.grant_key != newer.attached.grant_key
    # That the older one left must not have detached the newer one.
    acks = newer.acks
    await newer.until(lambda each: each.acks > acks + 1, "heartbeats go on")
    assert (await stand.client.workers()).workers[0].state == "ready"
    assert stand.metric("homeward_workers_attached") == 1


async def test_the_key_is_the_workers_alone(valkey: EmbeddedValkey) -> None:
    secret = b"a region's secret of 32 bytes."
    async with open_stand(settings_of(fresh_region(), valkey.url, secret=secret)) as stand:
        one, two = await stand.worker("gpu-1"), await stand.worker("gpu-2")
        assert one.attached is not None
        assert two.attached is not None
        assert one.attached.grant_key == worker_key(secret, stand.region, "gpu-1", "1")
        assert two.attached.grant_key == worker_key(secret, stand.region, "gpu-2", "1")
        assert one.attached.heartbeat_ms == TIMINGS.heartbeat_us // 1000
        assert one.attached.lease_ms == TIMINGS.lease_us // 1000


async def test_a_worker_that_loses_its_stream_and_comes_back(stand: Stand, photo: bytes) -> None:
    worker = await stand.worker("gpu-1")
    await worker.detach()

    async def state(wanted: str) -> bool:
        workers = (await stand.client.workers()).workers
        return [each.state for each in workers] == [wanted]

    await eventually(lambda: state("detached"), "it gets no new job")
    back = await stand.worker("gpu-1", incarnation="1")
    assert await state("ready")
    assert (await stand.client.run(photo=photo)).worker == "gpu-1"
    assert len(back.seen) == 1


async def test_draining_finishes_the_job_and_takes_no_other(stand: Stand, photo: bytes) -> None:
    leaving = await stand.worker("gpu-1")
    leaving.hold()
    running = asyncio.create_task(stand.client.run(photo=photo))
    await leaving.until(lambda each: len(each.running) == 1, "the job starts")
    await leaving.send(fleet_pb2.AttachRequest(draining=fleet_pb2.DrainStarted()))

    async def draining() -> bool:
        return [each.state for each in (await stand.client.workers()).workers] == ["draining"]

    await eventually(draining, "it drains")
    staying = await stand.worker("gpu-2")
    assert (await stand.client.run(photo=photo)).worker == "gpu-2"
    leaving.go()
    assert (await running).worker == "gpu-1"
    await leaving.drain_and_leave()

    async def gone() -> bool:
        return [each.worker for each in (await stand.client.workers()).workers] == ["gpu-2"]

    await eventually(gone, "it is gone at once, not when its lease ends")
    assert len(staying.seen) == 1


async def test_a_worker_that_falls_silent(valkey: EmbeddedValkey, photo: bytes) -> None:
    timings = LedgerTimings(
        lease_us=800_000, heartbeat_us=100_000, reservation_us=900_000, rebuild_us=50_000, call_timeout_us=1_000_000
    )
    async with open_stand(settings_of(fresh_region(), valkey.url), timings) as stand:
        worker = await stand.worker("gpu-1")
        worker.hold()
        running = asyncio.create_task(stand.client.run(photo=photo, timeout_s=60))
        await worker.until(lambda each: len(each.running) == 1, "the job starts")
        worker.heartbeats = False

        async def gone() -> bool:
            return (await stand.client.workers()).workers == ()

        await eventually(gone, "its lease ends")
        assert (await stand.client.regions()).regions[0].slots == 0
        assert await asyncio.wait_for(worker.ended, 10) is None, "the router ends the stream of a silent worker"
        # Its job goes on all the same: the worker lives, only its heartbeats do not arrive.
        worker.go()
        assert (await running).worker == "gpu-1"
        await eventually(lambda: stand.metric("homeward_slots", pool=POOL) == 0, "no gauge shows slots that are gone")


async def test_a_silent_stream_does_not_detach_a_worker_that_another_router_hears(valkey: EmbeddedValkey, photo: bytes) -> None:
    """Its way to the first router is dead, it went to the second one; the first notices a lease later."""
    timings = replace(TIMINGS, lease_us=1_500_000, heartbeat_us=100_000)
    region = fresh_region()
    async with (
        open_stand(settings_of(region, valkey.url), timings) as first,
        open_stand(settings_of(region, valkey.url), timings) as second,
    ):
        silent = await first.worker("gpu-1")
        silent.heartbeats = False
        alive = await second.worker("gpu-1")
        attached = alive.attached
        assert await asyncio.wait_for(silent.ended, 10) is None
        assert [each.state for each in (await second.client.workers()).workers] == ["ready"]
        acks = alive.acks
        await alive.until(lambda each: each.acks > acks + 1, "heartbeats go on")
        assert alive.attached is attached, "it had to register again: the ledger was told that it is gone"
        assert first.metric("homeward_workers_attached") == 0
        for stand in (first, second):
            assert (await stand.client.run(photo=photo)).worker == "gpu-1"
        assert (len(silent.seen), len(alive.seen)) == (0, 2)


@pytest.mark.parametrize("unknown", [b"\x7a\x00", b"\x7a\x03\x0a\x01x", b""])
async def test_a_kind_of_message_that_this_router_does_not_know(stand: Stand, photo: bytes, unknown: bytes) -> None:
    """Of a newer worker: field 15 of the oneof. And one that says nothing at all."""
    worker = await stand.worker()
    message = fleet_pb2.AttachRequest.FromString(unknown)
    assert message.SerializeToString() == unknown
    await worker.send(message)
    acks = worker.acks
    await worker.until(lambda each: each.acks > acks + 1 or each.ended.done(), "heartbeats go on")
    assert not worker.ended.done()
    assert (await stand.client.run(photo=photo)).worker == "gpu-1"


async def test_a_draining_worker_that_loses_its_stream_keeps_its_job(stand: Stand, photo: bytes) -> None:
    worker = await stand.worker()
    worker.hold()
    running = asyncio.create_task(stand.client.run(photo=photo))
    await worker.until(lambda each: len(each.running) == 1, "the job starts")
    acks = worker.acks
    await worker.until(lambda each: each.acks > acks + 1, "the router hears that it runs")
    await worker.send(fleet_pb2.AttachRequest(draining=fleet_pb2.DrainStarted()))

    async def shown() -> list[tuple[str, int]]:
        return [(each.state, each.busy) for each in (await stand.client.workers()).workers]

    async def draining() -> bool:
        return await shown() == [("draining", 1)]

    await eventually(draining, "it drains")
    await worker.detach()
    await eventually(lambda: stand.metric("homeward_workers_attached") == 0, "the router notices")
    await stand.router._fleet.idle()
    assert [busy for _, busy in await shown()] == [1], "it still runs its job"
    worker.go()
    assert (await running).worker == "gpu-1"


async def test_what_a_worker_says_while_the_ledger_is_down_is_told_it_later(
    breakable_valkey: EmbeddedValkey, photo: bytes
) -> None:
    # The store is only frozen, and remembers; its clock goes on, so the lease has to be long.
    timings = replace(TIMINGS, lease_us=20_000_000, reservation_us=20_000_000, call_timeout_us=400_000)
    async with open_stand(settings_of(fresh_region(), breakable_valkey.url), timings) as stand:
        worker = await stand.worker(slots=1)
        worker.hold()
        running = asyncio.create_task(stand.client.run(photo=photo, timeout_s=60))
        await worker.until(lambda each: len(each.running) == 1, "the job starts")
        reservation = next(iter(worker.running))
        os.kill(breakable_valkey.pid, signal.SIGSTOP)
        try:
            await eventually(lambda: stand.metric("homeward_ledger_up") == 0, "the router notices")
            await worker.send(fleet_pb2.AttachRequest(finished=fleet_pb2.JobFinished(reservation_id=reservation)))
            await worker.send(fleet_pb2.AttachRequest(draining=fleet_pb2.DrainStarted()))
            worker.lies_running = []
            acks = worker.acks
            await worker.until(lambda each: each.acks > acks + 1, "heartbeats are answered without a ledger")
            assert stand.metric("homeward_ledger_up") == 0
            worker.heartbeats = False
        finally:
            os.kill(breakable_valkey.pid, signal.SIGCONT)
        await eventually(lambda: stand.metric("homeward_ledger_up") == 1, "the ledger is back")

        async def shown() -> list[tuple[str, int]]:
            return [(each.state, each.busy) for each in (await stand.client.workers()).workers]

        assert await shown() == [("ready", 1)], "nothing was said since"
        acks = worker.acks
        await worker.send(fleet_pb2.AttachRequest(heartbeat=fleet_pb2.Heartbeat()))
        await worker.until(lambda each: each.acks == acks + 1, "the heartbeat is answered")
        assert await shown() == [("draining", 0)]
        worker.go()
        assert (await running).worker == "gpu-1"


POOL = "animate"
