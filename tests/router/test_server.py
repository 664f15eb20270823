"""A router's whole life: losing its ledger, draining, what it shows to the outside."""

import asyncio
import time
from itertools import islice

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis

from homeward import HomewardError, ModelUnavailable, Outcome, RouterUnavailable
from localfleet.valkey import EmbeddedValkey
from router.policy.draws import draw, request_key
from router.policy.vocabulary import EventKind
from router.server import SERVICES, Router, StartError
from tests.router.fake_worker import OUTPUT
from tests.router.stand import PATIENCE_S, Stand, eventually, free_ports, fresh_region, open_stand, settings_of


async def test_valkey_dies_and_comes_back_empty(breakable_valkey: EmbeddedValkey, photo: bytes) -> None:
    async with open_stand(settings_of(fresh_region(), breakable_valkey.url)) as stand:
        worker = await stand.worker(slots=2)
        worker.hold()
        survivor = asyncio.create_task(stand.client.run(photo=photo, request_id="survivor", timeout_s=60))
        await worker.until(lambda each: len(each.running) == 1, "a job starts")
        epoch = worker.epoch
        breakable_valkey.kill()
        slowest_s = 0.0
        for number in range(5):
            began = time.perf_counter()
            with pytest.raises(RouterUnavailable) as down:
                await stand.client.run(photo=photo, request_id=f"request-{number}")
            slowest_s = max(slowest_s, time.perf_counter() - began)
            assert down.value.outcome is Outcome.LEDGER_DOWN
            assert down.value.work_began is False
            assert down.value.retry_after_s is not None
        print(f"LEDGER_DOWN took at most {slowest_s * 1e3:.1f} ms")  # noqa: T201
        assert slowest_s < 2.0
        (home,) = (await stand.client.regions()).regions
        assert (home.usable, home.trouble) == (False, "its slot ledger cannot be reached")
        with pytest.raises(RouterUnavailable) as unknown:
            await stand.client.workers()
        assert unknown.value.outcome is Outcome.LEDGER_DOWN
        assert unknown.value.retry_after_s is not None
        assert 0.5 <= unknown.value.retry_after_s <= 1.0
        late = await stand.loose_worker("gpu-2")
        with pytest.raises(grpc.aio.AioRpcError, match="attach again in a moment") as not_now:
            await late.attach()
        assert not_now.value.code() is grpc.StatusCode.UNAVAILABLE
        assert stand.metric("homeward_ledger_up") == 0
        assert not worker.ended.done(), "a worker is not thrown out for a dead ledger"

        breakable_valkey.start()

        async def resumed() -> bool:
            return await stand.slots() == 2

        await eventually(resumed, "the worker registers again through its heartbeats")
        worker.go()
        assert (await survivor).output == OUTPUT, "the job that ran all the time"

        async def served() -> bool:
            return (await stand.client.run(photo=photo)).output == OUTPUT

        await eventually(served, "service resumes")
        assert worker.epoch > epoch
        assert worker.forged == [], "grants are signed with the key that the worker holds"
        assert stand.metric("homeward_ledger_up") == 1
        assert stand.metric("homeward_ledger_epoch") == worker.epoch
        await stand.all_free()


async def test_the_secret_survives_a_wiped_ledger_after_a_router_was_replaced(
    breakable_valkey: EmbeddedValkey, photo: bytes
) -> None:
    """The worker's key comes from the first router's secret; its successor must not invent another one."""
    region = fresh_region()
    async with open_stand(settings_of(region, breakable_valkey.url)) as first:
        await first.worker()
    async with open_stand(settings_of(region, breakable_valkey.url)) as second:
        worker = await second.worker()
        breakable_valkey.kill()
        with pytest.raises(RouterUnavailable):
            await second.client.run(photo=photo)
        breakable_valkey.start()

        async def served() -> bool:
            return (await second.client.run(photo=photo)).output == OUTPUT

        await eventually(served, "service resumes")
        assert worker.forged == []


def wipe(valkey: EmbeddedValkey) -> None:
    """Start it empty."""
    valkey.kill()
    valkey.start()


async def test_a_wiped_ledger_that_agreed_on_another_routers_secret(breakable_valkey: EmbeddedValkey, photo: bytes) -> None:
    """A router that never knew the old secret comes first. Workers of the others get new keys with their next heartbeat."""
    region = fresh_region()
    async with open_stand(settings_of(region, breakable_valkey.url)) as old:
        at_old = await old.worker("gpu-1", slots=2)
        assert (await old.client.run(photo=photo)).worker == "gpu-1"
        assert at_old.attached is not None
        epoch, key = at_old.epoch, at_old.attached.grant_key
        at_old.heartbeats = False
        wipe(breakable_valkey)
        async with open_stand(settings_of(region, breakable_valkey.url)) as new:
            with pytest.raises(ModelUnavailable):
                await new.client.run(photo=photo)
            at_new = await new.worker("gpu-2", slots=2)
            at_old.heartbeats = True
            await at_old.until(lambda each: each.epoch > epoch, "it registers again through a heartbeat")
            assert at_old.attached.grant_key != key, "the new router's secret was agreed on"

            for stand in (old, new):

                async def served(stand: Stand = stand) -> bool:
                    return (await stand.client.regions()).regions[0].slots == 4 and bool(await stand.client.run(photo=photo))

                await eventually(served, "service resumes")
                together = await asyncio.gather(*(stand.client.run(photo=photo, timeout_s=20) for _ in range(4)))
                assert {finished.worker for finished in together} == {"gpu-1", "gpu-2"}
            assert (at_old.forged, at_new.forged) == ([], [])
            for stand in (old, new):
                for failure in ("WORKER_REFUSED", "WORKER_LOST"):
                    assert stand.metric("homeward_worker_failures_total", failure=failure) == 0


async def test_a_wiped_ledger_keeps_the_secret_though_a_new_router_is_asked_first(
    breakable_valkey: EmbeddedValkey, photo: bytes
) -> None:
    """To ask is not to propose: the secret that workers hold keys of wins, as no other was needed before."""
    region = fresh_region()
    async with open_stand(settings_of(region, breakable_valkey.url)) as old:
        worker = await old.worker(slots=2)
        assert worker.attached is not None
        epoch, key = worker.epoch, worker.attached.grant_key
        worker.heartbeats = False
        wipe(breakable_valkey)
        async with open_stand(settings_of(region, breakable_valkey.url)) as new:
            with pytest.raises(ModelUnavailable):
                await new.client.run(photo=photo)
            worker.heartbeats = True
            await worker.until(lambda each: each.epoch > epoch, "it registers again through a heartbeat")
            assert worker.attached.grant_key == key

            for stand in (old, new):

                async def served(stand: Stand = stand) -> bool:
                    return bool(await stand.client.run(photo=photo))

                await eventually(served, "service resumes")
            assert worker.forged == []


async def test_background_work_that_breaks_starts_again(
    valkey: EmbeddedValkey, stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.server.RESTART_S", 0.02)
    await stand.worker("gpu-1")
    name = "homeward_background_failures_total"
    assert stand.metric(name) == 0
    async with Redis.from_url(valkey.url) as store:
        # Somebody's hand in the store: reading the pools is an error of the script, which nobody expects.
        groups = f"homeward:{{{stand.region}}}:groups"
        kept = await store.smembers(groups)
        await store.delete(groups)
        await store.set(groups, "no set")
        await eventually(lambda: stand.metric(name) >= 2, "it broke, was started again, and broke again")
        await store.delete(groups)
        await store.sadd(groups, *kept)
    await stand.worker("gpu-2")

    async def read() -> bool:
        return await stand.slots() == 2

    await eventually(read, "home's figures are read again")
    now_us = stand.router.around.clock.now_us()
    await eventually(lambda: (stand.router.board.regions[0].as_of_us or 0) > now_us, "and again")
    broken = stand.metric(name)
    later_us = stand.router.around.clock.now_us()
    await eventually(lambda: (stand.router.board.regions[0].as_of_us or 0) > later_us, "and again")
    assert stand.metric(name) == broken


async def test_a_drain_finishes_what_runs_and_refuses_the_rest(stand: Stand, photo: bytes) -> None:
    worker = await stand.worker(slots=2)
    worker.hold()
    running = asyncio.create_task(stand.client.run(photo=photo))
    await worker.until(lambda each: len(each.running) == 1, "the job starts")
    health = health_pb2_grpc.HealthStub(await stand.channel())
    serving, not_serving = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
    for service in ("", *SERVICES):
        assert (await health.Check(health_pb2.HealthCheckRequest(service=service))).status == serving

    draining = asyncio.create_task(stand.router.drain())

    async def refuses() -> bool:
        return (await health.Check(health_pb2.HealthCheckRequest(service=SERVICES[0]))).status == not_serving

    await eventually(refuses, "the health service says so")
    assert (await health.Check(health_pb2.HealthCheckRequest())).status == not_serving
    with pytest.raises(RouterUnavailable) as refused:
        await stand.client.run(photo=photo)
    assert refused.value.outcome is Outcome.DRAINING
    assert refused.value.work_began is False
    assert refused.value.retry_after_s is not None
    assert not draining.done(), "it waits for the running request"
    worker.go()
    assert (await running).output == OUTPUT
    await asyncio.wait_for(draining, PATIENCE_S)
    await stand.all_free()


async def test_a_drain_does_not_wait_for_ever(valkey: EmbeddedValkey, photo: bytes) -> None:
    async with open_stand(settings_of(fresh_region(), valkey.url, drain_s=0.2)) as stand:
        worker = await stand.worker()
        worker.hold()
        running = asyncio.create_task(stand.client.run(photo=photo))
        await worker.until(lambda each: len(each.running) == 1, "the job starts")
        await asyncio.wait_for(stand.router.drain(), PATIENCE_S)
        await asyncio.wait_for(stand.router.stop(), PATIENCE_S)
        with pytest.raises(HomewardError):
            await running
        await eventually(lambda: not worker.running, "the worker hears of it")


def start_draw(request_id: str) -> float:
    """The draw that decides about this request's start delay in its first attempt."""
    return draw(0, request_key(request_id), 1, EventKind.GRANTED)


async def test_a_stopped_router_gives_back_what_it_held(valkey: EmbeddedValkey, photo: bytes) -> None:
    """Stopped during a start delay: the slot is claimed, no worker has it."""
    region = fresh_region()
    policy = {"start_delay": {"share_max": 1.0, "spread_max_s": 60.0, "pressure_from": 0.0}}
    async with open_stand(settings_of(region, valkey.url)) as other:
        async with open_stand(settings_of(region, valkey.url, policy=policy)) as stopped:
            worker = await stopped.worker(slots=8)
            worker.hold()
            # Draws in a range that the share covers from the second busy slot on: all but the first job start seconds later.
            lucky = (name for name in map("request-{}".format, range(10_000)) if 0.05 < start_draw(name) < 0.1)
            running = [
                asyncio.create_task(stopped.client.run(photo=photo, request_id=name, timeout_s=300)) for name in islice(lucky, 6)
            ]

            async def claimed() -> bool:
                return await other.busy() == 6

            await eventually(claimed, "every request has a slot")
            assert len(worker.running) < 6, "some are delayed"
            await stopped.router.stop()
            endings = await asyncio.gather(*running, return_exceptions=True)
            assert all(isinstance(ending, HomewardError) for ending in endings), endings
        await other.all_free()


async def test_stopping_tells_the_ledger_that_the_workers_lost_their_stream(valkey: EmbeddedValkey) -> None:
    region = fresh_region()
    async with open_stand(settings_of(region, valkey.url)) as other, open_stand(settings_of(region, valkey.url)) as stopped:
        await stopped.worker()
        await stopped.router.stop()
        assert [worker.state for worker in (await other.client.workers()).workers] == ["detached"]


async def test_reflection_lists_the_services(stand: Stand) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(await stand.channel())
    call = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
    answer = await call.read()
    listed = {service.name for service in answer.list_services_response.service}
    assert listed >= {*SERVICES, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}
    assert "homeward.v1.Generation" in listed


async def test_every_metric_is_scraped_and_named_as_prometheus_wants(valkey: EmbeddedValkey, photo: bytes) -> None:
    port = free_ports(1)[0]
    async with open_stand(settings_of(fresh_region(), valkey.url, metrics_listen=("127.0.0.1", port))) as stand:
        await stand.worker()
        await stand.client.run(photo=photo)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /metrics HTTP/1.0\r\n\r\n")
        scraped = (await reader.read()).decode()
        writer.close()
        await writer.wait_closed()
        assert scraped.startswith("HTTP/1.0 200")
        registered = {metric.name for metric in stand.router.metrics.registry.collect()}
        parsed = text_string_to_metric_families(scraped.partition("\r\n\r\n")[2])
        families = {family.name: family for family in parsed if not family.name.endswith("_created")}
        assert registered == set(families)
        for name, family in families.items():
            assert name.startswith("homeward_"), name
            assert family.documentation.endswith("."), name
            assert not name.endswith(("_ms", "_us", "_count", "_sum", "_bucket")), f"{name}: base units, no reserved suffix"
            if family.type == "counter":
                assert all(sample.name.endswith(("_total", "_created")) for sample in family.samples), name
            else:
                assert not name.endswith("_total"), name
            if family.type == "histogram":
                assert name.endswith("_seconds"), name
        assert families["homeward_router_info"].samples[0].labels == {"region": stand.region}
        labels = {label for family in families.values() for sample in family.samples for label in sample.labels}
        assert labels <= {"region", "ring", "model", "outcome", "refusal", "reason", "answer", "failure", "pool", "act", "le"}
    # The port is free again: a router that was stopped in a process that lives on leaves nothing behind.
    with pytest.raises(OSError, match=r"Connect call failed|refused"):
        await asyncio.open_connection("127.0.0.1", port)


async def test_two_routers_in_one_process_have_their_own_metrics(valkey: EmbeddedValkey, photo: bytes) -> None:
    async with (
        open_stand(settings_of(fresh_region(), valkey.url)) as one,
        open_stand(settings_of(fresh_region(), valkey.url)) as two,
    ):
        await one.worker()
        await one.client.run(photo=photo)
        assert one.metric("homeward_requests_total", model="animate", outcome="OK") == 1
        assert two.metric("homeward_requests_total", model="animate", outcome="OK") == 0
        assert b"homeward_requests_total" in generate_latest(one.router.metrics.registry)


async def test_a_taken_port(stand: Stand, valkey: EmbeddedValkey) -> None:
    second = Router(settings_of(fresh_region(), valkey.url, listen=stand.router.address))
    with pytest.raises(StartError, match="cannot listen on"):
        await second.start()
    await second.stop()


async def test_a_taken_metrics_port(stand: Stand, valkey: EmbeddedValkey) -> None:
    port = int(stand.router.address.rpartition(":")[2])
    second = Router(settings_of(fresh_region(), valkey.url, metrics_listen=("127.0.0.1", port)))
    with pytest.raises(StartError, match="metrics"):
        await second.start()
    await second.stop()


async def test_no_ledger_at_the_start() -> None:
    router = Router(settings_of(fresh_region(), f"redis://127.0.0.1:{free_ports(1)[0]}/0"))
    with pytest.raises(StartError, match="slot ledger cannot be used"):
        await router.start()
    await router.stop()


async def test_a_stranger_calls_an_unknown_method(stand: Stand) -> None:
    channel = await stand.channel()
    with pytest.raises(grpc.aio.AioRpcError) as unknown:
        await channel.unary_unary("/homeward.v1.Generation/Nothing")(b"", timeout=10)
    assert unknown.value.code() is grpc.StatusCode.UNIMPLEMENTED
