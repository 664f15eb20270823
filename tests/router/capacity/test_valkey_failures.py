"""The real ledger against real servers: dead, hung, full, denying, replicas, busy, and with lost writes."""

import asyncio
import os
import signal
import threading
import time
from dataclasses import replace
from typing import Any

import pytest
import redis

from localfleet.valkey import EmbeddedValkey
from router.capacity import scripts
from router.capacity.keyspace import Key, meta_key, region_prefix
from router.capacity.ledger import (
    LedgerMisconfigured,
    LedgerTimings,
    LedgerUnavailable,
    Refused,
    Reserved,
)
from router.capacity.valkey_ledger import ValkeyLedger
from router.policy.vocabulary import Refusal
from tests.router.capacity.stands import AT_ONCE, PATIENT_US, clocked_stand, opened, request, until, worker


async def test_a_store_that_died_is_reported_fast_and_rebuilt(own_server: EmbeddedValkey, region: str) -> None:
    timings = LedgerTimings(rebuild_us=100_000, call_timeout_us=PATIENT_US)
    async with opened(own_server.url, region, timings) as ledger:
        before = await ledger.register(worker("w", 2, running=("running",)))
        await until(lambda: _granted(ledger, "starting"))
        own_server.kill()
        started = time.monotonic()
        for _ in range(3):
            with pytest.raises(LedgerUnavailable):
                await ledger.reserve(request("r"))
        assert time.monotonic() - started < 2.0
        with EmbeddedValkey(port=own_server.port):
            seen = await ledger.heartbeat("w", "1", ("running",), {})
            assert (seen.known, seen.superseded) == (False, False)
            assert seen.epoch > before.epoch
            assert (await ledger.register(worker("w", 2, running=("running",)))).epoch == seen.epoch
            await until(lambda: _granted(ledger, "next"))
            full = await ledger.reserve(request("another"))
            assert isinstance(full, Refused)
            assert (full.reason, full.slots, full.busy) == (Refusal.FULL, 2, 2)


async def _granted(ledger: ValkeyLedger, id_: str) -> bool:
    answer = await ledger.reserve(request(id_))
    if isinstance(answer, Refused):
        assert answer.reason is Refusal.REBUILDING
        assert 0 < answer.eta_us <= 100_000
    return isinstance(answer, Reserved)


async def test_a_store_that_hangs_is_unavailable_in_time(own_server: EmbeddedValkey, region: str) -> None:
    async with opened(own_server.url, region, replace(AT_ONCE, call_timeout_us=200_000)) as ledger:
        await ledger.register(worker("w", 100))
        os.kill(own_server.pid, signal.SIGSTOP)
        try:
            started = time.monotonic()
            hanging = [ledger.reserve(request(f"r{n}")) for n in range(scripts.CONNECTIONS_MAX + 10)]
            answers = await asyncio.gather(*hanging, return_exceptions=True)
            assert time.monotonic() - started < 2.0
            assert {type(answer) for answer in answers} == {LedgerUnavailable}
            assert all(isinstance(answer, LedgerUnavailable) and answer.__cause__ for answer in answers)
        finally:
            os.kill(own_server.pid, signal.SIGCONT)

        async def answers_again() -> bool:
            try:
                return isinstance(await ledger.reserve(request("r0")), Reserved)
            except LedgerUnavailable:
                return False

        await until(answers_again)


async def test_nobody_listens(region: str) -> None:
    ledger = ValkeyLedger("redis://127.0.0.1:1/0", region)
    with pytest.raises(LedgerUnavailable, match=r"127\.0\.0\.1:1"):
        await ledger.open()
    with pytest.raises(LedgerUnavailable):
        await ledger.release("r")
    await ledger.close()


async def test_a_full_store_refuses_claims_and_frees_slots(own_server: EmbeddedValkey, region: str) -> None:
    async with opened(own_server.url, region) as ledger:
        await ledger.register(worker("w", 4))
        for id_ in "abc":
            await ledger.reserve(request(id_))
        await ledger.claim_request("q", "d", 60_000_000, 0.1, 1.0)
        with redis.Redis.from_url(own_server.url) as client:
            client.set("filler", b"x" * 4_000_000)
            client.config_set("maxmemory", "1mb")
            with pytest.raises(LedgerUnavailable):
                await ledger.reserve(request("d"))
            with pytest.raises(LedgerUnavailable):
                await ledger.register(worker("v"))
            with pytest.raises(LedgerUnavailable):
                await ledger.claim_request("p", "d", 60_000_000, 0.1, 1.0)
            assert (await ledger.heartbeat("w", "1", ("a", "b"), {"fast": 3_000_000})).known
            await ledger.settle_request("q", "d", succeeded=True)
            assert await ledger.release("a")
            assert await ledger.sweep(10) == 0
            assert [(pool.slots, pool.busy) for pool in await ledger.pools()] == [(4, 2)]
            assert await ledger.drain("w", "1")
            assert await ledger.release("b")
            assert [status.reservations for status in await ledger.workers()] == [("c",)]
            client.config_set("maxmemory", "0")
        await ledger.register(worker("w", 4))
        assert isinstance(await ledger.reserve(request("d")), Reserved)
        assert [(pool.slots, pool.busy) for pool in await ledger.pools()] == [(4, 2)]


async def test_expiry_works_in_a_full_store(own_server: EmbeddedValkey, region: str) -> None:
    stand = clocked_stand(own_server.url, AT_ONCE, region)
    await stand.ledger.register(worker("w", 4))
    await stand.ledger.reserve(request("r"))
    await stand.advance(AT_ONCE.lease_us)
    with redis.Redis.from_url(own_server.url) as client:
        client.set("filler", b"x" * 4_000_000)
        client.config_set("maxmemory", "1mb")
    assert await stand.ledger.sweep(10) == 1
    assert await stand.ledger.pools() == ()
    await stand.ledger.close()


async def test_an_evicting_store_is_refused(own_server: EmbeddedValkey, region: str) -> None:
    with redis.Redis.from_url(own_server.url) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        async with opened(own_server.url, region):
            pass  # without a limit nothing is evicted
        client.config_set("maxmemory", "100mb")
        ledger = ValkeyLedger(own_server.url, region, AT_ONCE)
        with pytest.raises(LedgerMisconfigured, match="CONFIG SET maxmemory-policy noeviction"):
            await ledger.open()
        await ledger.close()
        client.config_set("maxmemory-policy", "noeviction")
        async with opened(own_server.url, region):
            pass


async def test_a_store_may_deny_its_settings_but_not_its_scripts(own_server: EmbeddedValkey, region: str) -> None:
    with redis.Redis.from_url(own_server.url) as client:
        client.execute_command("ACL", "SETUSER", "router", "on", ">secret", "~*", "&*", "+@all", "-config")
        client.execute_command("ACL", "SETUSER", "reader", "on", ">secret", "~*", "+@read", "+@connection")
    port = own_server.port
    async with opened(f"redis://router:secret@127.0.0.1:{port}/0", region) as ledger:
        assert await ledger.pools() == ()
    for user in ("reader:secret", "router:wrong"):
        ledger = ValkeyLedger(f"redis://{user}@127.0.0.1:{port}/0", region, AT_ONCE)
        with pytest.raises(LedgerUnavailable):
            await ledger.open()
        await ledger.close()


async def test_a_replica_is_unavailable(own_server: EmbeddedValkey, region: str) -> None:
    async with opened(own_server.url, region) as ledger:
        with redis.Redis.from_url(own_server.url) as client:
            client.execute_command("REPLICAOF", "127.0.0.1", "1")
            for act in (ledger.reserve(request("r")), ledger.release("r"), ledger.heartbeat("w", "1", (), {})):
                with pytest.raises(LedgerUnavailable):
                    await act
            client.execute_command("REPLICAOF", "NO", "ONE")
        assert not await ledger.release("r")


async def test_a_store_busy_with_a_script_is_unavailable(own_server: EmbeddedValkey, region: str) -> None:
    def spin() -> None:
        with redis.Redis.from_url(own_server.url) as other, pytest.raises(redis.ResponseError):
            other.eval("while true do end", 0)

    async with opened(own_server.url, region) as ledger:
        with redis.Redis.from_url(own_server.url) as client:
            client.config_set("lua-time-limit", 50)
            spinning = threading.Thread(target=spin)
            spinning.start()
            try:

                async def busy() -> bool:
                    try:
                        await ledger.release("r")
                    except LedgerUnavailable as error:
                        return "BUSY" in str(error)
                    return False

                await until(busy)
            finally:
                client.script_kill()
                spinning.join()


async def test_lost_writes_are_noticed(url: str, region: str) -> None:
    """A replica that lags is promoted: the store is back at an older state, and a router knows a higher fence."""
    stand = clocked_stand(url, LedgerTimings(call_timeout_us=PATIENT_US), region)
    ledger = stand.ledger
    epoch = await ledger.open()
    await stand.advance(1_500_000)
    await ledger.register(worker("w", 2))
    with redis.Redis.from_url(url) as client:
        old: Any = client.hget(meta_key(region), "fence")
        first = await ledger.reserve(request("lost"))
        assert isinstance(first, Reserved)
        client.delete(region_prefix(region) + Key.RESERVATION.value + "lost")  # the rest stays, to see that it heals
        client.hset(meta_key(region), "fence", old)
    seen = await ledger.heartbeat("w", "1", ("lost",), {})
    assert (seen.known, seen.superseded, seen.epoch) == (False, False, epoch + 1)
    held = await ledger.reserve(request("r"))
    assert isinstance(held, Refused)
    assert (held.reason, held.eta_us) == (Refusal.REBUILDING, 1_500_000)
    await ledger.register(worker("w", 2, running=("lost",)))
    assert (await ledger.heartbeat("w", "1", ("lost",), {})).known
    await stand.advance(1_500_000)
    second = await ledger.reserve(request("r"))
    assert isinstance(second, Reserved)
    assert (second.epoch, second.busy) == (epoch + 1, 2)
    assert second.fence > first.fence
    await ledger.close()
