"""Regions side by side: spilling over, failing over, consent, and peers that are gone. Real routers, 20 ms apart."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc
import pytest

from homeward import Finished, NoCapacity
from homeward.v1 import peering_pb2, peering_pb2_grpc
from localfleet.valkey import EmbeddedValkey
from tests.router.fake_worker import OUTPUT
from tests.router.stand import Stand, eventually, free_ports, fresh_region, line_of, open_stand, settings_of

QUICK = {"backoff": {"base_s": 0.05, "cap_s": 0.2}, "ring_unlock": [0.7, 0.85, 0.95]}
RTT_MS = 20.0


@asynccontextmanager
async def open_fleet(
    valkeys: Sequence[EmbeddedValkey], policies: Sequence[dict[str, Any]] | None = None, rtt_ms: float = RTT_MS
) -> AsyncIterator[list[Stand]]:
    """One router for each Valkey given (the same one may be given twice), in a line."""
    count = len(valkeys)
    names = sorted(fresh_region(letter) for letter in "abcd"[:count])
    ports = free_ports(count)
    topology = line_of(names, ports, rtt_ms)
    async with AsyncExitStack() as stack:
        stands = []
        for index, valkey in enumerate(valkeys):
            policy = QUICK | (policies[index] if policies else {})
            settings = settings_of(names[index], valkey.url, listen=topology.routers[index], topology=topology, policy=policy)
            stands.append(await stack.enter_async_context(open_stand(settings)))
        yield stands


async def sees(stand: Stand, region: str, offered: int) -> None:
    """Wait until this router knows what that region offers."""

    async def knows() -> bool:
        (view,) = [each for each in (await stand.client.regions()).regions if each.region == region]
        return view.usable and view.offered == offered

    await eventually(knows, f"{stand.region} sees {offered} slots offered by {region}")


async def asked_regions(stand: Stand, request_id: str) -> list[tuple[str, str]]:
    """Regions asked for this request, with reasons. Also checks that home always comes first."""
    story = await stand.client.explain(request_id)
    rounds: dict[int, list[str]] = {}
    for decision in story.decisions:
        if decision.command == "reserve":
            rounds.setdefault(decision.attempt, []).append(decision.region)
    for attempt, regions in rounds.items():
        assert regions[0] == stand.region, f"round {attempt} of {request_id} did not ask home first: {regions}"
    return [(decision.region, decision.reason) for decision in story.decisions if decision.command == "reserve"]


async def fill(stand: Stand, photo: bytes, jobs: int) -> "list[asyncio.Task[Finished]]":
    """Start jobs at home that hold their slots until their worker is told to go on."""
    running = [asyncio.create_task(stand.client.run(photo=photo, timeout_s=100)) for _ in range(jobs)]

    async def full() -> bool:
        return await stand.busy() == jobs

    await eventually(full, f"{stand.region} is full")
    return running


async def test_a_full_home_spills_to_its_nearest_ring(valkey: EmbeddedValkey, photo: bytes) -> None:
    async with open_fleet([valkey] * 3) as (home, near, far):
        worker = await home.worker(slots=2)
        near_worker, far_worker = await near.worker(slots=4), await far.worker(slots=4)
        await sees(home, near.region, 4)
        await sees(home, far.region, 4)
        worker.hold()
        running = await fill(home, photo, 2)
        finished = await home.client.run(photo=photo, request_id="spilled-1")
        assert (finished.home_region, finished.served_region, finished.attempts) == (home.region, near.region, 1)
        assert finished.output == OUTPUT
        assert near_worker.forged == []
        assert near_worker.seen[0].claims.region == near.region
        assert far_worker.seen == []
        assert await asked_regions(home, "spilled-1") == [(home.region, "HOME_FIRST"), (near.region, "RING_UNLOCKED")]
        story = await home.client.explain("spilled-1")
        unlocked = next(each for each in story.decisions if each.reason == "RING_UNLOCKED")
        assert unlocked.home_load == 1.0
        assert unlocked.refusal == "FULL"
        assert 0 < unlocked.snapshot_age_us < 5_000_000, "at least the way from there"
        assert "home is full (load 1.00)" in unlocked.text
        # An ask and its answer travel 20 ms, the job's call and its first word again 20 ms.
        assert finished.total_ms >= 40
        assert home.metric("homeward_placements_total", region=near.region, ring="1") == 1
        assert near.metric("homeward_peer_reservations_total", region=home.region, answer="granted") == 1
        worker.go()
        for each in await asyncio.gather(*running):
            assert each.served_region == home.region
        await near.all_free()
        await home.all_free()


async def test_while_home_has_room_nobody_else_is_asked(valkey: EmbeddedValkey, photo: bytes) -> None:
    async with open_fleet([valkey] * 2) as (home, near):
        await home.worker(slots=4)
        await near.worker(slots=4)
        await sees(home, near.region, 4)
        for number in range(8):
            finished = await home.client.run(photo=photo, request_id=f"request-{number}")
            assert finished.served_region == home.region
            assert await asked_regions(home, f"request-{number}") == [(home.region, "HOME_FIRST")]
        assert near.metric("homeward_peer_reservations_total", region=home.region, answer="granted") == 0


async def test_a_region_keeps_its_reserve(valkey: EmbeddedValkey, photo: bytes) -> None:
    """Receiver consent: 4 slots at a share of 0.5 offer 2; the third spilled request is refused there, although slots are free."""
    policies = [{"attempts_max": 1, "snapshot_age_max_s": 60.0}, {"reserve_share": 0.5}]
    async with open_fleet([valkey] * 2, policies) as (home, near):
        worker, near_worker = await home.worker(slots=1), await near.worker(slots=4)
        await sees(home, near.region, 2)
        worker.hold()
        near_worker.hold()
        running = await fill(home, photo, 1)
        running += [asyncio.create_task(home.client.run(photo=photo, timeout_s=100)) for _ in range(2)]
        await near_worker.until(lambda each: len(each.running) == 2, "two jobs spill")
        # However home's picture of it may be, the other router itself refuses, and says why.
        stub = peering_pb2_grpc.PeeringStub(await near.channel())
        ask = peering_pb2.ReserveRequest(
            from_region=home.region, reservation_id="by-hand-1", request_id="by-hand-1", model="animate",
            request_sha256=bytes(32), time_left_ms=5_000,
        )  # fmt: skip
        answer = await stub.Reserve(ask)
        assert answer.refused.reason == peering_pb2.REFUSAL_REASON_NOT_OFFERED
        assert (answer.refused.slots, answer.refused.busy) == (4, 2)
        assert near.metric("homeward_peer_reservations_total", region=home.region, answer="not_offered") == 1
        with pytest.raises(NoCapacity):
            await home.client.run(photo=photo)
        # Its own requests may use what it keeps.
        own = asyncio.create_task(near.client.run(photo=photo, timeout_s=100))
        await near_worker.until(lambda each: len(each.running) == 3, "its own request is served")
        worker.go()
        near_worker.go()
        await asyncio.gather(own, *running)


async def test_a_killed_peer_costs_home_nothing(valkey: EmbeddedValkey, photo: bytes) -> None:
    policies = [{"snapshot_age_max_s": 1.0, "attempts_max": 2}, {}]
    async with open_fleet([valkey] * 2, policies) as (home, near):
        worker = await home.worker(slots=1)
        await near.worker(slots=4)
        await sees(home, near.region, 4)
        await near.router.stop()
        worker.hold()
        running = await fill(home, photo, 1)
        with pytest.raises(NoCapacity):
            await home.client.run(photo=photo, request_id="request-1")

        async def shown() -> bool:
            (view,) = [each for each in (await home.client.regions()).regions if each.region == near.region]
            return not view.usable and "cannot reach" in view.trouble

        await eventually(shown, "the peer is shown as unusable")
        worker.go()
        await asyncio.gather(*running)
        assert (await home.client.run(photo=photo)).served_region == home.region


async def test_a_peer_that_does_not_answer_counts_as_unreachable(
    valkey: EmbeddedValkey, photo: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.peering.peer_region.ANSWER_S", 0.1)
    async with open_fleet([valkey] * 2, [{"attempts_max": 1, "snapshot_age_max_s": 60.0}, {}]) as (home, near):
        worker = await home.worker(slots=1)
        await near.worker(slots=4)
        await sees(home, near.region, 4)
        worker.hold()
        running = await fill(home, photo, 1)
        slow = asyncio.Event()
        reserve = near.router._home.reserve

        async def never(*arguments: Any, **named: Any) -> Any:
            answer = await reserve(*arguments, **named)
            await slow.wait()
            return answer

        monkeypatch.setattr(near.router._home, "reserve", never)
        with pytest.raises(NoCapacity):
            await home.client.run(photo=photo, request_id="request-1")
        story = await home.client.explain("request-1")
        assert [each.refusal for each in story.decisions if each.refusal] == ["FULL", "UNREACHABLE"]
        # The slot that was claimed there all the same is given back.
        await near.all_free()
        slow.set()
        worker.go()
        await asyncio.gather(*running)


async def test_home_without_its_ledger_fails_over(breakable_valkey: EmbeddedValkey, valkey: EmbeddedValkey, photo: bytes) -> None:
    async with open_fleet([breakable_valkey, valkey]) as (home, near):
        await home.worker(slots=2)
        near_worker = await near.worker(slots=2)
        await sees(home, near.region, 2)
        breakable_valkey.kill()
        finished = await home.client.run(photo=photo, request_id="failed-over-1")
        assert (finished.home_region, finished.served_region) == (home.region, near.region)
        asked = await asked_regions(home, "failed-over-1")
        assert asked == [(home.region, "HOME_FIRST"), (near.region, "HOME_FAILED")]
        assert len(near_worker.seen) == 1
        # The peer is told the truth about us.

        async def told() -> bool:
            (view,) = [each for each in (await near.client.regions()).regions if each.region == home.region]
            return not view.usable and view.trouble == "its slot ledger cannot be reached"

        await eventually(told, "the peer knows")


async def test_a_draining_peer_refuses(valkey: EmbeddedValkey) -> None:
    async with open_fleet([valkey] * 2) as (home, near):
        await near.worker(slots=4)
        await near.router.drain()
        stub = peering_pb2_grpc.PeeringStub(await near.channel())
        answer = await stub.Reserve(
            peering_pb2.ReserveRequest(
                from_region=home.region, reservation_id="by-hand-1", request_id="by-hand-1", model="animate",
                request_sha256=bytes(32), time_left_ms=5_000,
            )
        )  # fmt: skip
        assert answer.refused.reason == peering_pb2.REFUSAL_REASON_DRAINING


async def test_a_spilled_job_whose_worker_dies_comes_back_home(valkey: EmbeddedValkey, photo: bytes) -> None:
    async with open_fleet([valkey] * 2) as (home, near):
        worker, near_worker = await home.worker(slots=1), await near.worker(slots=1)
        await sees(home, near.region, 1)
        worker.hold()
        near_worker.hold()
        running = await fill(home, photo, 1)
        spilled = asyncio.create_task(home.client.run(photo=photo, request_id="spilled-1", timeout_s=60))
        await near_worker.until(lambda each: len(each.running) == 1, "the job spills")
        worker.go()
        await asyncio.gather(*running)
        await near_worker.die()
        finished = await spilled
        assert (finished.attempts, finished.served_region) == (2, home.region)
        await asked_regions(home, "spilled-1")
        await home.all_free()


async def test_cancelling_a_spilled_job_frees_the_slot_there(valkey: EmbeddedValkey, photo: bytes) -> None:
    async with open_fleet([valkey] * 2) as (home, near):
        worker, near_worker = await home.worker(slots=1), await near.worker(slots=1)
        await sees(home, near.region, 1)
        worker.hold()
        near_worker.hold()
        running = await fill(home, photo, 1)
        spilled = asyncio.create_task(home.client.run(photo=photo, timeout_s=60))
        await near_worker.until(lambda each: len(each.running) == 1, "the job spills")
        spilled.cancel()
        await asyncio.wait([spilled])
        await near.all_free()
        await eventually(lambda: not near_worker.running, "the worker hears of it")
        worker.go()
        await asyncio.gather(*running)


async def test_storms_of_cancellations_between_regions(valkey: EmbeddedValkey, photo: bytes) -> None:
    seed = 7
    luck = random.Random(seed)
    async with open_fleet([valkey] * 3, [{"attempts_max": 20}] * 3, rtt_ms=4.0) as stands:
        workers = [await stand.worker(slots=2, service_ms=10) for stand in stands]
        for stand in stands:
            for other in stands:
                if other is not stand:
                    await sees(stand, other.region, 2)

        async def one(number: int) -> str:
            running = asyncio.create_task(stands[0].client.run(photo=photo, request_id=f"request-{number}", timeout_s=30))
            await asyncio.wait([running], timeout=luck.choice([0.001, 0.01, 0.03, 0.1, 30.0]))
            running.cancel()
            await asyncio.wait([running])
            return running.result().served_region if not running.cancelled() and running.exception() is None else ""

        workers[0].hold()
        storm = [asyncio.create_task(one(number)) for number in range(40)]
        await eventually(lambda: workers[1].seen or workers[2].seen, f"seed {seed}: something spills")
        workers[0].go()
        assert stands[0].region in await asyncio.gather(*storm), f"seed {seed}: nobody was served at home"
        for stand in stands:
            await stand.all_free()
        for number in range(40):
            try:
                await asked_regions(stands[0], f"request-{number}")
            except Exception as error:
                assert "no record" in str(error), f"seed {seed}, request {number}"  # noqa: PT017


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("from_region", {"from_region": "mars"}),
        ("from_region", {"from_region": ""}),
        ("reservation_id", {"reservation_id": ""}),
        ("reservation_id", {"reservation_id": "{x}"}),
        ("reservation_id", {"reservation_id": "x" * 129}),
        ("request_sha256", {"request_sha256": b"short"}),
        ("time_left_ms", {"time_left_ms": 0}),
        ("time_left_ms", {"time_left_ms": -(2**63)}),
        ("time_left_ms", {"time_left_ms": 2**62}),
        ("exclude_workers", {"exclude_workers": ["x"] * 65}),
    ],
)
async def test_a_peer_that_asks_nonsense(stand: Stand, field: str, changes: dict[str, Any]) -> None:
    usual: dict[str, Any] = {
        "from_region": stand.region, "reservation_id": "reservation-1", "request_id": "request-1", "model": "animate",
        "request_sha256": bytes(32), "time_left_ms": 1_000,
    }  # fmt: skip
    stub = peering_pb2_grpc.PeeringStub(await stand.channel())
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.Reserve(peering_pb2.ReserveRequest(**(usual | changes)), timeout=10)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert str(refused.value.details()).startswith(f"{field}:")


async def test_a_stranger_that_watches(stand: Stand) -> None:
    stub = peering_pb2_grpc.PeeringStub(await stand.channel())
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.WatchCapacity(peering_pb2.WatchCapacityRequest(from_region="mars"), timeout=10).read()
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    call = stub.WatchCapacity(peering_pb2.WatchCapacityRequest(from_region=stand.region), timeout=10)
    first = await call.read()
    assert (first.region, first.ledger_down) == (stand.region, False)
    await stand.worker(slots=3)
    while not (snapshot := await call.read()).pools:
        pass
    assert (snapshot.pools[0].slots, snapshot.pools[0].offered) == (3, 3)
    call.cancel()


async def test_releasing_twice_is_harmless(stand: Stand) -> None:
    await stand.worker(slots=1)
    stub = peering_pb2_grpc.PeeringStub(await stand.channel())
    ask = peering_pb2.ReserveRequest(
        from_region=stand.region, reservation_id="by-hand-1", request_id="by-hand-1", model="animate",
        request_sha256=bytes(32), time_left_ms=5_000,
    )  # fmt: skip
    first = await stub.Reserve(ask)
    again = await stub.Reserve(ask)
    assert first.granted.worker == again.granted.worker == "gpu-1"
    assert await stand.busy() == 1
    release = peering_pb2.ReleaseRequest(reservation_id="by-hand-1", from_region=stand.region)
    for _ in range(2):
        await stub.Release(release)
    assert await stand.busy() == 0
