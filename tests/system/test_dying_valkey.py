"""The slot ledger's server killed, and started again with nothing in it."""

import asyncio

from homeward import AsyncClient, Client, NoCapacity, RouterUnavailable

from .command_line import CommandLine
from .patience import until, until_async
from .photos import LARGE_PX, photo
from .running_fleet import FREE_S_MAX, RunningFleet
from .sending import Sent, follow, send

BACK_S_MAX = 15.0


def serves_at_home(fleet: RunningFleet) -> bool:
    """Whether a request of us-east is served there. A rebuilt ledger grants nothing until its workers have reported."""
    with Client(fleet.router("us-east")) as client:
        finished = client.run(photo=photo(), motion="zoom", timeout_s=30)
    return (finished.served_region, finished.attempts) == ("us-east", 1)


async def test_a_valkey_killed_and_restarted_empty(fleet: RunningFleet, homeward: CommandLine) -> None:
    epoch = await asyncio.to_thread(fleet.metric, "us-east", "homeward_ledger_epoch")
    running = Sent("runs-through-it")
    async with AsyncClient(fleet.router("us-east")) as client:
        job = asyncio.create_task(
            follow(running, client, photo=photo(LARGE_PX), motion="zoom", request_id=running.request_id, timeout_s=60.0)
        )
        await until_async(lambda: running.is_running or job.done(), "the job runs")
        fleet.kill("valkey-us-east")
        rows = await asyncio.gather(*(send(client, photo=photo(), motion="zoom", seed=seed) for seed in range(3)))
        await job
    assert running.finished is not None, f"a running job needs no ledger: {running.error!r}"
    assert (running.finished.served_region, running.finished.attempts) == ("us-east", 1)
    for row in rows:
        if row.finished is None:
            assert isinstance(row.error, RouterUnavailable | NoCapacity)
            assert row.error.retry_after_s is not None
        else:
            assert row.finished.served_region == "eu-west"
    assert any(row.finished is not None for row in rows), [row.error for row in rows]
    spilled = next(row for row in rows if row.finished is not None)
    story = (await asyncio.to_thread(homeward, "explain", spilled.request_id, "--json")).document["decisions"]
    assert "HOME_FAILED" in {decision["reason"] for decision in story}
    seen = (await asyncio.to_thread(homeward, "regions", "--json")).document["regions"][0]
    assert (seen["region"], seen["usable"], seen["trouble"]) == ("us-east", False, "its slot ledger cannot be reached")
    async with AsyncClient(fleet.router("eu-west")) as neighbour:
        done = await send(neighbour, photo=photo(), motion="zoom")
    assert done.finished is not None, done.error
    assert done.finished.served_region == "eu-west"

    await asyncio.to_thread(fleet.restart_valkey, "us-east")
    await asyncio.to_thread(until, fleet.all_free, "the region has its workers back and every slot is free", BACK_S_MAX)
    await asyncio.to_thread(until, lambda: serves_at_home(fleet), "it grants again", BACK_S_MAX)
    assert await asyncio.to_thread(fleet.metric, "us-east", "homeward_ledger_epoch") > epoch
    await asyncio.to_thread(until, fleet.all_free, "every slot is free again", FREE_S_MAX)
