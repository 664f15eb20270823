"""The real ledger against real servers: their clock, several clients at once, and large fleets."""

import asyncio
import re
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis

from localfleet.valkey import EmbeddedValkey
from router.capacity import scripts
from router.capacity.keyspace import group_name, meta_key, pool_name
from router.capacity.ledger import (
    Refused,
    Reserved,
)
from router.capacity.valkey_ledger import ValkeyLedger
from router.policy.vocabulary import Refusal
from tests.router.capacity.stands import AT_ONCE, OFFER, clocked_stand, opened, request, until, worker


async def test_leases_and_reservations_expire_by_the_servers_clock(url: str, region: str) -> None:
    timings = replace(AT_ONCE, lease_us=60_000_000, reservation_us=80_000)
    async with opened(url, region, timings) as ledger:
        await ledger.register(worker("w"))
        started = time.monotonic()
        assert isinstance(await ledger.reserve(request("first")), Reserved)

        async def freed() -> bool:
            return isinstance(await ledger.reserve(request("second")), Reserved)

        await until(freed)
        assert time.monotonic() - started >= 0.08
        assert not await ledger.release("first")
    async with opened(url, region + "-lease", replace(AT_ONCE, lease_us=80_000)) as ledger:
        await ledger.register(worker("w"))

        async def swept() -> bool:
            return await ledger.sweep(10) == 1

        await until(swept)
        assert await ledger.workers() == ()


async def test_concurrent_claims_never_share_a_slot(url: str, region: str) -> None:
    clients = [ValkeyLedger(url, region, AT_ONCE) for _ in range(4)]
    for number in range(10):
        await clients[0].register(worker(f"w{number}", 5))
    answers = await asyncio.gather(*(clients[n % 4].reserve(request(f"r{n}")) for n in range(200)))
    grants = [answer for answer in answers if isinstance(answer, Reserved)]
    assert len(grants) == 50
    assert len({grant.fence for grant in grants}) == 50
    assert {sum(grant.worker == f"w{n}" for grant in grants) for n in range(10)} == {5}
    refusals = [answer for answer in answers if isinstance(answer, Refused)]
    assert {(answer.reason, answer.slots, answer.busy) for answer in refusals} == {(Refusal.FULL, 50, 50)}
    released = await asyncio.gather(
        *(client.release(grant.reservation_id) for grant in grants for client in clients)
    )
    assert sum(released) == 50
    assert [(pool.slots, pool.busy) for pool in await clients[1].pools()] == [(50, 0)]
    for client in clients:
        await client.close()


async def test_a_cancelled_claim_can_be_released(url: str, region: str) -> None:
    """The server may or may not have executed it. Whoever cancels releases, and nothing stays taken or gets mixed up."""
    async with opened(url, region) as ledger:
        await ledger.register(worker("w", 40))
        crowd = [asyncio.ensure_future(ledger.reserve(request(f"c{n}"))) for n in range(4 * scripts.CONNECTIONS_MAX)]
        for claim in crowd[::-1]:
            await asyncio.sleep(0)
            claim.cancel()
        await asyncio.gather(*crowd, return_exceptions=True)
        await asyncio.gather(*(ledger.release(f"c{n}") for n in range(len(crowd))))
        for turn in range(40):
            claim = asyncio.ensure_future(ledger.reserve(request(f"r{turn}")))
            for _ in range(turn % 20):
                await asyncio.sleep(0)
            claim.cancel()
            answer = (await asyncio.gather(claim, return_exceptions=True))[0]
            assert isinstance(answer, Reserved | asyncio.CancelledError)
        for turn in range(40):
            await ledger.release(f"r{turn}")
        assert [(pool.slots, pool.busy) for pool in await ledger.pools()] == [(40, 0)]
        last = await ledger.reserve(request("last"))
        assert isinstance(last, Reserved)
        assert last.reservation_id == "last"


async def test_scripts_are_sent_again_when_the_server_forgot_them(own_server: EmbeddedValkey, region: str) -> None:
    async with opened(own_server.url, region) as ledger:
        await ledger.register(worker("w", 2))
        with redis.Redis.from_url(own_server.url) as client:
            client.script_flush()
        answers = await asyncio.gather(*(ledger.reserve(request(str(n))) for n in range(4)))
        assert sum(isinstance(answer, Reserved) for answer in answers) == 2


async def test_many_deaths_at_once_are_cleared_in_bounded_steps(url: str, region: str) -> None:
    stand = clocked_stand(url, AT_ONCE, region)
    ledger = stand.ledger
    for number in range(300):
        await ledger.register(worker(f"dead-{number:03d}"))
    await stand.advance(AT_ONCE.lease_us // 2)
    await ledger.register(worker("alive"))
    assert len(await ledger.workers()) == 301
    await stand.advance(AT_ONCE.lease_us // 2)
    # Each call expires 64 of them, and gives up when it has met 64 more on the way to a live one.
    for left in (236, 172, 108):
        answer = await ledger.reserve(request("r"))
        assert answer == Refused(Refusal.FULL, 1_000, left + 1, 0)
    again = await ledger.register(worker("dead-299", incarnation="2", running=("mine",)))
    assert again.superseded is None  # dead is dead, swept or not
    assert not (await ledger.heartbeat("dead-298", "1", (), {})).known
    granted = await ledger.reserve(request("r"))
    assert isinstance(granted, Reserved)
    assert granted.worker == "alive"
    await ledger.release("mine")
    await ledger.detach("dead-299", "2", gone=True)
    assert [(pool.slots, pool.busy, pool.workers) for pool in await ledger.pools()] == [(1, 1, 1)]
    await ledger.close()


async def test_a_claim_costs_the_same_in_a_large_pool(own_server: EmbeddedValkey, region: str) -> None:
    """Counted in commands that the scripts ran, which no other load on the machine can change."""
    with redis.Redis.from_url(own_server.url) as client:

        def commands() -> int:
            rows: Any = client.info("commandstats")
            return sum(row["calls"] for name, row in rows.items() if name not in ("cmdstat_info", "cmdstat_evalsha"))

        async def cost(ledger: ValkeyLedger, id_: str) -> int:
            before = commands()
            assert isinstance(await ledger.reserve(request(id_)), Reserved)
            await ledger.release(id_)
            return commands() - before

        async with opened(own_server.url, region) as ledger:
            await ledger.register(worker("first", 4))
            await cost(ledger, "warm-up")
            alone = await cost(ledger, "r")
            for start in range(0, 1000, 50):
                await asyncio.gather(*(ledger.register(worker(f"w{start + n}", 4)) for n in range(50)))
            assert await cost(ledger, "s") == alone
            assert alone < 50


def test_only_the_stores_own_errors_count_as_its_absence() -> None:
    for store in (
        redis.ConnectionError("gone"),
        redis.exceptions.BusyLoadingError("loading", status_code="LOADING"),
        redis.exceptions.OutOfMemoryError("command not allowed", status_code="OOM"),
        redis.ResponseError("BUSY Redis is busy running a script"),
        redis.ResponseError("Error running script (call to f_x): @user_script:1: -OOM command not allowed"),
    ):
        assert scripts.is_store_error(store), store
    for bug in (
        redis.ResponseError("user_script:12: Script attempted to access nonexistent global variable 'BUSY'"),
        redis.ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value"),
    ):
        assert not scripts.is_store_error(bug), bug


async def test_a_bug_in_a_script_is_not_hidden(url: str, region: str) -> None:
    with redis.Redis.from_url(url) as client:
        client.set(meta_key(region), "no hash")
    ledger = ValkeyLedger(url, region, AT_ONCE)
    with pytest.raises(redis.ResponseError):
        await ledger.pools()
    await ledger.close()


def test_every_script_says_what_it_takes_and_gives() -> None:
    folder = Path(scripts.__file__).parent
    acts = {path.stem for path in folder.glob("*.lua")} - {"clock", "act", "expire", "budget"}
    assert acts == set(scripts.PARTS)
    for act in acts:
        text = scripts.source(act)
        assert re.match(r"-- .+\n(--.*\n)*-- ARGV   .+\n(--.*\n)*-- Reply  \{epoch, fence", text), act
    for path in folder.glob("*.lua"):
        assert len(path.read_text().splitlines()) < 300
        assert max(map(len, path.read_text().splitlines())) <= 132, path


def test_names() -> None:
    assert pool_name(frozenset({"b", "a"})) == "a+b"
    assert pool_name(frozenset({"a+b"})) == "a%2Bb"
    assert group_name((OFFER,)) == group_name((replace(OFFER, service_us=1),))
    assert group_name((OFFER,)) != group_name((replace(OFFER, digest="sha256:bb"),))
    for name in ("", "a{b", "a}b"):
        with pytest.raises(ValueError, match="hash tag"):
            ValkeyLedger("redis://127.0.0.1:1/0", name)
